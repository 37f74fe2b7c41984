"""Shows an answer in its chat while it is being written, where the channel can."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import anyio
from anyio import CancelScope

from nanoclaw_core.delivery.split import beginning
from nanoclaw_core.errors import OutcomeUnknown, TryLater
from nanoclaw_core.mailbox import Mailbox
from nanoclaw_core.models import Address, OutboundKind
from nanoclaw_core.ports import Channel, StreamingChannel
from nanoclaw_core.supervise import survive

_TIMEOUT: Final = 6.0  # seconds


class Previews:
    """The previews of all sessions. What is shown where stands in their mailboxes."""

    def __init__(self, channels: Mapping[str, Channel]) -> None:
        self._channels = channels

    def streams(self, to: Address) -> bool:
        """Whether the chat can show an answer that is being written."""
        return isinstance(self._channels.get(to.channel), StreamingChannel)

    async def show(self, mailbox: Mailbox, to: Address, text: str, key: str, shown: str) -> str:
        """Show `text` in place of `shown`, the preview before it with this `key`; return what is shown now.

        None is begun before what was said earlier has arrived. Whatever stands there is noted, so that the answer replaces it.

        Raises:
            TryLater: not this time. DeliveryError: there may be a preview that nobody knows of.
        """
        channel = self._channels.get(to.channel)
        if channel is None or not isinstance(channel, StreamingChannel):
            return shown
        able = channel.capabilities
        if (cut := beginning(text, able.max_length, able.length_unit)) == shown:
            return shown
        message_id = await mailbox.preview(to)
        if message_id is None and any(row.to == to and row.kind is not OutboundKind.SETTLED for row in await mailbox.due()):
            return shown
        drafted = await _draft(channel, to, cut, key, message_id)
        if drafted is not None and drafted != message_id:
            with CancelScope(shield=True):  # also when the host ends in this moment
                await mailbox.note_preview(to, drafted)
        return cut


async def take_away(channel: Channel, to: Address, message_id: str, key: str) -> None:
    """Take away the preview of an answer of which nothing has come.

    Raises:
        TryLater: it stands there still.
    """
    if isinstance(channel, StreamingChannel):
        await survive("preview", _draft(channel, to, "", key, message_id), passing=(TryLater,))


async def _draft(channel: StreamingChannel, to: Address, text: str, key: str, message_id: str | None) -> str | None:
    with anyio.move_on_after(_TIMEOUT):
        return await channel.draft(to, text, key, message_id)
    raise OutcomeUnknown(f"no answer within {_TIMEOUT:.0f} s")
