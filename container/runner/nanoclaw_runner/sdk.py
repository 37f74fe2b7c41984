"""Imports the Claude Agent SDK without the MCP SDK behind it, which takes three quarters of a second and is not used here."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Final

STAND_INS: Final = Path(__file__).parent.parent / "stand_ins"


def import_sdk() -> None:
    """Import `claude_agent_sdk`, with the stand-ins for `mcp` and `jsonschema` where that works, else with the real ones.

    Raises:
        ImportError: neither works.
    """
    if not STAND_INS.is_dir() or "mcp" in sys.modules:
        import_module("claude_agent_sdk")
        return
    sys.path.insert(0, str(STAND_INS))
    try:
        import_module("claude_agent_sdk")
    except (ImportError, AttributeError, TypeError):  # a later SDK may want more of them than they have
        sys.path.remove(str(STAND_INS))
        for name in [name for name in sys.modules if name.partition(".")[0] in {"claude_agent_sdk", "jsonschema", "mcp"}]:
            del sys.modules[name]
        import_module("claude_agent_sdk")
