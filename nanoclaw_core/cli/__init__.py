"""The command line: `nanoclaw ...`. The commands are in `commands`; this module turns every way of ending into an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import click

from nanoclaw_core.cli.commands import nanoclaw
from nanoclaw_core.cli.text import one_line
from nanoclaw_core.errors import NanoClawError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; what goes wrong is one line on standard error."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that knows no UTF-8 shows '?', and nothing breaks
    try:
        code = nanoclaw.main(words, prog_name="nanoclaw", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except BaseException as error:
        return _end(_first(error), "--debug" in words)


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _end(error: BaseException, is_debug: bool) -> int:
    match error:
        case SystemExit():
            raise error
        case KeyboardInterrupt() | click.Abort():
            return 130
        case BrokenPipeError():
            # Whoever read our output has left. What Python still holds of it must not fail again at the end of the process.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        case click.exceptions.NoArgsIsHelpError():
            error.show()
            return error.exit_code
        case click.ClickException():
            return _complain(_usage(error), error.exit_code)
        case NanoClawError():
            if is_debug:
                traceback.print_exception(error)
            return _complain(str(error), error.exit_code)
    if is_debug:
        traceback.print_exception(error)
    advice = "" if is_debug else " (run again with --debug for the traceback)"
    return _complain(f"bug: {type(error).__name__}: {error}{advice}", 1)


def _usage(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    return error.format_message() + (f" See `{context.command_path} --help`." if context else "")


def _complain(text: str, code: int) -> int:
    click.echo(f"nanoclaw: {one_line(_without_secrets(text))}", err=True)
    return code


def _without_secrets(text: str) -> str:
    """`text` as it may be shown: the last words of a host stand in its log, and any library may have raised them."""
    from nanoclaw_core.mask import Mask
    from nanoclaw_core.settings import load, secrets_among

    try:
        secrets = load(os.environ, Path.cwd()).secrets()
    except (NanoClawError, OSError):
        secrets = secrets_among(os.environ)
    return Mask(secrets)(text)
