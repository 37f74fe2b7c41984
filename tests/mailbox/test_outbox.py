"""Files that a session sends stay until nobody sends them any more, and not longer."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nanoclaw_core.mailbox import Mailbox, Mailboxes, NewOutbound, NewRow
from nanoclaw_core.mailbox.pruning import DAY
from nanoclaw_core.models import Address, OutboundFile, OutboundKind, Push, Session

HERE = Address(channel="fake", chat="chat-1")
NOW = 1_800_000_000.0


@pytest.fixture
def mailboxes(tmp_path: Path) -> Mailboxes:
    return Mailboxes(tmp_path, now=lambda: NOW)


async def file(mailbox: Mailbox, name: str, age: float = 0.0) -> OutboundFile:
    path = await mailbox.outbox() / name
    path.write_text(name)
    os.utime(path, (NOW - age, NOW - age))
    return OutboundFile(name=f"{name}.txt", path=Path("outbox", name), size=len(name))


def there(mailbox: Mailbox) -> list[str]:
    return sorted(path.name for path in (mailbox.folder / "outbox").iterdir())


async def send(mailbox: Mailbox, key: str, *files: OutboundFile) -> int:
    await mailbox.add_outbound(key, NewOutbound(to=HERE, text=key, files=files))
    row = await mailbox.queued_as(key)
    assert row is not None
    return row.seq


async def test_nobody_else_can_look_into_it(mailbox: Mailbox) -> None:
    assert (await mailbox.outbox()).stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("is_delivered", [True, False])
async def test_a_file_goes_with_the_last_receipt(mailbox: Mailbox, is_delivered: bool) -> None:
    seq = await send(mailbox, "call-1", await file(mailbox, "a"), await file(mailbox, "b"))
    await file(mailbox, "of-a-call")
    await mailbox.sending(seq, 0)
    await mailbox.sent(seq, 0, "m1")
    assert there(mailbox) == ["a", "b", "of-a-call"]
    await (mailbox.delivered(seq) if is_delivered else mailbox.undeliverable(seq, "refused"))
    assert there(mailbox) == ["of-a-call"]


async def test_a_file_that_another_row_sends_stays_for_it(mailbox: Mailbox) -> None:
    first, second = [await send(mailbox, key, await file(mailbox, "a")) for key in ("call-1", "call-2")]
    await mailbox.delivered(second)
    assert there(mailbox) == ["a"]
    await mailbox.delivered(first)
    assert there(mailbox) == []


async def test_a_file_is_released_unless_something_sends_it(mailbox: Mailbox) -> None:
    await send(mailbox, "call-1", await file(mailbox, "a"))
    await file(mailbox, "b")
    await mailbox.release(["a", "b", "gone", "../outbound.db"])
    assert there(mailbox) == ["a"]
    assert (mailbox.folder / "outbound.db").exists()


async def test_what_was_left_behind_goes_after_a_day(mailboxes: Mailboxes, mailbox: Mailbox, session: Session) -> None:
    """Of a worker or a host that died between an upload and its call, or between a receipt and the deleting."""
    await send(mailbox, "call-1", await file(mailbox, "waits", age=9 * DAY))
    await file(mailbox, "young", age=DAY / 2)
    await file(mailbox, "old", age=2 * DAY)
    await file(mailbox, "old.part", age=2 * DAY)
    await mailboxes.prune(session, NOW - 30 * DAY)
    assert there(mailbox) == ["waits", "young"]


async def test_a_session_without_files_can_be_pruned(mailboxes: Mailboxes, mailbox: Mailbox, session: Session) -> None:
    await mailboxes.prune(session, NOW - 30 * DAY)
    assert not (mailbox.folder / "outbox").exists()


async def test_names_of_files_and_labels_go_when_their_texts_do(tmp_path: Path, session: Session) -> None:
    now = [NOW]
    mailboxes = Mailboxes(tmp_path, now=lambda: now[0])
    mailbox = await mailboxes.open(session)
    seq = await send(mailbox, "call-1", await file(mailbox, "a"))
    await mailbox.add_outbound("call-2", NewOutbound(to=HERE, text="", files=(await file(mailbox, "b"),)))
    await mailbox.delivered(seq)
    await mailbox.delivered(seq + 1)
    now[0] += 60 * DAY
    last = await send(mailbox, "call-3")
    await mailbox.delivered(last)
    await mailboxes.prune(session, now[0] - 30 * DAY)
    rows = [await mailbox.queued_as(key) for key in ("call-1", "call-2")]
    assert [(row.text, row.files) for row in rows if row] == [("", ()), ("", ())]
    now[0] += 370 * DAY
    await mailbox.delivered(await send(mailbox, "call-4"))
    await mailboxes.prune(session, now[0] - 30 * DAY)
    assert [await mailbox.queued_as(key) for key in ("call-1", "call-2")] == [None, None]
    await mailboxes.close()


async def test_only_what_an_action_has_said_is_spoken(mailbox: Mailbox) -> None:
    await mailbox.add_outbound("call-1", NewOutbound(to=HERE, text="mine"))
    await mailbox.add_outbound("unasked-1", NewOutbound(to=HERE, text="an answer"))
    await mailbox.add_outbound("call-2", NewOutbound(to=HERE, text="👍", kind=OutboundKind.REACTION, about="m1"))
    await mailbox.undeliverable(1, "the platform refused it")
    spoken = [await mailbox.spoken(seq) for seq in range(5)]
    assert [each and (each.row.text, each.refused) for each in spoken] == [
        None,
        ("mine", "the platform refused it"),
        None,
        None,
        None,
    ]


async def test_a_row_is_heard_when_it_was_pushed(mailbox: Mailbox) -> None:
    rows = [
        NewRow(id=f"r{n}", address=HERE, message_id=f"m{n}", sender_id="a", sender_name="A", text="t", sent_at=1.0)
        for n in (1, 2)
    ]
    await mailbox.add_rows(rows)
    assert await mailbox.heard(1) is None
    await mailbox.record_push(Push(uuid="u1", text="p"), ["r1"], "w1")
    heard = await mailbox.heard(1)
    assert heard is not None
    assert heard.message_id == "m1"
    await mailbox.fail_rows(["r1"], [], "failed")
    assert await mailbox.heard(1) == heard
    assert [await mailbox.heard(seq) for seq in (0, 2, 3)] == [None, None, None]
