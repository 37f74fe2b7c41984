"""Files both ways."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nanoclaw_core import Address, InboundFile, OutboundFile, OutboundMessage, Receipt, Refused, TryLater
from nanoclaw_telegram.channel import TelegramChannel
from nanoclaw_telegram.uploads import kind_of
from tests.peers.host import Host
from tests.peers.telegram import Drop, Garbage, Refusal, TelegramPeer
from tests.peers.telegram_chats import HOME, Json

PRIVATE = Address(channel="telegram", chat=str(HOME["id"]))


async def fetched(telegram: TelegramChannel, file: InboundFile) -> bytes:
    return b"".join([chunk async for chunk in telegram.fetch(file)])


# --- from people ----------------------------------------------------------------------------------------------------------


async def test_a_file_of_a_person_is_fetched_also_by_a_later_host(
    platform: TelegramPeer, host: Host, settings: dict[str, str]
) -> None:
    content = bytes(range(256)) * 4000
    platform.say(document={**platform.chats.store(content, "documents/a b&c.bin"), "file_name": "../a b&c.bin"})
    async with host.running(TelegramChannel(host.context(settings))):
        (message,) = await host.received()
    (file,) = message.files
    assert (file.name, file.size) == ("../a b&c.bin", len(content))
    assert await fetched(TelegramChannel(host.context(settings)), file) == content


async def test_an_empty_file_is_fetched(platform: TelegramPeer, telegram: TelegramChannel) -> None:
    stored = platform.chats.store(b"")
    assert await fetched(telegram, InboundFile(name="", reference=stored["file_id"])) == b""


async def test_a_file_that_is_too_large_for_bots_is_refused(platform: TelegramPeer, telegram: TelegramChannel) -> None:
    stored = platform.chats.store(b"", "videos/film.mp4", size=21 * 2**20)
    with pytest.raises(Refused, match="larger than 20 MB"):
        await fetched(telegram, InboundFile(name="film.mp4", reference=stored["file_id"]))


async def test_a_file_that_telegram_forgot_is_refused(platform: TelegramPeer, telegram: TelegramChannel) -> None:
    with pytest.raises(Refused, match="Wrong file_id"):
        await fetched(telegram, InboundFile(name="x", reference="other"))
    stored = platform.chats.store(b"x")
    platform.chats.paths.clear()
    with pytest.raises(Refused, match="HTTP 404"):
        await fetched(telegram, InboundFile(name="x", reference=stored["file_id"]))


@pytest.mark.parametrize("failure", [Drop(), Refusal(code=429, retry_after=3), Garbage(status=502)])
async def test_a_download_that_broke_can_be_tried_again(
    platform: TelegramPeer, telegram: TelegramChannel, failure: Drop | Refusal | Garbage
) -> None:
    file = InboundFile(name="x", reference=platform.chats.store(b"content")["file_id"])
    platform.script("file", failure)
    with pytest.raises(TryLater):
        await fetched(telegram, file)
    assert await fetched(telegram, file) == b"content"


async def test_a_server_that_keeps_its_files_to_itself_is_explained(
    platform: TelegramPeer, telegram: TelegramChannel, tmp_path: Path
) -> None:
    kept = tmp_path / "file.bin"
    kept.write_bytes(b"x")
    stored = platform.chats.store(b"x")
    platform.chats.files[stored["file_id"]]["file_path"] = str(kept)
    with pytest.raises(Refused, match="--local"):
        await fetched(telegram, InboundFile(name="x", reference=stored["file_id"]))


# --- to people ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def written(tmp_path: Path) -> Any:
    def write(name: str, content: bytes = b"content", **more: Any) -> OutboundFile:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.kept"
        path.write_bytes(content)
        return OutboundFile(name=name, path=path, **({"size": len(content)} | more))

    return write


def with_files(*files: OutboundFile, text: str = "", **more: Any) -> OutboundMessage:
    return OutboundMessage(to=PRIVATE, text=text, key="s:1:0", files=files, **more)


def shown(platform: TelegramPeer, receipt: Receipt) -> list[Json]:
    ids = [receipt.message_id, *receipt.others]
    return [platform.chats.messages[HOME["id"], int(message_id)] for message_id in ids]


@pytest.mark.parametrize(
    ("name", "media_type", "kind"),
    [
        ("a.png", "", "photo"),
        ("a.bin", "image/jpeg", "photo"),
        ("a.gif", "", "animation"),
        ("a.mp4", "", "video"),
        ("a.mp3", "", "audio"),
        ("a.ogg", "audio/ogg; codecs=opus", "voice"),
        ("a.pdf", "", "document"),
        ("a.svg", "", "document"),
        ("noending", "", "document"),
    ],
)
async def test_a_file_is_shown_as_what_it_is(
    platform: TelegramPeer, telegram: TelegramChannel, written: Any, name: str, media_type: str, kind: str
) -> None:
    receipt = await telegram.send(with_files(written(name, media_type=media_type), text="**Look**"))
    (message,) = shown(platform, receipt)
    assert kind in message
    assert message["caption"] == "Look"
    (upload,) = platform.calls[-1].files.values()
    assert (upload.name, upload.content) == (name, b"content")


def test_a_huge_picture_goes_as_a_file(written: Any) -> None:
    assert kind_of(written("a.png", size=11_000_000)) == "document"


async def test_a_picture_that_telegram_cannot_show_goes_as_a_file(
    platform: TelegramPeer, telegram: TelegramChannel, written: Any
) -> None:
    platform.script("sendPhoto", Refusal(code=400, description="Bad Request: PHOTO_INVALID_DIMENSIONS"))
    receipt = await telegram.send(with_files(written("long.png"), text="Look"))
    (message,) = shown(platform, receipt)
    assert ("document" in message, message["caption"]) == (True, "Look")
    (upload,) = platform.calls[-1].files.values()
    assert upload.content == b"content"


async def test_a_caption_that_telegram_cannot_show_goes_as_it_is(
    platform: TelegramPeer, telegram: TelegramChannel, written: Any
) -> None:
    platform.script("sendDocument", Refusal(code=400, description="Bad Request: can't parse entities: no idea"))
    receipt = await telegram.send(with_files(written("a.txt"), text="**Here**"))
    assert [message["caption"] for message in shown(platform, receipt)] == ["**Here**"]


async def test_pictures_and_films_are_an_album_with_one_caption(
    platform: TelegramPeer, telegram: TelegramChannel, written: Any
) -> None:
    files = [written("a.jpg", b"1"), written("b.mp4", b"2"), written("c.png", b"3")]
    receipt = await telegram.send(with_files(*files, text="Holidays"))
    messages = shown(platform, receipt)
    assert [next(iter(message.keys() & {"photo", "video"})) for message in messages] == ["photo", "video", "photo"]
    assert [message["caption"] for message in messages] == ["Holidays", "", ""]
    assert sorted(upload.content for upload in platform.calls[-1].files.values()) == [b"1", b"2", b"3"]


async def test_a_mixture_goes_together_as_files(platform: TelegramPeer, telegram: TelegramChannel, written: Any) -> None:
    receipt = await telegram.send(with_files(written("a.jpg"), written("b.pdf"), text="Both"))
    messages = shown(platform, receipt)
    assert ["document" in message for message in messages] == [True, True]
    assert [message["caption"] for message in messages] == ["Both", ""]


async def test_files_answer_in_the_place_of_the_question(
    platform: TelegramPeer, telegram: TelegramChannel, written: Any
) -> None:
    asked = platform.say("Where is it?")
    receipt = await telegram.send(with_files(written("a.pdf"), reply_to=str(asked["message_id"])))
    assert shown(platform, receipt)[0]["reply_to_message"]["text"] == "Where is it?"


@pytest.mark.parametrize(
    ("content", "more", "reason"), [(b"", {}, "is empty"), (b"x", {"size": 3_000_000_000}, "may send 2000 MB")]
)
async def test_a_file_that_telegram_would_not_take_is_refused_before_it_leaves(
    platform: TelegramPeer, telegram: TelegramChannel, written: Any, content: bytes, more: dict[str, int], reason: str
) -> None:
    with pytest.raises(Refused, match=reason):
        await telegram.send(with_files(written("a.pdf", content, **more)))
    assert platform.calls == []


async def test_an_answer_with_a_file_takes_its_preview_away(
    platform: TelegramPeer, telegram: TelegramChannel, written: Any
) -> None:
    preview = await telegram.send(with_files(text="I th"))
    receipt = await telegram.send(with_files(written("a.pdf"), text="I think", replaces=preview.message_id))
    (message,) = platform.chats.messages.values()
    assert (str(message["message_id"]), message["caption"]) == (receipt.message_id, "I think")


async def test_a_file_that_is_gone_is_refused(telegram: TelegramChannel, tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"a\.pdf cannot be read"):
        await telegram.send(with_files(OutboundFile(name="a.pdf", path=tmp_path / "gone", size=1)))


def test_what_may_be_sent_depends_on_the_server(host: Host) -> None:
    def largest(**settings: str) -> int:
        return TelegramChannel(host.context(settings)).capabilities.max_file_size

    assert largest() == largest(TELEGRAM_API_URL="https://api.telegram.org/") == 50_000_000
    assert largest(TELEGRAM_API_URL="http://localhost:8081") == 2_000_000_000
