"""What the host is told of each kind of update."""

from __future__ import annotations

from typing import Any

import pytest
from telegram import User

from nanoclaw_core import FileKind, InboundKind, InboundMessage, Quote
from nanoclaw_telegram.ids import Place
from nanoclaw_telegram.updates import MALFORMED, Found, Moved, Press, Reachable, Reader, together
from tests.peers.telegram_chats import ADA, BEN, BOT, CLUB, FAMILY, FORUM, HOME, NEWS, Chats, Json

ME = User(id=BOT["id"], first_name=BOT["first_name"], is_bot=True, username=BOT["username"])
CHANNEL_POSTER: Json = {"id": 1087968824, "is_bot": True, "first_name": "Group", "username": "GroupAnonymousBot"}


@pytest.fixture
def chats() -> Chats:
    return Chats()


@pytest.fixture
def reader() -> Reader:
    return Reader(ME, Place(bot_id=BOT["id"]))


def read(reader: Reader, **payload: Any) -> Found:
    return reader.read({"update_id": 1001, **payload})


def message(found: Found) -> InboundMessage:
    assert isinstance(found, InboundMessage)
    return found


def file_of(size: int = 7, **more: Any) -> Json:
    return {"file_id": "file-1", "file_unique_id": "unique-1", "file_size": size, **more}


def entity(kind: str, text: str, part: str, **more: Any) -> Json:
    before = text[: text.index(part)]
    return {"type": kind, "offset": len(before.encode("utf-16-le")) // 2, "length": len(part.encode("utf-16-le")) // 2, **more}


# --- messages -------------------------------------------------------------------------------------------------------------


def test_a_text_with_everything_around_it(reader: Reader, chats: Chats) -> None:
    said = chats.add(HOME, sender=ADA, text="hello")
    found = message(read(reader, message=said))
    assert (found.text, found.message_id, found.sent_at) == ("hello", str(said["message_id"]), said["date"])
    assert (found.address.channel, found.address.chat, found.address.thread) == ("telegram", "42", None)
    assert (found.sender.handle, found.sender.name, found.chat_name) == ("42", "Ada Lovelace", "Ada Lovelace")
    assert (found.is_group, found.is_mention, found.sender.is_own, found.files) == (False, False, False, ())


@pytest.mark.parametrize("chat", [FAMILY, CLUB, NEWS], ids=lambda chat: chat["type"])
def test_a_group_is_one_because_telegram_says_so(reader: Reader, chats: Chats, chat: Json) -> None:
    found = message(read(reader, message=chats.add(chat, sender=ADA, text="hi")))
    assert (found.is_group, found.chat_name, found.address.chat) == (True, chat["title"], str(chat["id"]))


def test_a_topic_is_a_thread_and_general_is_none(reader: Reader, chats: Chats) -> None:
    topic = chats.add(FORUM, sender=ADA, text="hi", message_thread_id=7, is_topic_message=True)
    assert message(read(reader, message=topic)).address.thread == "7"
    assert message(read(reader, message=chats.add(FORUM, sender=ADA, text="hi"))).address.thread is None


def test_a_reply_outside_of_forums_opens_no_thread(reader: Reader, chats: Chats) -> None:
    found = message(read(reader, message=chats.add(FAMILY, sender=ADA, text="hi", message_thread_id=3)))
    assert found.address.thread is None


def test_a_reply_says_what_it_answers(reader: Reader, chats: Chats) -> None:
    original = chats.add(FAMILY, sender=BEN, text="Who comes?")
    found = message(read(reader, message=chats.add(FAMILY, sender=ADA, text="I do", reply_to_message=original)))
    assert found.reply_to == Quote(message_id=str(original["message_id"]), sender_name="Ben", text="Who comes?")


def test_a_quoted_part_is_all_that_is_quoted(reader: Reader, chats: Chats) -> None:
    original = chats.add(FAMILY, sender=BEN, text="Who comes? And who cooks?")
    quote = {"text": "who cooks?", "position": 15, "is_manual": True}
    said = chats.add(FAMILY, sender=ADA, text="Me", reply_to_message=original, quote=quote)
    found = message(read(reader, message=said))
    assert found.reply_to is not None
    assert found.reply_to.text == "who cooks?"


def test_a_quote_from_another_chat_has_no_message_here(reader: Reader, chats: Chats) -> None:
    origin = {"type": "hidden_user", "sender_user_name": "Zoe", "date": 1_700_000_000}
    fields: Json = {"external_reply": {"origin": origin}, "quote": {"text": "Tea?", "position": 0}}
    found = message(read(reader, message=chats.add(HOME, sender=ADA, text="Yes", **fields)))
    assert found.reply_to == Quote(message_id="", text="Tea?")


def test_the_beginning_of_a_topic_is_no_quote(reader: Reader, chats: Chats) -> None:
    beginning = chats.add(FORUM, sender=BOT, forum_topic_created={"name": "Garden", "icon_color": 1})
    place: Json = {"message_thread_id": 1, "is_topic_message": True}
    said = chats.add(FORUM, sender=ADA, text="hi", reply_to_message=beginning, **place)
    found = message(read(reader, message=said))
    assert (found.reply_to, found.is_mention) == (None, False)


def test_the_bots_own_message_is_marked(reader: Reader, chats: Chats) -> None:
    assert message(read(reader, message=chats.add(FAMILY, sender=BOT, text="Andy: hi"))).sender.is_own
    assert not message(read(reader, message=chats.add(FAMILY, sender=ADA, text="Andy: hi"))).sender.is_own


def test_an_anonymous_administrator_speaks_as_the_group(reader: Reader, chats: Chats) -> None:
    said = chats.add(FAMILY, sender=CHANNEL_POSTER, sender_chat=FAMILY, text="Order!")
    found = message(read(reader, message=said))
    assert (found.sender.handle, found.sender.name) == (str(FAMILY["id"]), "Family")


def test_a_channel_speaks_as_itself(reader: Reader, chats: Chats) -> None:
    post = chats.add(NEWS, sender=None, sender_chat=NEWS, text="News!")
    found = message(read(reader, channel_post=post))
    assert (found.sender.handle, found.sender.name, found.is_group) == (str(NEWS["id"]), "News", True)


def test_a_forwarded_message_says_whose_words_it_holds(reader: Reader, chats: Chats) -> None:
    origin = {"type": "user", "date": 1_700_000_000, "sender_user": BEN}
    found = message(read(reader, message=chats.add(HOME, sender=ADA, text="/stop", forward_origin=origin)))
    assert found.text == "[forwarded from Ben]\n/stop"


@pytest.mark.parametrize(
    ("origin", "name"),
    [
        ({"type": "hidden_user", "sender_user_name": "Zoe"}, "Zoe"),
        ({"type": "chat", "sender_chat": FAMILY}, "Family"),
        ({"type": "channel", "chat": NEWS, "message_id": 3}, "News"),
    ],
)
def test_wherever_it_was_forwarded_from(reader: Reader, chats: Chats, origin: Json, name: str) -> None:
    origin = {"date": 1_700_000_000, **origin}
    found = message(read(reader, message=chats.add(HOME, sender=ADA, text="hi", forward_origin=origin)))
    assert found.text == f"[forwarded from {name}]\nhi"


# --- files and things -----------------------------------------------------------------------------------------------------


def test_of_a_photo_the_largest_size_is_taken_and_the_caption_is_its_text(reader: Reader, chats: Chats) -> None:
    sizes = [file_of(width=90, height=60) | {"file_id": "small"}, file_of(width=900, height=600) | {"file_id": "large"}]
    found = message(read(reader, message=chats.add(HOME, sender=ADA, photo=sizes, caption="Look!")))
    (file,) = found.files
    assert (found.text, file.reference, file.kind, file.media_type) == ("Look!", "large", FileKind.PHOTO, "image/jpeg")
    assert (file.size, file.name) == (7, f"photo-{found.message_id}.jpg")


@pytest.mark.parametrize(
    ("field", "content", "kind", "name", "media_type"),
    [
        ("voice", {"duration": 3, "mime_type": "audio/ogg"}, FileKind.VOICE, "voice-1.ogg", "audio/ogg"),
        ("audio", {"duration": 3, "file_name": "song.mp3"}, FileKind.AUDIO, "song.mp3", "audio/mpeg"),
        ("video", {"duration": 3, "width": 1, "height": 1}, FileKind.VIDEO, "video-1.mp4", "video/mp4"),
        ("video_note", {"duration": 3, "length": 1}, FileKind.VIDEO, "video-note-1.mp4", "video/mp4"),
        ("document", {"file_name": "a.pdf", "mime_type": "application/pdf"}, FileKind.FILE, "a.pdf", "application/pdf"),
        ("document", {"file_name": "../../etc/passwd"}, FileKind.FILE, "../../etc/passwd", ""),
        ("document", {}, FileKind.FILE, "file-1", ""),
    ],
)
def test_a_file_of_each_kind(
    reader: Reader, chats: Chats, field: str, content: Json, kind: FileKind, name: str, media_type: str
) -> None:
    found = message(read(reader, message=chats.add(HOME, sender=ADA, **{field: file_of(**content)})))
    (file,) = found.files
    assert (file.kind, file.name, file.media_type, file.reference, found.text) == (kind, name, media_type, "file-1", "")


def test_an_animation_is_one_file_though_it_comes_as_two(reader: Reader, chats: Chats) -> None:
    film = file_of(duration=1, width=1, height=1, file_name="cat.mp4")
    (file,) = message(read(reader, message=chats.add(HOME, sender=ADA, animation=film, document=film))).files
    assert (file.kind, file.name) == (FileKind.VIDEO, "cat.mp4")


def test_a_sticker_is_a_file_and_the_emoji_that_it_stands_for(reader: Reader, chats: Chats) -> None:
    sticker = file_of(type="regular", width=1, height=1, is_animated=True, is_video=False, emoji="🥳")
    found = message(read(reader, message=chats.add(HOME, sender=ADA, sticker=sticker)))
    assert (found.text, found.files[0].name, found.files[0].kind) == ("[sticker 🥳]", "sticker-1.tgs", FileKind.STICKER)


SPOT: Json = {"latitude": 52.5163, "longitude": 13.3777}
QUESTION: Json = {
    "id": "1",
    "question": "Pizza?",
    "options": [{"text": text, "voter_count": 0, "persistent_id": text} for text in ("Yes", "No")],
    "total_voter_count": 0,
    "is_closed": False,
    "is_anonymous": True,
    "type": "regular",
    "allows_multiple_answers": False,
    "allows_revoting": False,
    "members_only": False,
}


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"location": SPOT}, "[location: 52.516300, 13.377700]"),
        ({"location": SPOT | {"live_period": 900}}, "[location: 52.516300, 13.377700, live]"),
        (
            {"location": SPOT, "venue": {"location": SPOT, "title": "Gate", "address": "Pariser Platz"}},
            "[place: Gate, Pariser Platz (52.516300, 13.377700)]",
        ),
        ({"contact": {"phone_number": "+491", "first_name": "Zoe", "last_name": "Q"}}, "[contact: Zoe Q, +491]"),
        ({"poll": QUESTION}, "[poll: Pizza?]\n- Yes\n- No"),
        ({"dice": {"emoji": "🎲", "value": 4}}, "[🎲 4]"),
        ({"story": {"chat": HOME, "id": 1}}, "[a story of Ada Lovelace, which bots cannot see]"),
        (
            {
                "checklist": {
                    "title": "Buy",
                    "tasks": [{"id": 1, "text": "milk"}, {"id": 2, "text": "tea", "completion_date": 9}],
                }
            },
            "[checklist: Buy]\n- [ ] milk\n- [x] tea",
        ),
    ],
)
def test_what_is_neither_text_nor_file_can_be_read(reader: Reader, chats: Chats, fields: Json, text: str) -> None:
    assert message(read(reader, message=chats.add(HOME, sender=ADA, **fields))).text == text


def test_an_album_is_one_message(reader: Reader, chats: Chats) -> None:
    parts = [
        message(read(reader, message=chats.add(HOME, sender=ADA, photo=[file_of(width=1, height=1)], **more)))
        for more in ({}, {"caption": "Holidays"})
    ]
    found = together(parts)
    assert (found.message_id, found.text, len(found.files)) == (parts[0].message_id, "Holidays", 2)


# --- to whom --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "marks", "is_mention"),
    [
        ("🤖 @andy_test_bot hello", [("mention", "@andy_test_bot")], True),
        ("@Andy_Test_Bot hello", [("mention", "@Andy_Test_Bot")], True),
        ("/stop@andy_test_bot", [("bot_command", "/stop@andy_test_bot")], True),
        ("@andy_test_bot2 hello", [("mention", "@andy_test_bot2")], False),
        ("Andy, hello", [("text_mention", "Andy", {"user": BOT})], True),
        ("Ben, hello", [("text_mention", "Ben", {"user": BEN})], False),
        ("the @andy_test_bot of this test", [], False),
        ("/help", [("bot_command", "/help")], False),
    ],
)
def test_a_mention_is_what_telegram_marks_as_one(
    reader: Reader, chats: Chats, text: str, marks: list[Any], is_mention: bool
) -> None:
    entities = [entity(kind, text, part, **(more[0] if more else {})) for kind, part, *more in marks]
    found = message(read(reader, message=chats.add(FAMILY, sender=ADA, text=text, entities=entities)))
    assert (found.is_mention, found.text) == (is_mention, text)


def test_a_caption_can_mention_too(reader: Reader, chats: Chats) -> None:
    marks = [entity("mention", "@andy_test_bot look", "@andy_test_bot")]
    photo = [file_of(width=1, height=1)]
    said = chats.add(FAMILY, sender=ADA, caption="@andy_test_bot look", caption_entities=marks, photo=photo)
    assert message(read(reader, message=said)).is_mention


def test_a_reply_to_the_bot_is_a_mention(reader: Reader, chats: Chats) -> None:
    answer = chats.add(FAMILY, sender=BOT, text="Shall I?")
    assert message(read(reader, message=chats.add(FAMILY, sender=ADA, text="Yes", reply_to_message=answer))).is_mention


def test_a_command_for_another_bot_is_none_of_ours(reader: Reader, chats: Chats) -> None:
    marks = [entity("bot_command", "/stop@other_bot", "/stop@other_bot")]
    assert read(reader, message=chats.add(FAMILY, sender=ADA, text="/stop@other_bot", entities=marks)) is None


def test_unless_it_mentions_this_bot_as_well(reader: Reader, chats: Chats) -> None:
    text = "/ask@other_bot what @andy_test_bot thinks"
    marks = [entity("bot_command", text, "/ask@other_bot"), entity("mention", text, "@andy_test_bot")]
    assert message(read(reader, message=chats.add(FAMILY, sender=ADA, text=text, entities=marks))).is_mention


# --- what happens to messages ---------------------------------------------------------------------------------------------


def test_an_edit_is_about_the_message_and_has_an_id_of_its_own(reader: Reader, chats: Chats) -> None:
    said = chats.add(HOME, sender=ADA, text="helo")
    edited = message(read(reader, edited_message=chats.change(said, text="hello")))
    assert (edited.kind, edited.about, edited.text) == (InboundKind.EDIT, str(said["message_id"]), "hello")
    again = message(reader.read({"update_id": 1002, "edited_message": chats.change(said, text="Hello")}))
    assert len({edited.message_id, again.message_id, str(said["message_id"])}) == 3


def test_a_live_location_does_not_edit_all_the_time(reader: Reader, chats: Chats) -> None:
    said = chats.add(HOME, sender=ADA, location=SPOT)
    assert read(reader, edited_message=chats.change(said, location=SPOT)) is None


def reaction(said: Json, *signs: Json) -> Json:
    place = {"chat": said["chat"], "message_id": said["message_id"], "user": BEN, "date": 1_800_000_000}
    return place | {"old_reaction": [], "new_reaction": list(signs)}


@pytest.mark.parametrize(
    ("signs", "text"),
    [
        ([{"type": "emoji", "emoji": "👍"}], "👍"),
        ([{"type": "emoji", "emoji": "👍"}, {"type": "emoji", "emoji": "🎉"}], "👍 🎉"),
        ([{"type": "custom_emoji", "custom_emoji_id": "5"}], "(a custom emoji)"),
        ([{"type": "paid"}], "⭐"),
        ([], ""),
    ],
)
def test_a_reaction_is_about_its_message(reader: Reader, chats: Chats, signs: list[Json], text: str) -> None:
    said = chats.add(FAMILY, sender=ADA, text="hello")
    found = message(read(reader, message_reaction=reaction(said, *signs)))
    assert (found.kind, found.about, found.text) == (InboundKind.REACTION, str(said["message_id"]), text)
    assert (found.sender.name, found.is_group) == ("Ben", True)


def test_a_pressed_button_answers_its_question(reader: Reader, chats: Chats) -> None:
    buttons = {"inline_keyboard": [[{"text": "Yes", "callback_data": "approval:12:yes"}]]}
    place = {"message_thread_id": 7, "is_topic_message": True}
    asked = chats.add(FORUM, sender=BOT, text="Really?", reply_markup=buttons, **place)
    query = {"id": "77", "from": BEN, "message": asked, "chat_instance": "1", "data": "approval:12:yes"}
    found = read(reader, callback_query=query)
    assert isinstance(found, Press)
    assert found.answer is not None
    assert (found.query, found.under.text) == ("77", "Really?")
    assert (found.answer.kind, found.answer.about, found.answer.text) == (InboundKind.ANSWER, "approval:12", "yes")
    assert (found.answer.sender.handle, found.answer.address.thread) == ("43", "7")


def test_a_press_of_a_button_that_is_not_under_the_message_answers_nothing(reader: Reader, chats: Chats) -> None:
    buttons = {"inline_keyboard": [[{"text": "Yes", "callback_data": "approval:12:yes"}]]}
    asked = chats.add(FAMILY, sender=BOT, text="Really?", reply_markup=buttons)
    for data in ("approval:13:yes", "approval:12:maybe"):
        query = {"id": "77", "from": BEN, "message": asked, "chat_instance": "1", "data": data}
        found = read(reader, callback_query=query)
        assert isinstance(found, Press)
        assert found.answer is None


def test_a_button_under_a_message_that_telegram_forgot_answers_too(reader: Reader) -> None:
    old = {"chat": FAMILY, "message_id": 5, "date": 0}
    query = {"id": "77", "from": BEN, "message": old, "chat_instance": "1", "data": "q:y"}
    found = read(reader, callback_query=query)
    assert isinstance(found, Press)
    assert found.answer is not None
    assert (found.answer.about, found.answer.address.chat, found.under.text) == ("q", str(FAMILY["id"]), "")


@pytest.mark.parametrize("data", [None, "", "nothing", ":", "q:"])
def test_a_foreign_button_answers_nothing(reader: Reader, chats: Chats, data: str | None) -> None:
    query = {"id": "77", "from": BEN, "message": chats.add(HOME, sender=BOT, text="x"), "chat_instance": "1", "data": data}
    found = read(reader, callback_query=query)
    assert isinstance(found, Press)
    assert found.answer is None


def test_both_ends_of_a_migration_say_the_same(reader: Reader, chats: Chats) -> None:
    new = chats.upgrade(CLUB)
    told = [
        chats.add(CLUB, sender=ADA, migrate_to_chat_id=new["id"]),
        chats.add(new, sender=ADA, migrate_from_chat_id=CLUB["id"]),
    ]
    assert [read(reader, message=said) for said in told] == [Moved(old=str(CLUB["id"]), new=str(new["id"]))] * 2


def test_a_chat_that_takes_the_bot_back_can_be_reached(reader: Reader) -> None:
    change = {
        "chat": HOME,
        "from": ADA,
        "date": 1_800_000_000,
        "old_chat_member": {"status": "kicked", "user": BOT, "until_date": 0},
    }
    assert read(reader, my_chat_member=change | {"new_chat_member": {"status": "member", "user": BOT}}) == Reachable(chat="42")
    left = {"status": "left", "user": BOT}
    assert read(reader, my_chat_member=change | {"new_chat_member": left}) is None


# --- noise ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {"new_chat_members": [BEN]},
        {"left_chat_member": BEN},
        {"new_chat_title": "Kin"},
        {"pinned_message": {"chat": FAMILY, "message_id": 3, "date": 0}},
        {"forum_topic_created": {"name": "Garden", "icon_color": 1}},
        {"something_of_next_year": {"x": 1}},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_service_messages_say_nothing(reader: Reader, chats: Chats, fields: Json) -> None:
    assert read(reader, message=chats.add(FAMILY, sender=ADA, **fields)) is None


def test_an_unknown_kind_of_update_says_nothing(reader: Reader) -> None:
    assert read(reader, hologram={"depth": 3}) is None


@pytest.mark.parametrize(
    "payload",
    [
        {"message": {"message_id": 1}},
        {"message": "hello"},
        {"message": {"message_id": 1, "date": "yesterday", "chat": HOME, "text": "x"}},
        {"message": {"message_id": 1, "date": 10**20, "chat": HOME, "text": "x"}},
        {"callback_query": {"id": "1"}},
        {"message_reaction": {"chat": HOME}},
        {"message": {"message_id": 1, "date": 1, "chat": HOME, "text": "x", "entities": [{"type": "mention"}]}},
    ],
)
def test_a_malformed_update_raises_what_the_loop_expects(reader: Reader, payload: Json) -> None:
    with pytest.raises(MALFORMED):
        read(reader, **payload)


def test_another_bots_messages_have_other_names(chats: Chats) -> None:
    place = Place.of("1:1001:0", bot_id=BOT["id"])
    said = chats.add(HOME, sender=ADA, text="hi")
    found = message(Reader(ME, place).read({"update_id": 1, "message": said}))
    assert found.message_id == f"{said['message_id']}.bot1"
