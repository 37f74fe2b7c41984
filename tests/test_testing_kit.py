"""The test kit: the fakes keep their ports' rules, and every guard fails what it should and nothing else."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import anyio
import pytest

from nanoclaw_core import Capabilities, Refused, TryLater
from nanoclaw_core.models import Address, OutboundMessage
from nanoclaw_core.ports import Channel, ChannelContext, Clock, SettlingChannel, TypingChannel
from nanoclaw_core.testing import ChannelContract, FakeChannel, FakeClock, FakeStreamingChannel, Platform, Shown
from nanoclaw_core.testing.contracts import Inbox, connected
from nanoclaw_core.testing.guards import GuardFailure, environment_guard, loop_guard, network_guard, refuse_real_models

pytest_plugins = ["pytester"]

FAR = ("192.0.2.1", 9)  # TEST-NET-1: nobody is there


# --- clock ----------------------------------------------------------------------------------------------------------------


async def test_sleepers_wake_in_the_order_of_their_moments(nanoclaw_clock: FakeClock) -> None:
    woken: list[tuple[float, float]] = []

    async def sleep(seconds: float) -> None:
        await nanoclaw_clock.sleep(seconds)
        woken.append((seconds, nanoclaw_clock.monotonic()))

    async with anyio.create_task_group() as tasks:
        for seconds in (30, 10, 20):
            tasks.start_soon(sleep, seconds)
        await nanoclaw_clock.asleep(3)
        await nanoclaw_clock.advance(25)
        assert woken == [(10, 10), (20, 20)]
        await nanoclaw_clock.advance(5)
        assert woken[2:] == [(30, 30)]


async def test_a_woken_task_can_sleep_again_within_the_same_advance(nanoclaw_clock: FakeClock) -> None:
    ticks: list[float] = []

    async def tick() -> None:
        while True:
            await nanoclaw_clock.sleep(1)
            ticks.append(nanoclaw_clock.monotonic())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tick)
        await nanoclaw_clock.advance(3.5)
        tasks.cancel_scope.cancel()
    assert ticks == [1, 2, 3]
    assert nanoclaw_clock.monotonic() == 3.5


async def test_a_cancelled_sleeper_is_forgotten(nanoclaw_clock: FakeClock) -> None:
    with anyio.move_on_after(0.001):
        await nanoclaw_clock.sleep(1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(nanoclaw_clock.sleep, 2)
        with anyio.fail_after(30):
            await nanoclaw_clock.asleep(1)
            await nanoclaw_clock.advance(2)


def test_the_fake_clock_is_a_clock(nanoclaw_clock: FakeClock) -> None:
    clock: Clock = nanoclaw_clock
    assert clock.time() == 1_800_000_000.0


# --- channel --------------------------------------------------------------------------------------------------------------


class Room(Platform):
    """The test is the platform."""

    def __init__(self) -> None:
        self.channel = FakeChannel(capabilities=Capabilities(max_length=500))

    @property
    def messages(self) -> Sequence[Shown]:
        return [Shown(id=f"sent-{number}", text=each.text) for number, each in enumerate(self.channel.outbox, 1)]

    @property
    def typings(self) -> int:
        return len(self.channel.typings)

    @property
    def reactions(self) -> Mapping[str, str]:
        return {message_id: emoji for _, message_id, emoji in self.channel.reactions}

    async def say(self, text: str, *, message_id: str | None = None) -> str:
        message_id = message_id or f"said-{text}"
        await self.channel.say(text, message_id=message_id)
        return message_id


class PlainChannel:
    """A fake channel without what its room cannot show."""

    def __init__(self, fake: FakeChannel) -> None:
        self.capabilities, self.run, self.send = fake.capabilities, fake.run, fake.send
        self.typing, self.settled, self.react = fake.typing, fake.settled, fake.react


class TestFakeChannel(ChannelContract):
    @pytest.fixture
    def platform(self) -> Room:
        return Room()

    def make_channel(self, platform: Room, context: ChannelContext) -> Channel:
        return PlainChannel(platform.channel)


class StreamingRoom(Room):
    """One that shows previews."""

    def __init__(self) -> None:
        self.channel = self.streaming = FakeStreamingChannel(capabilities=Capabilities(max_length=500))

    @property
    def messages(self) -> Sequence[Shown]:
        return [Shown(id=message_id, text=text) for message_id, text in self.streaming.screen.items()]


class PlainStreamingChannel(PlainChannel):
    """The same with previews."""

    def __init__(self, fake: FakeStreamingChannel) -> None:
        super().__init__(fake)
        self.draft = fake.draft


class TestFakeStreamingChannel(TestFakeChannel):
    @pytest.fixture
    def platform(self) -> StreamingRoom:
        return StreamingRoom()

    def make_channel(self, platform: Room, context: ChannelContext) -> Channel:
        assert isinstance(platform, StreamingRoom)
        return PlainStreamingChannel(platform.streaming)


async def test_the_screen_shows_what_became_of_previews() -> None:
    channel, to = FakeStreamingChannel(), Address(channel="fake", chat="chat-1")
    assert await channel.draft(to, "Once", "one") == "preview-1"
    assert await channel.draft(to, "Once upon", "one", "preview-1") == "preview-1"
    assert channel.screen == {"preview-1": "Once upon"}
    answer = OutboundMessage(to=to, text="Once upon a time", key="k", replaces="preview-1")
    assert (await channel.send(answer)).message_id == "preview-1"
    assert channel.screen == {"preview-1": "Once upon a time"}
    await channel.draft(to, "", "one", "preview-1")
    assert channel.screen == {}
    assert (await channel.send(answer)).message_id == "sent-2"  # it is gone, so this is a new one


def part(text: str) -> OutboundMessage:
    return OutboundMessage(to=Address(channel="fake", chat="chat-1"), text=text, key=text)


async def test_scripted_failures_come_in_turn_and_leave_nothing_in_the_outbox(nanoclaw_channel: FakeChannel) -> None:
    nanoclaw_channel.fail_next(TryLater("busy", after=3), Refused("blocked"))
    with pytest.raises(TryLater):
        await nanoclaw_channel.send(part("one"))
    with pytest.raises(Refused):
        await nanoclaw_channel.send(part("two"))
    await nanoclaw_channel.send(part("three"))
    assert [message.text for message in nanoclaw_channel.attempts] == ["one", "two", "three"]
    assert [message.text for message in await nanoclaw_channel.sent(1)] == ["three"]


async def test_a_broken_connection_ends_run_and_the_next_run_works(nanoclaw_channel: FakeChannel) -> None:
    inbox = Inbox()
    async with connected(nanoclaw_channel, inbox):
        nanoclaw_channel.break_connection(OSError("reset"))
        while nanoclaw_channel.runs < 2:  # noqa: ASYNC110  # nobody announces it
            await anyio.sleep(0.001)
        await nanoclaw_channel.say("still there?")
    assert len(inbox.messages) == 1


def test_the_factory_offers_the_channel_itself(nanoclaw_channel: FakeChannel) -> None:
    context = ChannelContext(settings={}, wake=print)
    assert nanoclaw_channel.factory().create(context) is nanoclaw_channel
    assert nanoclaw_channel.context is context
    assert isinstance(nanoclaw_channel, TypingChannel)
    assert isinstance(nanoclaw_channel, SettlingChannel)


# --- guards ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda: socket.create_connection(FAR, timeout=0.1), id="connect"),
        pytest.param(lambda: socket.getaddrinfo("example.org", 80), id="resolve"),
        pytest.param(lambda: socket.socket(type=socket.SOCK_DGRAM).sendto(b"", FAR), id="datagram"),
        pytest.param(lambda: socket.socket().connect_ex(FAR), id="connect_ex"),
    ],
)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_the_network_guard_refuses_to_leave_this_machine(call: object) -> None:
    assert callable(call)
    with pytest.raises(GuardFailure, match=r"192\.0\.2\.1|example\.org"), network_guard():
        call()


async def test_the_network_guard_sees_what_asyncio_does() -> None:
    with pytest.raises(GuardFailure, match=r"192\.0\.2\.1"), network_guard():
        await asyncio.open_connection(*FAR)


def test_the_network_guard_fails_a_test_that_swallows_the_refusal() -> None:
    with pytest.raises(GuardFailure, match=r"example\.org"), network_guard(), suppress(AssertionError):
        socket.getaddrinfo("example.org", 80)


def test_the_network_guard_lets_loopback_and_unix_sockets_through(nanoclaw_home: Path) -> None:
    with network_guard(), socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(("localhost", server.getsockname()[1])).close()
        with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
            listener.bind(str(nanoclaw_home / "s"))
            listener.listen()
            client.connect(str(nanoclaw_home / "s"))


def test_the_environment_guard_fails_a_test_that_leaves_a_variable_behind() -> None:
    with pytest.raises(GuardFailure, match="NANOCLAW_LEFT_BEHIND") as caught, environment_guard():
        os.environ["NANOCLAW_LEFT_BEHIND"] = "a value that may be secret"
    assert "secret" not in str(caught.value)
    assert "NANOCLAW_LEFT_BEHIND" not in os.environ


def test_the_environment_guard_likes_monkeypatch(monkeypatch: pytest.MonkeyPatch) -> None:
    with environment_guard(), monkeypatch.context() as patch:
        patch.setenv("NANOCLAW_HOME", "/nowhere")


async def test_the_loop_guard_names_a_task_that_computes_for_too_long() -> None:
    async def compute() -> None:
        end = time.thread_time() + 0.05
        while time.thread_time() < end:
            pass

    with pytest.raises(GuardFailure, match="compute"), loop_guard(working=0.02):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(compute(), name="compute")


async def test_the_loop_guard_names_a_callback_that_sleeps() -> None:
    async def sleep() -> None:
        time.sleep(0.05)  # noqa: ASYNC251  # the fault that the guard is for

    with pytest.raises(GuardFailure, match="sleep"), loop_guard(waiting=0.04):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(sleep(), name="sleep")


async def test_the_loop_guard_does_not_mind_waiting() -> None:
    with loop_guard(working=0.5, waiting=0.5):
        await anyio.sleep(0.01)


def test_the_kill_switch_hides_credentials_and_puts_them_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-test")
    with refuse_real_models():
        assert os.environ["NANOCLAW_REFUSE_REAL_MODELS"] == "1"
        assert "ANTHROPIC_API_KEY" not in os.environ
    assert os.environ["ANTHROPIC_API_KEY"] == "sk-test"


def test_real_models_are_refused_in_this_very_run() -> None:
    assert os.environ["NANOCLAW_REFUSE_REAL_MODELS"] == "1"


# --- the pytest plugin and this repository's conftest ---------------------------------------------------------------------


def run(pytester: pytest.Pytester, code: str) -> pytest.RunResult:
    """Run `code` as a test file under this repository's conftest."""
    pytester.makeconftest((Path(__file__).parent / "conftest.py").read_text(encoding="utf-8"))
    pytester.makeini("[pytest]\nanyio_mode = auto\nmarkers = container")
    pytester.makepyfile(code)
    return pytester.runpytest_inprocess("-p", "no:cacheprovider")


def test_a_skipped_container_test_fails_the_run(pytester: pytest.Pytester) -> None:
    result = run(pytester, "import pytest\n@pytest.mark.container\n@pytest.mark.skip(reason='no docker')\ndef test(): pass")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*a container test may not be skipped*"])


def test_any_other_skip_is_fine(pytester: pytest.Pytester) -> None:
    assert run(pytester, "import pytest\ndef test(): pytest.skip('not here')").ret == pytest.ExitCode.OK


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import os\ndef test(): os.environ['A'] = 'b'", "*left the environment changed*A"),
        ("import socket\ndef test(): socket.getaddrinfo('example.org', 80)", "*must not leave this machine*"),
    ],
)
def test_the_guards_are_on_for_every_test(pytester: pytest.Pytester, code: str, reason: str) -> None:
    result = run(pytester, code)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines([reason])


def test_the_loop_guard_is_on_for_this_very_test() -> None:
    assert "loop_guard" in asyncio.Handle._run.__qualname__


def test_the_home_fixture_is_private_and_short(nanoclaw_home: Path) -> None:
    assert nanoclaw_home.stat().st_mode & 0o777 == 0o700
    assert len(str(nanoclaw_home / "workers/01234567890123456789/egress.sock").encode()) < 108


def test_the_pytest_plugin_imports_nothing_of_nanoclaw_until_a_fixture_is_used() -> None:
    code = (
        "import nanoclaw_core.testing.pytest_plugin, sys;"
        "print(sorted(name for name in sys.modules if name.startswith('nanoclaw_core.')))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "['nanoclaw_core.testing', 'nanoclaw_core.testing.pytest_plugin']"
