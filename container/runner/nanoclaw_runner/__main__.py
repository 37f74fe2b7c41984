"""The entry point of a worker container: take the launch document, hide, and work."""

from __future__ import annotations

import logging
import os
import sys

from nanoclaw_runner.launch import LaunchRefused, MountExchanged, check_mounts, read_launch


def main() -> int:
    """Run one worker. Exit codes: 0 the host ended it, 1 it broke, 2 the launch document is no good, 77 a mount is another."""
    try:
        launch = read_launch(0)
    except LaunchRefused as refusal:
        sys.stderr.write(f"nanoclaw-runner: the launch document cannot be used: {refusal}\n")
        return 2
    try:
        check_mounts(launch.mounts)
    except MountExchanged as exchanged:
        sys.stderr.write(f"nanoclaw-runner: {exchanged}\n")
        return 77
    _close_standard_input()
    _hide_memory()
    os.umask(0o077)
    logging.basicConfig(format="%(name)s: %(message)s")

    import anyio  # only now: a bad document is refused at once

    from nanoclaw_runner.worker import work

    return anyio.run(work, launch, backend="asyncio")


def _close_standard_input() -> None:
    """What runs later in this container inherits an empty standard input, not the pipe that carried the secret."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)


def _hide_memory() -> None:
    """Forbid other processes of this user to read or trace this one (PR_SET_DUMPABLE, see prctl(2)).

    The agent's commands run under the same uid; without this they could read the link's secret out of /proc.
    """
    if sys.platform != "linux":
        return
    import ctypes

    if ctypes.CDLL(None).prctl(4, 0, 0, 0, 0) != 0:
        raise OSError("prctl(PR_SET_DUMPABLE) failed")


if __name__ == "__main__":
    sys.exit(main())
