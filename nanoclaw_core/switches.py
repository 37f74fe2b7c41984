"""Which channels their owner has switched off: they stay installed and set up, and are not made at the next start."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from nanoclaw_core.errors import HomeUnusable
from nanoclaw_core.replacement import replace_file

_FILE: Final = "channels.json"
_ADVICE: Final = "delete it and `nanoclaw channel disable` what shall be off"


def switched_off(home: Path) -> set[str]:
    """The names of these channels; none while there is no `channels.json`.

    Raises:
        HomeUnusable: the file is there and says something else.
    """
    try:
        names = json.loads((home / _FILE).read_bytes())["disabled"]
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise TypeError('"disabled" is no list of names')
    except FileNotFoundError:
        return set()
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise HomeUnusable(home, f"its {_FILE} does not list channels ({type(error).__name__}): {_ADVICE}") from error
    return set(names)


def switch(home: Path, name: str, *, on: bool) -> bool:
    """Switch a channel on or off, from the next start on; False when it was so already.

    Raises:
        HomeUnusable: the file cannot be read or written.
    """
    off = switched_off(home)
    if (name not in off) == on:
        return False
    _write(home, off - {name} if on else off | {name})
    return True


def _write(home: Path, names: Iterable[str]) -> None:
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(home / _FILE, json.dumps({"disabled": sorted(names)}, indent=2).encode())
    except OSError as error:
        raise HomeUnusable(home, f"its {_FILE} cannot be written ({error.strerror})") from error
