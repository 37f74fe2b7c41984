"""The stand-in for Telegram keeps the rules of the Bot API that the channel's tests lean on."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import anyio
import pytest

from tests.peers.telegram import Drop, Garbage, Refusal, Silence, TelegramPeer
from tests.peers.telegram_chats import ADA, BEN, CLUB, FAMILY, FORUM, HOME, TEXT, Json


class Bot:
    """A client as plain as can be."""

    def __init__(self, session: aiohttp.ClientSession, peer: TelegramPeer) -> None:
        self._session = session
        self._peer = peer
        self.token = peer.token

    async def ask(self, method: str, **data: Any) -> Json:
        """The whole answer, as JSON."""
        fields = {name: value if isinstance(value, str) else json.dumps(value) for name, value in data.items()}
        async with self._session.post(f"{self._peer.url}/bot{self.token}/{method}", data=fields) as response:
            answer: Json = await response.json()
        assert answer["ok"] or answer["error_code"] == response.status
        return answer

    async def do(self, method: str, **data: Any) -> Any:
        """The result."""
        return (await self.ask(method, **data))["result"]

    async def refused(self, method: str, **data: Any) -> str:
        """Why it was refused, beginning with the code."""
        answer = await self.ask(method, **data)
        return f"{answer['error_code']} {answer['description']}"

    async def upload(self, method: str, data: Json, **files: tuple[str, bytes]) -> Json:
        form = aiohttp.FormData()
        for name, value in data.items():
            form.add_field(name, value if isinstance(value, str) else json.dumps(value))
        for name, (filename, content) in files.items():
            form.add_field(name, content, filename=filename)
        async with self._session.post(f"{self._peer.url}/bot{self.token}/{method}", data=form) as response:
            answer: Json = await response.json()
            return answer

    async def download(self, path: str) -> tuple[int, bytes]:
        async with self._session.get(f"{self._peer.url}/file/bot{self.token}/{path}") as response:
            return response.status, await response.read()


@pytest.fixture
async def peer() -> AsyncIterator[TelegramPeer]:
    async with TelegramPeer() as running:
        yield running


@pytest.fixture
async def bot(peer: TelegramPeer) -> AsyncIterator[Bot]:
    async with aiohttp.ClientSession() as session:
        yield Bot(session, peer)


# --- updates --------------------------------------------------------------------------------------------------------------


async def test_an_update_comes_again_until_a_later_offset_confirms_it(peer: TelegramPeer, bot: Bot) -> None:
    peer.say("one")
    peer.say("two")
    for _ in range(2):
        first, second = await bot.do("getUpdates")
        assert [first["message"]["text"], second["message"]["text"]] == ["one", "two"]
    assert await bot.do("getUpdates", offset=first["update_id"] + 1) == [second]
    assert await bot.do("getUpdates", offset=second["update_id"] + 1) == []
    assert peer.updates == []


async def test_a_long_poll_returns_as_soon_as_somebody_writes(peer: TelegramPeer, bot: Bot) -> None:
    found: list[Json] = []

    async def poll() -> None:
        found.extend(await bot.do("getUpdates", timeout=60))

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(poll)
            await peer.confirmed()
            peer.say("hello")
    assert found[0]["message"]["text"] == "hello"


async def test_a_second_poll_ends_the_first_one(peer: TelegramPeer, bot: Bot) -> None:
    refused: list[str] = []

    async def poll() -> None:
        refused.append(await bot.refused("getUpdates", timeout=60))

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(poll)
            await peer.confirmed()
            await bot.do("getUpdates")
    assert refused[0].startswith("409 Conflict: terminated by other getUpdates request")


async def test_nobody_can_poll_while_a_webhook_is_set(peer: TelegramPeer, bot: Bot) -> None:
    peer.webhook = "https://bot.example"
    assert "webhook is active" in await bot.refused("getUpdates")
    await bot.do("deleteWebhook")
    assert await bot.do("getUpdates") == []


async def test_reactions_come_to_those_who_asked_for_them(peer: TelegramPeer, bot: Bot) -> None:
    message = peer.say("look")
    peer.react(message, "👍")
    (update,) = await bot.do("getUpdates", allowed_updates=["message", "message_reaction"])
    assert "message" in update
    peer.react(message, "🎉")
    update = (await bot.do("getUpdates"))[1]
    assert update["message_reaction"]["old_reaction"] == [{"type": "emoji", "emoji": "👍"}]
    assert update["message_reaction"]["new_reaction"] == [{"type": "emoji", "emoji": "🎉"}]


async def test_supergroups_number_their_own_messages(peer: TelegramPeer) -> None:
    ids = [peer.say("hi", chat=chat)["message_id"] for chat in (HOME, CLUB, FAMILY, FORUM, HOME)]
    assert ids == [1, 2, 1, 1, 3]


# --- who is let in --------------------------------------------------------------------------------------------------------


async def test_only_the_bots_token_is_taken(peer: TelegramPeer, bot: Bot) -> None:
    assert (await bot.do("getMe"))["username"] == "andy_test_bot"
    bot.token = "123:wrong"
    assert (await bot.refused("getMe")).startswith("401")
    bot.token = "nonsense"
    assert (await bot.refused("getMe")).startswith("404")


async def test_a_revoked_token_ends_also_the_poll_that_waits(peer: TelegramPeer, bot: Bot) -> None:
    refused: list[str] = []

    async def poll() -> None:
        refused.append(await bot.refused("getUpdates", timeout=60))

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(poll)
            await peer.confirmed()
            peer.revoke()
    assert refused[0].startswith("401")


# --- scripts --------------------------------------------------------------------------------------------------------------


async def test_scripted_answers_come_once_each_and_have_no_effect_unless_asked(peer: TelegramPeer, bot: Bot) -> None:
    peer.script("sendMessage", Refusal(code=429, retry_after=7), Refusal(code=502), Garbage(), Drop(), Drop(effect=True))
    hello = {"chat_id": HOME["id"], "text": "hello"}
    assert (await bot.ask("sendMessage", **hello))["parameters"] == {"retry_after": 7}
    assert (await bot.refused("sendMessage", **hello)).startswith("502")
    for error in (aiohttp.ContentTypeError, aiohttp.ServerDisconnectedError, aiohttp.ServerDisconnectedError):
        with pytest.raises(error):
            await bot.do("sendMessage", **hello)
    assert len(peer.chats.messages) == 1
    await bot.do("sendMessage", **hello)
    assert len(peer.chats.messages) == 2
    assert len(peer.called("sendMessage")) == 6


async def test_silence_lasts_as_long_as_the_client_waits(peer: TelegramPeer, bot: Bot) -> None:
    peer.script("getMe", Silence())

    async def ask() -> None:
        await bot.ask("getMe")

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await peer.wait_for(lambda: peer.called("getMe"))
            tasks.cancel_scope.cancel()


async def test_every_connection_can_be_cut_and_new_ones_are_accepted(peer: TelegramPeer, bot: Bot) -> None:
    async def poll() -> None:
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await bot.ask("getUpdates", timeout=60)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(poll)
            await peer.confirmed()
            peer.cut()
    assert (await bot.do("getMe"))["is_bot"]


# --- messages -------------------------------------------------------------------------------------------------------------


async def test_a_sent_message_is_there_and_can_be_changed_and_deleted(peer: TelegramPeer, bot: Bot) -> None:
    sent = await bot.do("sendMessage", chat_id=HOME["id"], text="hello")
    key = (HOME["id"], sent["message_id"])
    await bot.do("editMessageText", chat_id=HOME["id"], message_id=sent["message_id"], text="hello again")
    assert peer.chats.messages[key]["text"] == "hello again"
    same = await bot.refused("editMessageText", chat_id=HOME["id"], message_id=sent["message_id"], text="hello again")
    assert same.startswith("400 Bad Request: message is not modified")
    await bot.do("deleteMessage", chat_id=HOME["id"], message_id=sent["message_id"])
    gone = await bot.refused("editMessageText", chat_id=HOME["id"], message_id=sent["message_id"], text="hello")
    assert gone == "400 Bad Request: message to edit not found"


async def test_what_people_wrote_cannot_be_changed(peer: TelegramPeer, bot: Bot) -> None:
    message = peer.say("mine")
    assert "can't be edited" in await bot.refused("editMessageText", chat_id=42, message_id=message["message_id"], text="x")


@pytest.mark.parametrize(
    ("text", "reason"),
    [("", "message text is empty"), (" \n", "message text is empty"), ("🤖" * (TEXT // 2) + "x", "message is too long")],
)
async def test_texts_are_limited_as_telegram_counts(bot: Bot, text: str, reason: str) -> None:
    assert await bot.refused("sendMessage", chat_id=42, text=text) == f"400 Bad Request: {reason}"


async def test_the_longest_text_is_taken(bot: Bot) -> None:
    assert (await bot.do("sendMessage", chat_id=42, text="🤖" * (TEXT // 2)))["message_id"]


async def test_an_entity_beyond_the_text_is_refused(bot: Bot) -> None:
    bold = [{"type": "bold", "offset": 3, "length": 3}]
    assert "can't parse entities" in await bot.refused("sendMessage", chat_id=42, text="hello", entities=bold)


async def test_a_reply_needs_its_original_unless_told_otherwise(peer: TelegramPeer, bot: Bot) -> None:
    reply = {"message_id": 99}
    assert "not found" in await bot.refused("sendMessage", chat_id=42, text="hello", reply_parameters=reply)
    reply["allow_sending_without_reply"] = True
    assert await bot.do("sendMessage", chat_id=42, text="hello", reply_parameters=reply)


async def test_a_topic_must_exist(peer: TelegramPeer, bot: Bot) -> None:
    hello = {"chat_id": FORUM["id"], "text": "hello", "message_thread_id": 7}
    assert await bot.refused("sendMessage", **hello) == "400 Bad Request: message thread not found"
    peer.say("a topic", chat=FORUM, message_thread_id=7, is_topic_message=True)
    assert (await bot.do("sendMessage", **hello))["is_topic_message"]


@pytest.mark.parametrize(
    ("close", "reason"),
    [
        ("kick", "403 Forbidden: bot was kicked from the supergroup chat"),
        ("block", "403 Forbidden: bot was blocked by the user"),
        ("delete", "400 Bad Request: chat not found"),
    ],
)
async def test_a_closed_chat_takes_nothing(peer: TelegramPeer, bot: Bot, close: str, reason: str) -> None:
    getattr(peer.chats, close)(FAMILY)
    assert await bot.refused("sendMessage", chat_id=FAMILY["id"], text="hello") == reason


async def test_an_upgraded_group_names_its_successor(peer: TelegramPeer, bot: Bot) -> None:
    new = peer.upgrade(CLUB)
    refused = await bot.ask("sendMessage", chat_id=CLUB["id"], text="hello")
    assert refused["parameters"] == {"migrate_to_chat_id": new["id"]}
    assert await bot.do("sendMessage", chat_id=new["id"], text="hello")
    told = [update["message"] for update in await bot.do("getUpdates")]
    assert [message["chat"]["id"] for message in told] == [CLUB["id"], new["id"]]
    assert (told[0]["migrate_to_chat_id"], told[1]["migrate_from_chat_id"]) == (new["id"], CLUB["id"])


async def test_drafts_are_for_private_chats(peer: TelegramPeer, bot: Bot) -> None:
    await bot.do("sendMessageDraft", chat_id=42, draft_id=1, text="I am")
    assert peer.chats.drafts[0]["text"] == "I am"
    assert "PEER_INVALID" in await bot.refused("sendMessageDraft", chat_id=FAMILY["id"], draft_id=1, text="I am")
    assert "non-zero" in await bot.refused("sendMessageDraft", chat_id=42, draft_id=0, text="I am")


async def test_the_bot_reacts_with_one_emoji_of_the_list(peer: TelegramPeer, bot: Bot) -> None:
    message = peer.say("look")
    place = {"chat_id": 42, "message_id": message["message_id"]}
    await bot.do("setMessageReaction", **place, reaction=[{"type": "emoji", "emoji": "👍"}])
    assert peer.chats.bot_reactions[42, message["message_id"]] == [{"type": "emoji", "emoji": "👍"}]
    assert "REACTION_INVALID" in await bot.refused("setMessageReaction", **place, reaction=[{"type": "emoji", "emoji": "🥨"}])


# --- buttons --------------------------------------------------------------------------------------------------------------


def keyboard(data: str) -> Json:
    return {"inline_keyboard": [[{"text": "Yes", "callback_data": data}]]}


async def test_a_pressed_button_is_answered_once(peer: TelegramPeer, bot: Bot) -> None:
    sent = await bot.do("sendMessage", chat_id=42, text="Really?", reply_markup=keyboard("q:1"))
    query_id = peer.press(sent, "q:1", sender=BEN)
    (update,) = await bot.do("getUpdates")
    assert (update["callback_query"]["data"], update["callback_query"]["from"]) == ("q:1", BEN)
    await bot.do("answerCallbackQuery", callback_query_id=query_id, text="Thanks")
    answer = peer.chats.answers[query_id]
    assert answer is not None
    assert answer["text"] == "Thanks"
    assert "query is too old" in await bot.refused("answerCallbackQuery", callback_query_id=query_id)


async def test_an_edit_takes_the_buttons_away_unless_it_repeats_them(peer: TelegramPeer, bot: Bot) -> None:
    sent = await bot.do("sendMessage", chat_id=42, text="Really?", reply_markup=keyboard("q:1"))
    await bot.do("editMessageText", chat_id=42, message_id=sent["message_id"], text="Really? Yes")
    assert "reply_markup" not in peer.chats.messages[42, sent["message_id"]]


async def test_a_buttons_data_is_limited(bot: Bot) -> None:
    assert await bot.do("sendMessage", chat_id=42, text="x", reply_markup=keyboard("x" * 64))
    assert "BUTTON_DATA_INVALID" in await bot.refused("sendMessage", chat_id=42, text="x", reply_markup=keyboard("ä" * 33))


# --- files ----------------------------------------------------------------------------------------------------------------


async def test_a_file_of_a_person_can_be_fetched(peer: TelegramPeer, bot: Bot) -> None:
    document = peer.chats.store(b"content", "documents/notes.txt")
    peer.say(document={**document, "file_name": "notes.txt"})
    found = await bot.do("getFile", file_id=document["file_id"])
    assert await bot.download(found["file_path"]) == (200, b"content")
    assert (await bot.download("documents/other.txt"))[0] == 404


async def test_a_file_that_is_too_big_or_unknown_is_refused(peer: TelegramPeer, bot: Bot) -> None:
    film = peer.chats.store(b"", "videos/film.mp4", size=21 * 2**20)
    assert await bot.refused("getFile", file_id=film["file_id"]) == "400 Bad Request: file is too big"
    assert "wrong file_id" in await bot.refused("getFile", file_id="other")


async def test_a_sent_file_is_kept(peer: TelegramPeer, bot: Bot) -> None:
    data = {"chat_id": 42, "document": "attach://a", "caption": "Notes"}
    answer = await bot.upload("sendDocument", data, a=("notes.txt", b"content"))
    file = answer["result"]["document"]
    assert (file["file_name"], file["file_size"], answer["result"]["caption"]) == ("notes.txt", 7, "Notes")
    assert peer.calls[-1].files["a"].content == b"content"


@pytest.mark.parametrize(
    ("caption", "content", "reason"),
    [("", b"", "file must be non-empty"), ("x" * 1025, b"x", "message caption is too long")],
)
async def test_a_file_that_telegram_refuses(bot: Bot, caption: str, content: bytes, reason: str) -> None:
    data = {"chat_id": 42, "photo": "attach://a", "caption": caption}
    assert reason in (await bot.upload("sendPhoto", data, a=("a.png", content)))["description"]


async def test_an_album_has_two_to_ten_files_of_one_kind(peer: TelegramPeer, bot: Bot) -> None:
    def album(*kinds: str) -> Json:
        return {"chat_id": 42, "media": [{"type": kind, "media": f"attach://f{i}"} for i, kind in enumerate(kinds)]}

    files = {f"f{i}": (f"{i}.jpg", b"x") for i in range(2)}
    sent = (await bot.upload("sendMediaGroup", album("photo", "photo"), **files))["result"]
    assert len({message["media_group_id"] for message in sent}) == 1
    assert len({message["message_id"] for message in sent}) == 2
    assert not (await bot.upload("sendMediaGroup", album("photo"), **files))["ok"]
    assert not (await bot.upload("sendMediaGroup", album("photo", "document"), **files))["ok"]
    assert len(peer.chats.messages) == 2


async def test_an_edited_message_keeps_its_id(peer: TelegramPeer, bot: Bot) -> None:
    message = peer.say("helo", sender=ADA)
    peer.edit(message, text="hello")
    first, second = await bot.do("getUpdates")
    assert second["edited_message"]["message_id"] == first["message"]["message_id"]
    assert (second["edited_message"]["text"], "edit_date" in second["edited_message"]) == ("hello", True)
