"""Rows that change what was sent before: edits, and emoji under messages."""

from __future__ import annotations

from nanoclaw_core.delivery.split import split
from nanoclaw_core.errors import Refused
from nanoclaw_core.mailbox import Mailbox
from nanoclaw_core.models import OutboundKind, OutboundRow
from nanoclaw_core.ports import Channel, EditingChannel, ReactingChannel


async def change(channel: Channel, row: OutboundRow, mailbox: Mailbox) -> None:
    """Have the channel do what the row says.

    Raises:
        Refused: the channel cannot, or there is nothing to change.
    """
    if row.kind is OutboundKind.REACTION:
        if not isinstance(channel, ReactingChannel):
            raise Refused(f"the channel {row.to.channel} has no reactions")
        await channel.react(row.to, row.about or "", row.text)
        return
    if not isinstance(channel, EditingChannel):
        raise Refused(f"the channel {row.to.channel} cannot change what was sent")
    await channel.edit(row.to, await _first_part(mailbox, row), _whole(channel, row))


async def _first_part(mailbox: Mailbox, row: OutboundRow) -> str:
    """The platform's id of the message to be edited: the first of those that its row became."""
    if not (row.about or "").isdecimal():
        raise Refused("there is no such message")
    receipts = await mailbox.receipt(int(row.about or ""))
    if not receipts.sent:
        raise Refused("the message was not delivered, so it cannot be changed")
    return receipts.sent[min(receipts.sent)]


def _whole(channel: Channel, row: OutboundRow) -> str:
    able = channel.capabilities
    parts = split(row.text, able.max_length, able.length_unit)
    if len(parts) != 1:
        raise Refused("the new text is too long for one message" if parts else "the new text is empty")
    return parts[0]
