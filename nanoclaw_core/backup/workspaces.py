"""The folders that a container can write, read by way of a container: the host sees nothing but a stream of bytes."""

from __future__ import annotations

import json
import secrets
import tarfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from anyio import from_thread, to_thread

from nanoclaw_core.backup import packer
from nanoclaw_core.backup.packer import LEFT_OUT, LeftOut
from nanoclaw_core.backup.reader import member_of, next_member, open_members, pieces_of
from nanoclaw_core.backup.writer import Writer
from nanoclaw_core.errors import ContainerFailed
from nanoclaw_core.models import ContainerSpec, Limits, Mount
from nanoclaw_core.ports import ReadingRuntime
from nanoclaw_core.sandbox.spec import worker_user

#: The label of the containers that read for a backup. It is not that of workers, which a host would clear away.
BACKUP_LABEL: Final = "nanoclaw.backup"
AT_ONCE: Final = 50  # folders in one container
_LIMITS: Final = Limits(memory=512 * 1024**2, cpus=2.0, pids=16, tmp=1024**2)
_LARGEST_LIST: Final = 8 * 1024**2


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspaces:
    """How the folders are read: in containers of `image`, as the user of this installation's workers."""

    runtime: ReadingRuntime
    image: str

    async def tidy(self, installation: str) -> None:
        """Remove the containers of backups that were killed."""
        for container in await self.runtime.containers({BACKUP_LABEL: installation}):
            if not container.running:
                await self.runtime.remove(container.id)

    async def add(self, writer: Writer, home: Path, folders: Sequence[str], installation: str) -> LeftOut:
        """Add these folders, named as in the home; return what was left out.

        Raises:
            ContainerFailed, RuntimeUnavailable: they could not be read to the end.
        """
        spec = _spec(self.image, [home / name for name in folders], installation)
        async with self.runtime.read(spec) as pieces:
            return await to_thread.run_sync(_take, writer, folders, _Pipe(spec.name, pieces))


def _spec(image: str, folders: Sequence[Path], installation: str) -> ContainerSpec:
    mounts = tuple(Mount(source=folder, target=f"/backup/{number}") for number, folder in enumerate(folders))
    program = ("/usr/bin/python3", "-I", "-c", Path(packer.__file__).read_text(encoding="utf-8"))
    return ContainerSpec(
        name=f"nanoclaw-backup-{secrets.token_hex(6)}",
        image=image,
        argv=(*program, *(mount.target for mount in mounts)),
        user=worker_user(installation),
        mounts=mounts,
        environment={"LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"},
        labels={BACKUP_LABEL: installation},
        limits=_LIMITS,
    )


class _Pipe:
    """What comes from the container, for a thread that reads it as a file."""

    def __init__(self, container: str, pieces: AsyncIterator[bytes]) -> None:
        self._container = container
        self._pieces = pieces
        self._rest = b""

    def read(self, count: int, /) -> bytes:
        while len(self._rest) < count and (piece := from_thread.run(self._next)):
            self._rest += piece
        data, self._rest = self._rest[:count], self._rest[count:]
        return data

    async def _next(self) -> bytes:
        return await anext(self._pieces, b"")

    def refuse(self, reason: str) -> ContainerFailed:
        return ContainerFailed(self._container, f"what it read for the backup is not to be believed: {reason}")


def _take(writer: Writer, folders: Sequence[str], pipe: _Pipe) -> LeftOut:
    """Add what comes out of the container, each member checked like one of a stranger's file; runs in a thread."""
    try:
        tar = open_members(pipe)
        while (entry := next_member(tar)) is not None and entry.name != LEFT_OUT:
            member = member_of(entry, _name_in_home(entry.name, folders))
            writer.add(member, pieces_of(tar, member))
        if entry is None or entry.size > _LARGEST_LIST or (file := tar.extractfile(entry)) is None:
            raise pipe.refuse("its end is missing")
        left_out = [(_name_in_home(str(name), folders), str(reason)) for name, reason in json.loads(file.read())]
        while pipe.read(packer.CHUNK):  # what follows the end of a tar; at its own end, the container tells its exit code
            pass
    except (tarfile.TarError, ValueError, TypeError) as error:
        raise pipe.refuse(str(error)) from error
    return left_out


def _name_in_home(name: str, folders: Sequence[str]) -> str:
    number, _, rest = name.partition("/")
    if not number.isascii() or not number.isdecimal() or int(number) >= len(folders):
        raise ValueError(f"{name!r} is in none of the folders")
    return f"{folders[int(number)]}/{rest}" if rest else folders[int(number)]


def workspaces_of(home: Path, sessions: Sequence[str]) -> list[str]:
    """The folders of agents, and those of the sessions' states, as far as they are there and are folders."""
    groups = sorted((home / "groups").iterdir()) if (home / "groups").is_dir() else []
    names = [*(f"groups/{path.name}" for path in groups), *(f"{session}/state" for session in sessions)]
    return [name for name in names if (home / name).is_dir() and not (home / name).is_symlink()]
