"""What a channel can tell its host besides texts: files, reactions, a chat that moved, a credential that is no more."""

from __future__ import annotations

from functools import partial

from nanoclaw_core.errors import ChannelRevoked
from nanoclaw_core.models import Address, FileKind, InboundFile, InboundKind
from nanoclaw_core.store import chats
from tests.spine.spine import Spine, until

CAT = InboundFile(name="../cat.jpg", reference="cat", kind=FileKind.PHOTO, media_type="image/jpeg")


async def test_a_file_is_told_to_the_agent_with_the_place_where_it_lies(spine: Spine) -> None:
    spine.chat.files["cat"] = b"meow"
    async with spine.host() as host:
        await spine.chat.say("Who is this?", files=(CAT,))
        (text,) = await spine.texts(1)
        name = text.partition("/nanoclaw/inbox/")[2].rstrip("]")
        (inbox,) = host.settings.home.glob("sessions/main/*/inbox")
    assert text == f"You said: Who is this?\n[photo: cat.jpg — saved to /nanoclaw/inbox/{name}]"
    assert (inbox / name).read_bytes() == b"meow"


async def test_a_reaction_to_an_answer_is_answered(spine: Spine) -> None:
    async with spine.host():
        await spine.chat.say("hello")
        await spine.texts(1)
        await spine.chat.say("👍", kind=InboundKind.REACTION, about="sent-1", message_id="r1")
        assert (await spine.texts(2))[1] == "You said: 👍"


async def test_a_revoked_credential_turns_the_channel_off_and_the_owner_hears_of_it_elsewhere(spine: Spine) -> None:
    async with spine.host() as host:
        await spine.chat.say("hello")
        await spine.texts(1)
        spine.chat.break_connection(ChannelRevoked("fake", "its token was revoked"))
        _, chat = await host.terminal_chat(None)
        with host.terminal.attach(chat) as viewer:
            _, update = await anext(aiter(viewer))
        assert str(update).count("The channel fake is off: its token was revoked.") == 1
        assert str(host.healths["fake"].state) == "ended"
        await spine.clock.advance(600)
    assert spine.chat.runs == 1


async def test_a_chat_that_moved_keeps_its_agent(spine: Spine) -> None:
    async with spine.host():
        assert spine.chat.context is not None
        await spine.chat.context.moved("chat-1", "chat-9")
        await spine.chat.say("still there?", chat="chat-9")
        assert await spine.texts(1) == ["You said: still there?"]
        assert spine.chat.outbox[0].to.chat == "chat-9"


async def test_a_channel_finds_the_cursor_that_it_stored(spine: Spine) -> None:
    async with spine.host():
        await spine.chat.say("hello", cursor="17")
        await spine.texts(1)
    async with spine.host():
        assert spine.chat.context is not None
        assert await spine.chat.context.cursor() == "17"
        assert spine.chat.context.clock is spine.clock


async def test_a_chat_that_moved_to_one_that_is_known_hears_the_same_agents_there(spine: Spine) -> None:
    async with spine.host() as host:
        await host.database.write(
            partial(chats.ensure_messaging_group, channel="fake", account="", chat="chat-9", name="", is_group=True, now=1.0)
        )
        for _ in range(2):
            await host._moved(Address(channel="fake", chat="chat-1"), "chat-9")
        await spine.chat.say("hello", chat="chat-9")
        assert await spine.texts(1) == ["You said: hello"]
        await until(lambda: len(spine.chat.settlements) == 1)
