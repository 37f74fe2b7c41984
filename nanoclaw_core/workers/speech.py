"""What an action may say to people, for the agent that called it: in this agent's chats, and as far as their platforms can."""

from __future__ import annotations

import re
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from anyio import to_thread

from nanoclaw_core.errors import ActionRefused
from nanoclaw_core.mailbox import Mailbox, NewOutbound
from nanoclaw_core.models import Address, Capabilities, InboundKind, OutboundFile, OutboundKind, Sent, WorkerIdentity
from nanoclaw_core.ports import Channel, EditingChannel, ReactingChannel
from nanoclaw_core.workers.desk import Desk
from nanoclaw_core.workers.shift import Shift

#: What one session may have on its way to people: an agent that talks to an empty room must not fill the disk.
MAX_UNDELIVERED = 100
MAX_FILES: Final = 10  # with one message
CHOICES: Final = range(2, 11)
MAX_LABEL: Final = 60
_HERE: Final = "this chat"
_MIB: Final = 1024 * 1024


class AgentActions:
    """The `ActionHost` of one call by one worker."""

    def __init__(self, desk: Desk, shift: Shift | None, identity: WorkerIdentity, key: str) -> None:
        self._desk = desk
        self._shift = shift
        self._identity = identity
        self._key = f"call-{key}"

    async def send(self, text: str, to: str | None = None, *, files: Sequence[OutboundFile] = ()) -> Sent:
        visible = self._desk.dialogue.visible(text)
        if not visible and not files:
            raise ActionRefused("There is nothing to send: the text is empty, or all of it is internal.")
        address = await self._address(to)
        if files:
            self._require_fit(files, address, to or _HERE)
        if known := await self._known(to):
            return known
        kept = [await self._kept(file) for file in files]
        return await self._queue(NewOutbound(to=address, text=visible, files=tuple(kept)), to)

    async def ask(self, question: str, choices: Sequence[str], to: str | None = None) -> Sent:
        visible = self._desk.dialogue.visible(question)
        labels = tuple(" ".join(choice.split()) for choice in choices)
        if not visible:
            raise ActionRefused("There is nothing to ask: the question is empty, or all of it is internal.")
        if len(labels) not in CHOICES or len(set(labels)) < len(labels):
            raise ActionRefused(f"A question needs {CHOICES.start} to {CHOICES.stop - 1} different options.")
        if not all(0 < len(label) <= MAX_LABEL for label in labels):
            raise ActionRefused(f"An option has 1 to {MAX_LABEL} characters. Put what is longer into the question.")
        return await self._queue(NewOutbound(to=await self._address(to), text=visible, choices=labels), to)

    async def edit(self, message_id: str, text: str) -> Sent:
        visible = self._desk.dialogue.visible(text)
        if not visible:
            raise ActionRefused("The new text is empty, or all of it is internal. A message cannot be deleted.")
        spoken = await (await self._mailbox()).spoken(_number(r"s([0-9]+)", message_id))
        if spoken is None:
            where = "An id looks like s12; you are told it when you send a message with a tool"
            raise ActionRefused(f"There is no message of yours with the id {message_id!r:.40}. {where}.")
        row = spoken.row
        name, channel = await self._place(row.to)
        if not isinstance(channel, EditingChannel):
            raise ActionRefused(f"Messages in {name} cannot be changed: its platform has no means for it. Send a new one.")
        if row.files or row.choices or not row.text:
            raise ActionRefused(f"{message_id} cannot be changed: only texts can, without files and buttons. Send a new one.")
        if spoken.refused is not None:
            raise ActionRefused(f"{message_id} did not arrive: {spoken.refused}. Send a new one.")
        self._require_one_part(channel.capabilities, row.text, visible)
        await self._queue(NewOutbound(to=row.to, text=visible, kind=OutboundKind.EDIT, about=str(row.seq)), None)
        return Sent(to=name, id=message_id)

    async def react(self, message_id: str, emoji: str) -> str:
        row = await (await self._mailbox()).heard(_number(r"([0-9]+)", message_id))
        if row is None:
            raise ActionRefused(f"You heard no message with the id {message_id!r:.40}. Take the `id` of a `<message>`.")
        if row.kind is not InboundKind.MESSAGE:
            raise ActionRefused(f"{message_id} is no message, but something about one. React to that.")
        name, channel = await self._place(row.address)
        if not isinstance(channel, ReactingChannel):
            raise ActionRefused(f"There are no reactions in {name}: its platform has no means for them. Say it in words.")
        await self._queue(NewOutbound(to=row.address, text=emoji, kind=OutboundKind.REACTION, about=row.message_id), None)
        return name

    # --- where ------------------------------------------------------------------------------------------------------------

    async def _address(self, to: str | None) -> Address:
        here = self._shift.exchange.reply_to if self._shift else None
        if self._shift is None or (to is None and here is None):
            raise ActionRefused("No chat is being answered: name a destination with `to`.")
        address = here if to is None else await self._desk.dialogue.find(self._identity.agent_group, to)
        assert address is not None  # noqa: S101  # one of the two is there, see above
        if here is not None and replace(address, thread=here.thread) == here:
            address = here  # the chat that is being answered keeps its thread
        return address

    async def _place(self, address: Address) -> tuple[str, Channel]:
        """The name and the channel of a chat that something was said in."""
        name = await self._desk.dialogue.name(self._identity.agent_group, address)
        if name is None:
            raise ActionRefused("That message is in a chat that you cannot write to any more.")
        if (channel := self._desk.channels.get(address.channel)) is None:
            raise ActionRefused(f"{name} cannot be reached: the channel {address.channel} is not running.")
        return name, channel

    def _require_fit(self, files: Sequence[OutboundFile], address: Address, name: str) -> None:
        if len(files) > MAX_FILES:
            raise ActionRefused(f"At most {MAX_FILES} files go with one message.")
        if (channel := self._desk.channels.get(address.channel)) is None:
            return  # it may come back
        most = channel.capabilities.max_file_size
        if not most:
            raise ActionRefused(f"Files cannot be sent to {name}: its platform takes none.")
        for file in files:
            if file.size > most:
                size = f"{file.size / _MIB:,.1f} MiB"
                raise ActionRefused(f"{file.name} has {size}, and {name} takes files of at most {most / _MIB:,.1f} MiB.")

    def _require_one_part(self, able: Capabilities, *texts: str) -> None:
        if any(able.length_unit.of(text) > able.max_length for text in texts):
            limit = f"{able.max_length} {able.length_unit}"
            raise ActionRefused(f"Only texts of at most {limit} can be changed. Send a new one.")

    # --- what -------------------------------------------------------------------------------------------------------------

    async def _mailbox(self) -> Mailbox:
        if self._shift is None:
            raise ActionRefused("Nothing was done: this worker is at its end.")
        return await self._desk.mailboxes.open(self._shift.session)

    async def _kept(self, file: OutboundFile) -> OutboundFile:
        """The file in the outbox: one that is not there yet is copied, because the action's own may go."""
        outbox = await (await self._mailbox()).outbox()
        path = file.path
        if path.parent != outbox:
            path = outbox / f"own-{uuid.uuid4().hex}"
            await to_thread.run_sync(shutil.copyfile, file.path, path)
        return OutboundFile(name=file.name, path=Path(outbox.name, path.name), size=file.size, media_type=file.media_type)

    async def _known(self, to: str | None) -> Sent | None:
        """What was queued when this call was carried out before."""
        row = await (await self._mailbox()).queued_as(self._key)
        if row is None or self._shift is None:
            return None
        self._shift.exchange.spoke(row.to)  # also when an earlier worker was cut after the same call
        return Sent(to=to or _HERE, id=f"s{row.seq}")

    async def _queue(self, row: NewOutbound, to: str | None) -> Sent:
        if known := await self._known(to):
            return known
        mailbox = await self._mailbox()
        if len(await mailbox.due()) >= MAX_UNDELIVERED:
            raise ActionRefused(
                f"{MAX_UNDELIVERED} messages of yours have not been delivered yet. Wait until people read them."
            )
        assert self._shift is not None  # noqa: S101  # else there is no mailbox
        await self._shift.exchange.queue(self._key, row)
        queued = await self._known(to)
        assert queued is not None  # noqa: S101  # it is there now
        return queued


def _number(pattern: str, message_id: str) -> int:
    found = re.fullmatch(pattern, message_id.strip())
    return int(found[1]) if found and len(found[1]) < 18 else -1
