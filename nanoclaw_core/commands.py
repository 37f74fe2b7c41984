"""What people say to NanoClaw itself, in a chat, instead of to an agent."""

from __future__ import annotations

import re
from typing import Final

from nanoclaw_core.models import InboundKind, InboundMessage, Row

# In a group the agent's name comes first ('@Andy /stop'); Telegram adds the bot's to the command ('/stop@andy_bot').
_STOP: Final = re.compile(r"(?:@\S+[ \t]+)?/stop(?:@\w+)?", re.IGNORECASE)


_USAGE: Final = re.compile(r"(?:@\S+[ \t]+)?/usage(?:@\w+)?", re.IGNORECASE)


def asks_for_usage(message: InboundMessage) -> bool:
    """Whether somebody wrote `/usage`, which the host answers itself. A button's text never is that."""
    text = message.text if message.kind is InboundKind.MESSAGE and len(message.text) < 200 else ""
    return _USAGE.fullmatch(text.strip()) is not None


def calls_off(message: InboundMessage | Row) -> bool:
    """Whether somebody wrote that. What a button says is an agent's text, and never a command."""
    return message.kind in (InboundKind.MESSAGE, InboundKind.EDIT) and is_stop(message.text)


def is_stop(text: str) -> bool:
    """Whether `text` asks to stop what the agent does, and nothing else.

    >>> is_stop(" /stop "), is_stop("@Andy /stop"), is_stop("/stop it, please")
    (True, True, False)
    """
    return len(text) < 200 and _STOP.fullmatch(text.strip()) is not None
