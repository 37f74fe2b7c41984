"""Files that a worker hands over: kept as they are named, only so many, and gone when their call has ended."""

from __future__ import annotations

import hashlib
import io
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import anyio
import msgspec
import pytest
from structlog.testing import capture_logs

from nanoclaw_core.errors import ActionRefused, DiskLow
from nanoclaw_core.gateway import uploads
from nanoclaw_core.gateway.parameters import file_rules, tool_of, tools_of
from nanoclaw_core.models import OutboundFile, UploadedFile
from nanoclaw_core.ports import Action, ActionCall

HELLO = b"hello"


@dataclass(frozen=True, kw_only=True)
class Papers:
    one: Annotated[UploadedFile, msgspec.Meta(description="The first.")]
    other: UploadedFile | None = None
    more: tuple[UploadedFile, ...] = ()
    copies: int = 1


@dataclass
class Reader:
    """An action that reads what it is given."""

    read: list[tuple[str, int, str, bytes]] = field(default_factory=list)
    raises: Exception | None = None

    async def __call__(self, call: ActionCall, parameters: Papers) -> str:
        if self.raises:
            raise self.raises
        for file in (parameters.one, *filter(None, (parameters.other,)), *parameters.more):
            self.read.append((file.name, file.size, file.media_type, file.path.read_bytes()))
        return f"read {len(self.read)}"


@pytest.fixture
def reader() -> Reader:
    return Reader()


@pytest.fixture
async def rig(make_rig: Any, reader: Reader) -> AsyncIterator[Any]:
    async with make_rig(actions=[Action(name="read", description="Read.", parameters=Papers, handler=reader)]) as rig:
        yield rig


def name_of(content: bytes, copy: int = 1) -> str:
    return f"{hashlib.sha256(content).hexdigest()}-{copy:016x}"


async def put(rig: Any, content: Any = HELLO, name: str | None = None, **headers: str) -> tuple[int, str]:
    url = f"http://gateway/files/{name or name_of(content)}"
    async with rig.client.put(url, data=content, headers=headers) as answer:
        return answer.status, (await answer.json()).get("error", {}).get("message", "")


def kept(rig: Any) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in rig.calls.folder.iterdir()}


async def call(rig: Any, arguments: Any, key: str = "k1") -> tuple[bool, str]:
    params = {"name": "read", "arguments": arguments, "_meta": {"claudecode/toolUseId": key}}
    _, _, body = await rig.ask("/mcp", {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
    return body["result"]["isError"], body["result"]["content"][0]["text"]


def reference(path: str = "a.txt", content: bytes = HELLO, copy: int = 1) -> dict[str, str]:
    return {"path": path, "upload": name_of(content, copy)}


# --- what is taken in -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", HELLO, b"\0\xff" * 2_000_000], ids=len)
async def test_a_file_is_kept_whole_under_the_name_of_its_content(rig: Any, content: bytes) -> None:
    assert await put(rig, io.BytesIO(content), name_of(content)) == (201, "")
    assert kept(rig) == {name_of(content): content}
    (path,) = rig.calls.folder.iterdir()
    assert path.stat().st_mode & 0o777 == 0o600


async def test_the_same_upload_again_changes_nothing(rig: Any) -> None:
    """So does a runner whose host died before it answered."""
    for _ in range(2):
        assert (await put(rig))[0] == 201
    assert kept(rig) == {name_of(HELLO): HELLO}


async def test_another_content_than_its_name_says_is_not_kept(rig: Any) -> None:
    status, reason = await put(rig, b"other", name_of(HELLO))
    assert (status, reason) == (422, "the file changed while it was handed over; call again")
    assert kept(rig) == {}


@pytest.mark.parametrize(
    "name",
    [
        "..%2f..%2fnanoclaw.db",
        "../outbound.db",
        "a" * 64,
        "A" * 64 + "-" + "0" * 16,
        "a" * 64 + "-" + "0" * 16 + ".part",
        "a" * 64 + "-" + "0" * 16 + "%00",
        "a" * 64 + "-" + "0" * 16 + "/..",
        "%2e%2e",
        "",
    ],
)
async def test_a_name_that_is_no_content_and_copy_exists_nowhere(rig: Any, name: str) -> None:
    async with await anyio.connect_unix(rig.socket) as stream:
        await stream.send(f"PUT /files/{name} HTTP/1.1\r\nHost: g\r\nContent-Length: 5\r\n\r\nhello".encode())
        assert b" 404 " in (await stream.receive())[:20]
    assert sorted(path.name for path in rig.calls.folder.parent.iterdir()) == ["outbox", "workers"]
    assert kept(rig) == {}


async def test_what_is_too_long_is_refused_before_it_comes(rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MOST_BYTES", 4)
    assert await put(rig) == (413, "a file may have at most 0 MiB")
    assert kept(rig) == {}


async def test_a_file_without_an_end_is_refused(rig: Any) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 1000

    assert await put(rig, endless(), name_of(HELLO)) == (411, "a file needs a Content-Length")


async def test_a_compressed_file_is_refused(rig: Any) -> None:
    status, _ = await put(rig, io.BytesIO(HELLO), name_of(HELLO), **{"Content-Encoding": "gzip"})
    assert status == 415


async def begin(rig: Any, length: int, name: str | None = None) -> Any:
    stream = await anyio.connect_unix(rig.socket)
    head = f"PUT /files/{name or name_of(HELLO)} HTTP/1.1\r\nHost: g\r\nContent-Length: {length}\r\n\r\n"
    await stream.send(head.encode() + b"h")
    return stream


async def begun(rig: Any, count: int = 1) -> None:
    while len(kept(rig)) != count:  # noqa: ASYNC110  # nobody announces it
        await anyio.sleep(0.001)


async def test_what_breaks_off_leaves_nothing(rig: Any) -> None:
    with anyio.fail_after(30):
        async with await begin(rig, 5):
            await begun(rig)
        await begun(rig, 0)


async def test_what_comes_too_slowly_is_given_up(rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "WITHIN", 0.02)
    with anyio.fail_after(30):
        async with await begin(rig, 5) as stream:
            assert b" 408 " in (await stream.receive())[:20]
    assert kept(rig) == {}


async def test_only_two_come_at_a_time_and_others_when_they_have_ended(rig: Any) -> None:
    with anyio.fail_after(30):
        held = [await begin(rig, 5) for _ in range(3)]
        await begun(rig, 2)
        for stream in held:
            await stream.aclose()
        await begun(rig, 0)
        assert (await put(rig))[0] == 201


async def test_only_so_many_are_kept(rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MOST_FILES", 2)
    statuses = [(await put(rig, HELLO, name_of(HELLO, copy)))[0] for copy in range(4)]
    assert statuses == [201, 201, 429, 429]
    assert len(kept(rig)) == 2


async def test_only_so_much_is_kept_and_what_is_on_its_way_counts_whole(rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MOST_KEPT", 100)
    with anyio.fail_after(30):
        async with await begin(rig, 98):
            await begun(rig)
            status, reason = await put(rig)
            assert (status, "can wait to be sent" in reason) == (429, True)
        await begun(rig, 0)
        assert (await put(rig))[0] == 201


async def test_a_full_disk_is_no_place_for_more(rig: Any) -> None:
    rig.calls.full = DiskLow(Path("/home"), 1, 512)
    status, reason = await put(rig)
    assert status == 507
    assert "512" in reason
    assert kept(rig) == {}


async def test_a_disk_that_fails_leaves_the_reason(rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    assert await put(rig) == (507, "the host cannot keep the file: No space left on device")
    assert kept(rig) == {}


# --- what a call gets -------------------------------------------------------------------------------------------------------


async def test_a_call_gets_the_hosts_copy_and_what_nobody_needs_any_more_is_released(rig: Any, reader: Reader) -> None:
    for copy in (1, 2, 3):
        await put(rig, HELLO, name_of(HELLO, copy))
    arguments = {
        "one": reference("../Rép\u202eort?.PDF"),
        "other": reference("/etc/.passwd", copy=2),
        "more": [reference("b.txt", copy=3)],
    }
    assert await call(rig, arguments) == (False, "read 3")
    assert reader.read == [
        ("Réport_.PDF", 5, "application/pdf", HELLO),
        ("passwd", 5, "", HELLO),
        ("b.txt", 5, "text/plain", HELLO),
    ]
    assert rig.calls.released == [name_of(HELLO, copy) for copy in (1, 2, 3)]


async def test_a_call_is_known_by_path_and_content_whatever_copy_it_brings(rig: Any) -> None:
    for copy in (1, 2):
        await put(rig, HELLO, name_of(HELLO, copy))
        await call(rig, {"one": reference(copy=copy)}, f"k{copy}")
    await put(rig, b"other")
    await call(rig, {"one": reference(content=b"other")}, "k3")
    texts = [text for _, _, text in rig.calls.asked]
    digest = hashlib.sha256(HELLO).hexdigest()
    assert texts[0] == texts[1] == f'{{"one":{{"path":"a.txt","sha256":"{digest}"}}}}'
    assert texts[2] not in texts[:2]


async def test_a_call_that_was_made_before_is_answered_although_its_file_is_gone(rig: Any, reader: Reader) -> None:
    await put(rig)
    assert await call(rig, {"one": reference()}) == (False, "read 1")
    (rig.calls.folder / name_of(HELLO)).unlink()
    assert await call(rig, {"one": reference()}) == (False, "read 1")
    assert len(reader.read) == 1


async def test_a_call_whose_file_is_gone_is_not_carried_out(rig: Any, reader: Reader) -> None:
    is_error, text = await call(rig, {"one": reference()})
    assert is_error
    assert "Call again" in text
    assert reader.read == []


async def test_a_call_whose_outcome_cannot_be_stored_keeps_its_file(rig: Any) -> None:
    await put(rig)
    rig.calls.broken = ActionRefused("Nothing was done.")
    assert await call(rig, {"one": reference()}) == (True, "Nothing was done.")
    assert rig.calls.released == []


async def test_a_file_that_cannot_be_released_takes_nothing_from_the_outcome(rig: Any) -> None:
    await put(rig)
    rig.calls.full = DiskLow(Path("/home"), 1, 512)
    assert await call(rig, {"one": reference()}) == (False, "read 1")


async def test_a_refusal_is_an_outcome(rig: Any, reader: Reader) -> None:
    reader.raises = ActionRefused("I cannot read.")
    await put(rig)
    assert await call(rig, {"one": reference()}) == (True, "I cannot read.")
    assert rig.calls.released == [name_of(HELLO)]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("a.txt", "`one` is a file, and the runner in the container did not hand it over"),
        ({"path": "a.txt", "problem": "a.txt: there is no such file"}, "a.txt: there is no such file"),
        ({"path": "a.txt", "upload": "../../nanoclaw.db"}, "`one` is a file"),
        ({"path": "a.txt", "upload": ["x"]}, "`one` is a file"),
        ({"path": 7, "upload": name_of(HELLO)}, "`one` is a file"),
        ({"name": "a", "path": "/etc/passwd", "size": 1, "media_type": ""}, "`one` is a file"),
        ([reference()], "Expected `object`, got `array` - at `$.one`"),
        (None, "Expected `object`, got `null` - at `$.one`"),
        (7, "`one` is a file"),
    ],
)
async def test_what_was_not_handed_over_is_explained(rig: Any, reader: Reader, value: Any, reason: str) -> None:
    await put(rig)
    is_error, text = await call(rig, {"one": value})
    assert is_error
    assert text.startswith(f"read was not called: {reason}")
    assert rig.calls.asked == []
    assert reader.read == []


# --- what an agent sees -----------------------------------------------------------------------------------------------------


def action_of(parameters: type) -> Action[Any]:
    return Action(name="it", description="It.", parameters=parameters, handler=Reader())


def test_a_file_is_a_path_for_the_agent() -> None:
    tool = tool_of(action_of(Papers))
    fields = tool.schema["properties"]
    assert fields["one"] == {"type": "string", "description": "The first."}
    path = {"type": "string", "description": "The path of a file, relative to /workspace or absolute."}
    assert fields["other"]["anyOf"] == [path, {"type": "null"}]
    assert fields["more"]["items"] == path
    assert "$defs" not in tool.schema
    assert tool.files == ("one", "other", "more")


@dataclass(frozen=True, kw_only=True)
class Folder:
    file: UploadedFile


@dataclass(frozen=True, kw_only=True)
class Nested:
    folder: Folder


@dataclass(frozen=True, kw_only=True)
class Named:
    files: dict[str, UploadedFile]


@dataclass(frozen=True, kw_only=True)
class OfTheHost:
    file: OutboundFile


@dataclass(frozen=True, kw_only=True)
class Somewhere:
    path: Path


@pytest.mark.parametrize("parameters", [Nested, Named, OfTheHost, Somewhere])
def test_what_no_agent_could_hand_over_makes_an_action_unusable(parameters: type) -> None:
    with capture_logs() as logs:
        assert tools_of([action_of(parameters)]) == {}
    assert [line["event"] for line in logs] == ["action.unusable"]
    assert file_rules([action_of(parameters)])["parameters"] == {}
