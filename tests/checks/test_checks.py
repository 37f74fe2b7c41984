"""The built-in checks: what each finds wrong, what it says about it, and what it mends."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import sqlite3
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nanoclaw_core import __version__
from nanoclaw_core.builtins.checks import machine, nanoclaw_checks
from nanoclaw_core.doctor import examine
from nanoclaw_core.errors import RuntimeUnavailable, SettingInvalid
from nanoclaw_core.host import BUILTINS
from nanoclaw_core.mailbox import NewRow
from nanoclaw_core.models import ContainerState, Manifest, PluginState, PluginStatus, SetupField
from nanoclaw_core.offers import choose_model
from nanoclaw_core.packages.lockfile import read_lock, write_lock
from nanoclaw_core.packages.records import Lock, Package, PluginSet
from nanoclaw_core.plugins import load
from nanoclaw_core.ports import Check, CheckContext, CheckResult, CheckStatus, Provider
from nanoclaw_core.sandbox.image import container_files, image_tag
from nanoclaw_core.secrets import put
from nanoclaw_core.settings import read
from nanoclaw_core.store import workers
from nanoclaw_core.store.installation import installation_id
from nanoclaw_core.switches import switch
from nanoclaw_core.testing import CheckContract, Reply, ScriptedModel
from tests.checks.conftest import context_on
from tests.house import CHAT, House, open_house
from tests.sandbox.fakes import ListedRuntime

CHECKS = {check.name: check for check in nanoclaw_checks()}
KEY = "sk-of-the-checks"
HOST: dict[str, Any] = {
    "version": __version__,
    "pid": 4711,
    "channels": [{"name": "terminal", "state": "running", "reason": ""}],
    "runtime": "running",
    "image": {"name": "nanoclaw-worker:1", "state": "ready"},
    "provider": {"name": "anthropic", "demo": False},
}


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
class TestBuiltIn(CheckContract):
    """Each keeps the contract that strangers' checks keep."""


async def lines(name: str, context: CheckContext) -> list[CheckResult]:
    return [line async for line in CHECKS[name].run(context)]


async def line(check: str, context: CheckContext, name: str = "") -> CheckResult:
    (found,) = (each for each in await lines(check, context) if each.name == (name or check))
    return found


@asynccontextmanager
async def mended(check: str, context: CheckContext, name: str = "") -> AsyncIterator[str]:
    """Mend the line, and see afterwards that nothing is left to mend."""
    found = await line(check, context, name)
    assert found.mend is not None
    yield await found.mend()
    assert [each for each in await lines(check, context) if each.name == (name or check) and each.status != "ok"] == []


@pytest.fixture
async def house(nanoclaw_home: Path) -> AsyncIterator[House]:
    async with open_house(nanoclaw_home) as house:
        yield house


def test_every_subject_has_a_name_of_its_own() -> None:
    assert len(CHECKS) == len(list(nanoclaw_checks()))


# --- host -------------------------------------------------------------------------------------------------------------


async def test_a_running_host_is_named(nanoclaw_home: Path) -> None:
    found = await line("host", context_on(nanoclaw_home, host=HOST))
    assert (found.status, "pid 4711" in found.reason) == (CheckStatus.OK, True)


async def test_a_host_of_another_version_should_be_restarted(nanoclaw_home: Path) -> None:
    found = await line("host", context_on(nanoclaw_home, host=HOST | {"version": "0.0.1"}))
    assert (found.status, "nanoclaw stop" in found.fix) == (CheckStatus.WARN, True)


async def test_a_channel_that_does_not_run_is_named_with_its_reason(nanoclaw_home: Path) -> None:
    channels = [{"name": "parrot", "state": "waiting", "reason": "the cage is locked"}]
    context = context_on(nanoclaw_home, host=HOST | {"channels": channels}, channels={"parrot": Manifest()})
    found = await line("channels", context, "channel parrot")
    assert (found.status, found.reason) == (CheckStatus.WARN, "it is waiting: the cage is locked")
    assert "nanoclaw channel check parrot" in found.fix


async def test_a_channel_that_lacks_something_is_named_with_the_command_that_asks_for_it(nanoclaw_home: Path) -> None:
    manifest = Manifest(fields=(SetupField(variable="PARROT_TOKEN", label="Token"),))
    context = context_on(nanoclaw_home, channels={"parrot": manifest})
    found = await line("channels", context, "channel parrot")
    assert (found.status, found.reason) == (CheckStatus.WARN, "it is not set up: it lacks PARROT_TOKEN")
    assert found.fix == "`nanoclaw channel setup parrot`"


async def test_a_channel_that_was_set_up_since_the_host_started_needs_a_restart(nanoclaw_home: Path) -> None:
    context = context_on(nanoclaw_home, host=HOST, channels={"parrot": Manifest()})
    found = await line("channels", context, "channel parrot")
    assert (found.status, "nanoclaw stop" in found.fix) == (CheckStatus.WARN, True)


async def test_a_channel_that_is_off_is_no_trouble(nanoclaw_home: Path) -> None:
    switch(nanoclaw_home, "parrot", on=False)
    found = await line("channels", context_on(nanoclaw_home, channels={"parrot": Manifest()}), "channel parrot")
    assert (found.status, "nanoclaw channel enable parrot" in found.reason) == (CheckStatus.OK, True)


async def test_a_secret_store_that_others_can_read_is_mended(nanoclaw_home: Path) -> None:
    put(nanoclaw_home, "PARROT_TOKEN", "polly-1234")
    (nanoclaw_home / "secrets").chmod(0o755)
    (nanoclaw_home / "secrets" / "PARROT_TOKEN").chmod(0o644)
    async with mended("home", context_on(nanoclaw_home), "secrets") as said:
        assert said == "took the rights of others on secrets, secrets/PARROT_TOKEN"
    assert stat.S_IMODE((nanoclaw_home / "secrets" / "PARROT_TOKEN").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("plugins", "says", "fix"),
    [
        (("slow", "", "slow", "late"), "by plugins: slow (2 times), late (1 times)", "`nanoclaw plugin disable slow`"),
        (("",), "no plugin was at work", "report it"),
    ],
)
async def test_who_held_up_the_event_loop_is_named(nanoclaw_home: Path, plugins: tuple[str, ...], says: str, fix: str) -> None:
    blocks = [{"plugin": name, "where": f"place {number}", "seconds": 2.0 + number} for number, name in enumerate(plugins)]
    found = await line("host", context_on(nanoclaw_home, host={**HOST, "blocked": blocks}), "event loop")
    assert (found.status, says in found.reason, fix in found.fix) == (CheckStatus.WARN, True, True)
    assert f"place {len(plugins) - 1}" in found.reason  # the longest


async def test_a_host_that_does_not_answer_is_a_failure_with_its_pid(nanoclaw_home: Path) -> None:
    with (nanoclaw_home / "host.lock").open("w") as lock:
        lock.write("4711\n")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = await line("host", context_on(nanoclaw_home))
    assert (found.status, "kill 4711" in found.fix) == (CheckStatus.FAIL, True)


async def test_what_a_killed_host_left_is_removed(house: House) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as left:
        left.bind(str(house.home / "control.sock"))
    (house.home / "workers" / "w1").mkdir(parents=True)
    context = context_on(house.home)
    async with mended("host", context):
        assert not (house.home / "control.sock").exists()
    async with mended("host", context, "sockets"):
        assert not (house.home / "workers" / "w1").exists()


async def test_the_folder_of_a_living_worker_is_left_alone(house: House) -> None:
    await live_worker(house)
    (house.home / "workers" / "w1").mkdir(parents=True)
    found = await line("host", context_on(house.home), "sockets")
    assert (found.status, found.mend) == (CheckStatus.OK, None)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def live_worker(house: House) -> None:
    claim = partial(workers.claim_worker, worker_id="w1", session_id=house.session.id, secret_hash="h", image="i", now=1.0)
    assert await house.database.write(claim)


# --- runtime ----------------------------------------------------------------------------------------------------------


async def test_a_runtime_that_does_not_answer_comes_with_its_advice_and_nothing_else(nanoclaw_home: Path) -> None:
    class Away(ListedRuntime):
        async def check(self) -> str:
            raise RuntimeUnavailable("lists", "it is not started", "Start it.")

    (found,) = await lines("runtime", context_on(nanoclaw_home, runtime=Away))
    assert (found.status, found.reason, found.fix) == (
        CheckStatus.FAIL,
        "lists does not answer: it is not started",
        "Start it.",
    )


async def test_a_runtime_that_only_the_host_cannot_reach_is_told_apart(nanoclaw_home: Path) -> None:
    found = await line("runtime", context_on(nanoclaw_home, host=HOST | {"runtime": "no permission"}))
    assert (found.status, "no permission" in found.reason) == (CheckStatus.FAIL, True)


async def test_a_missing_image_is_built(nanoclaw_home: Path) -> None:
    runtime = ListedRuntime(images={"debian:bookworm-slim"})
    context = context_on(nanoclaw_home, runtime=lambda: runtime)
    async with mended("runtime", context, "image") as done:
        assert done == f"built {image_tag(container_files(), 'debian:bookworm-slim')}"


async def test_why_the_host_could_not_build_its_image_is_said(nanoclaw_home: Path) -> None:
    state = {"name": "", "state": "The image could not be built: no network"}
    found = await line("runtime", context_on(nanoclaw_home, host=HOST | {"image": state}), "image")
    assert (found.status, "no network" in found.reason) == (CheckStatus.FAIL, True)


async def test_images_of_other_versions_are_named_and_left_to_their_owner(nanoclaw_home: Path) -> None:
    class Shelf(ListedRuntime):
        async def images_called(self, name: str) -> dict[str, int]:
            return {f"{name}:old": 600_000_000, image_tag(container_files(), "debian:bookworm-slim"): 1}

    found = await line("runtime", context_on(nanoclaw_home, runtime=Shelf), "old images")
    assert (found.status, found.mend) == (CheckStatus.OK, None)
    assert "docker image rm nanoclaw-worker:old" in found.fix


async def test_containers_that_nobody_owns_are_removed_and_no_others(house: House) -> None:
    await live_worker(house)
    labels = {"nanoclaw.installation": await house.database.write(installation_id)}
    states = [
        ContainerState(id=f"id-{name}", name=name, labels=labels | {"nanoclaw.worker": name}, running=False)
        for name in ("w1", "w2")
    ]
    runtime = ListedRuntime(listed=states)
    found = await line("runtime", context_on(house.home, runtime=lambda: runtime), "containers")
    assert found.mend is not None
    assert found.fix == "`nanoclaw doctor --fix`, or the next start of the host, removes them"
    assert await found.mend() == "removed 1 containers of workers that are no more"
    assert runtime.removed == ["id-w2"]


async def test_nothing_is_removed_while_a_host_runs(house: House) -> None:
    labels = {"nanoclaw.installation": await house.database.write(installation_id), "nanoclaw.worker": "w2"}
    runtime = ListedRuntime(listed=[ContainerState(id="id-w2", name="w2", labels=labels, running=True)])
    context = context_on(house.home, host=HOST, runtime=lambda: runtime)
    (house.home / "workers" / "w2").mkdir(parents=True)
    left = [
        each for check in ("host", "runtime") for each in await lines(check, context) if each.name in ("sockets", "containers")
    ]
    assert [(each.status, each.mend) for each in left] == [(CheckStatus.WARN, None)] * 2


# --- provider ---------------------------------------------------------------------------------------------------------


def provider(url: str, key: str = KEY) -> Provider:
    variables = {"ANTHROPIC_API_KEY": key, "ANTHROPIC_BASE_URL": url, "NANOCLAW_REFUSE_REAL_MODELS": "1"}
    return choose_model(read(Path("/nowhere"), variables), load([], BUILTINS)).provider


async def provider_line(made: Provider, home: Path, **changes: Any) -> CheckResult:
    found = await line("provider", context_on(home, provider=lambda: made, **changes))
    await made.aclose()  # type: ignore[attr-defined]  # it is an HttpUpstream
    return found


async def test_a_good_key_is_tried_with_the_provider_itself(
    nanoclaw_home: Path, nanoclaw_scripted_model: ScriptedModel
) -> None:
    nanoclaw_scripted_model.script_models(Reply.models("claude-sonnet-4-5-20250929"))
    found = await provider_line(provider(nanoclaw_scripted_model.url), nanoclaw_home, host=HOST)
    assert (found.status, found.reason) == (CheckStatus.OK, "anthropic accepts the credential")
    (call,) = nanoclaw_scripted_model.calls
    assert (call.method, call.path, call.headers["x-api-key"]) == ("GET", "/v1/models", KEY)


@pytest.mark.parametrize(
    ("status", "kind", "message", "says", "fix"),
    [
        (401, "authentication_error", "invalid x-api-key", "refuses the credential (invalid x-api-key)", "valid credential"),
        (402, "billing_error", "no credit", "no credit left", "add credit"),
        (400, "invalid_request_error", "Your credit balance is too low", "no credit left", "add credit"),
        (403, "permission_error", "not from here", "does not allow this", "lacks a right"),
        (429, "rate_limit_error", "slow down", "answers with status 429", "wait a few minutes"),
        (529, "overloaded_error", "busy", "answers with status 529", "try again"),
    ],
)
async def test_each_refusal_is_told_apart(
    status: int, kind: str, message: str, says: str, fix: str, nanoclaw_home: Path, nanoclaw_scripted_model: ScriptedModel
) -> None:
    nanoclaw_scripted_model.script_models(Reply.error(status, kind, message))
    found = await provider_line(provider(nanoclaw_scripted_model.url), nanoclaw_home)
    assert found.status is CheckStatus.FAIL
    assert says in found.reason
    assert fix in found.fix
    assert KEY not in repr(found)


async def test_a_provider_that_cannot_be_reached_points_at_the_network(nanoclaw_home: Path) -> None:
    found = await provider_line(provider("http://127.0.0.1:1"), nanoclaw_home)
    assert (found.status, "HTTPS_PROXY" in found.fix) == (CheckStatus.FAIL, True)


async def test_a_gateway_without_a_list_of_models_is_only_a_warning(
    nanoclaw_home: Path, nanoclaw_scripted_model: ScriptedModel
) -> None:
    nanoclaw_scripted_model.script_models(Reply.error(404, "not_found_error", "no such page"))
    assert (await provider_line(provider(nanoclaw_scripted_model.url), nanoclaw_home)).status is CheckStatus.WARN


async def test_a_missing_key_says_where_it_belongs(nanoclaw_home: Path) -> None:
    def no_key() -> Provider:
        raise SettingInvalid("ANTHROPIC_API_KEY", "", "a credential in one line of ASCII")

    found = await line("provider", context_on(nanoclaw_home, provider=no_key))
    assert (found.status, "ANTHROPIC_API_KEY" in found.fix) == (CheckStatus.FAIL, True)


async def test_the_demo_says_that_it_is_one(nanoclaw_home: Path) -> None:
    demo = choose_model(read(nanoclaw_home, {}), load([], BUILTINS)).provider
    found = await line("provider", context_on(nanoclaw_home, provider=lambda: demo))
    assert (found.status, "only echoes" in found.reason) == (CheckStatus.WARN, True)


@pytest.mark.parametrize(
    ("model", "status"),
    [
        ("claude-sonnet-4-5-20250929", CheckStatus.OK),
        ("claude-sonnet-4-5[1m]", CheckStatus.OK),
        ("opus", CheckStatus.OK),
        ("claude-sonet-4-5", CheckStatus.WARN),
    ],
)
async def test_a_model_that_the_provider_does_not_list_is_named(
    model: str, status: CheckStatus, nanoclaw_home: Path, nanoclaw_scripted_model: ScriptedModel
) -> None:
    nanoclaw_scripted_model.script_models(Reply.models("claude-sonnet-4-5-20250929"))
    variables = {"NANOCLAW_MODEL": model}
    found = await provider_line(provider(nanoclaw_scripted_model.url), nanoclaw_home, variables=variables)
    assert found.status is status


# --- settings and plugins ---------------------------------------------------------------------------------------------


async def test_a_misspelt_setting_is_named_with_the_one_that_was_meant(nanoclaw_home: Path) -> None:
    found = await line("settings", context_on(nanoclaw_home, variables={"NANOCLAW_MODLE": "opus"}))
    assert found.reason == "NANOCLAW_MODLE is no setting: did you mean NANOCLAW_MODEL?"


async def test_lines_of_env_files_that_say_nothing_are_named_and_not_shown(nanoclaw_home: Path, folder: Path) -> None:
    (nanoclaw_home / ".env").write_text("# fine\nANTHROPIC_API_KEY sk-shown-to-nobody\n\nNANOCLAW_MODEL=opus\nagain\n")
    (folder / ".env").write_text("\ufeffNANOCLAW_MODEL=opus\n")
    found = await line("settings", context_on(nanoclaw_home))
    assert found.reason == f"Line 2 (and 1 more) of {nanoclaw_home}/.env is not NAME=VALUE, and is left out."


async def test_a_misspelt_credential_in_an_env_file_is_named(nanoclaw_home: Path) -> None:
    (nanoclaw_home / ".env").write_text("ANTROPIC_API_KEY=sk-shown-to-nobody\n")
    plugins = load([], BUILTINS)
    found = await line("settings", context_on(nanoclaw_home, fields=plugins.fields()))
    assert found.reason == f"ANTROPIC_API_KEY in {nanoclaw_home}/.env is no setting: did you mean ANTHROPIC_API_KEY?"


async def test_what_changed_beside_the_lock_is_told_and_left_as_it_is(nanoclaw_home: Path) -> None:
    gone = Package(name="nanoclaw-gone", version="1.0", source="index")
    write_lock(nanoclaw_home, Lock(current=PluginSet(packages=(gone,))))
    found = [each for each in await lines("packages", context_on(nanoclaw_home)) if "nanoclaw-gone" in each.reason]
    assert [(each.status, each.reason) for each in found] == [(CheckStatus.WARN, "nanoclaw-gone 1.0 was uninstalled with pip")]
    assert read_lock(nanoclaw_home) == Lock(current=PluginSet(packages=(gone,)))


async def test_a_change_of_plugins_that_was_cut_short_is_a_failure(nanoclaw_home: Path) -> None:
    write_lock(nanoclaw_home, Lock(unfinished=PluginSet(made_by="install nanoclaw-parrot")))
    found = await line("packages", context_on(nanoclaw_home))
    assert (found.status, "install nanoclaw-parrot" in found.reason) == (CheckStatus.FAIL, True)
    assert "`nanoclaw plugin rollback`" in found.fix


async def test_wheels_that_a_rollback_would_need_are_missed(nanoclaw_home: Path) -> None:
    before = PluginSet(packages=(Package(name="nanoclaw-parrot", version="1.0", source="index", sha256="ab", wheel="x.whl"),))
    write_lock(nanoclaw_home, Lock(previous=(before,)))
    assert any("nanoclaw-parrot 1.0" in each.reason for each in await lines("packages", context_on(nanoclaw_home)))


async def test_a_plugin_that_was_left_out_is_named_with_its_reason(nanoclaw_home: Path) -> None:
    plugins = (
        PluginStatus(name="parrot", distribution="d", version="1.0", state=PluginState.ENABLED),
        PluginStatus(name="odd", distribution="d", version="2.0", state=PluginState.BROKEN, reason="it is odd"),
        PluginStatus(name="gone", distribution="", version="", state=PluginState.MISSING, reason="it is not installed"),
        PluginStatus(name="asleep", distribution="d", version="3.0", state=PluginState.AVAILABLE),
    )
    odd, gone, rest = await lines("plugins", context_on(nanoclaw_home, plugins=plugins))
    assert odd.reason == "odd 2.0 is left out: it is odd"
    assert "nanoclaw plugin disable gone" in gone.fix
    assert (rest.status, "parrot 1.0" in rest.reason, "asleep" in rest.reason) == (CheckStatus.OK, True, False)


# --- home -------------------------------------------------------------------------------------------------------------


async def test_a_home_that_others_can_enter_is_closed(nanoclaw_home: Path) -> None:
    os.chmod(nanoclaw_home, 0o755)  # noqa: PTH101, S103  # pathlib's own would be taken for blocking
    async with mended("home", context_on(nanoclaw_home)):
        assert mode(nanoclaw_home) == 0o700


async def test_an_env_file_with_a_secret_that_others_can_read_is_closed(nanoclaw_home: Path) -> None:
    file = nanoclaw_home / ".env"
    file.write_text("ANTHROPIC_API_KEY=sk-shown-to-nobody\n")
    file.chmod(0o644)
    async with mended("home", context_on(nanoclaw_home), "secrets"):
        assert mode(file) == 0o600


async def test_an_env_file_without_a_secret_may_be_read(nanoclaw_home: Path) -> None:
    (nanoclaw_home / ".env").write_text("NANOCLAW_MODEL=opus\n")
    (nanoclaw_home / ".env").chmod(0o644)
    assert [each for each in await lines("home", context_on(nanoclaw_home)) if each.name == "secrets"] == []


async def test_a_home_that_is_not_there_is_fine_and_is_not_made(nanoclaw_home: Path) -> None:
    context = context_on(nanoclaw_home / "later")
    assert {each.status for each in await lines("home", context)} == {CheckStatus.OK}
    assert not (nanoclaw_home / "later").exists()


@pytest.mark.parametrize(
    ("free", "status"), [(300 * 2**20, CheckStatus.FAIL), (700 * 2**20, CheckStatus.WARN), (2**40, CheckStatus.OK)]
)
async def test_little_room_on_the_disk_is_a_warning_and_none_a_failure(
    free: int, status: CheckStatus, nanoclaw_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    assert (await line("home", context_on(nanoclaw_home), "disk")).status is status


# --- database and mailboxes -------------------------------------------------------------------------------------------


async def test_a_sound_database_is_said_to_be_sound_while_it_is_in_use(house: House) -> None:
    found = await line("database", context_on(house.home))
    assert (found.status, found.reason.startswith("sound, schema ")) == (CheckStatus.OK, True)


async def test_a_damaged_database_is_a_failure_that_says_how_to_go_on(nanoclaw_home: Path) -> None:
    (nanoclaw_home / "nanoclaw.db").write_bytes(b"this is no database, whatever its name says" * 100)
    found = await line("database", context_on(nanoclaw_home))
    assert found.status is CheckStatus.FAIL
    assert found.reason == f"{nanoclaw_home}/nanoclaw.db is damaged: file is not a database"
    assert "`nanoclaw stop`, then `nanoclaw backup restore FILE --replace`" in found.fix


async def test_of_a_damaged_database_one_line_tells_and_the_others_say_what_they_know_without(nanoclaw_home: Path) -> None:
    (nanoclaw_home / "nanoclaw.db").write_bytes(b"this is no database, whatever its name says" * 100)
    (nanoclaw_home / "workers" / "w1").mkdir(parents=True)  # perhaps of a worker that lives
    found = await examine([check for name, check in CHECKS.items() if name != "provider"], context_on(nanoclaw_home))
    assert [each.name for each in found if each.status is CheckStatus.FAIL] == ["database"]
    assert {"host", "image", "home", "memory", "clock"} <= {each.name for each in found}
    assert [each for each in found if each.name in ("sockets", "containers", "mailboxes", "stuck messages")] == []


async def test_a_database_of_an_earlier_version_is_sound_and_not_known_in_full(house: House) -> None:
    await house.database.write(lambda connection: connection.exec_driver_sql("UPDATE alembic_version SET version_num='0001'"))
    found = await line("database", context_on(house.home))
    assert (found.status, "the next start brings it up to date" in found.reason) == (CheckStatus.OK, True)


async def test_a_database_of_a_later_version_is_told_apart(house: House) -> None:
    await house.database.write(lambda connection: connection.exec_driver_sql("UPDATE alembic_version SET version_num='9999'"))
    found = await line("database", context_on(house.home))
    assert (found.status, "install that version" in found.fix) == (CheckStatus.FAIL, True)


async def test_a_damaged_mailbox_is_named_and_the_sound_ones_are_counted(house: House) -> None:
    context = context_on(house.home)
    assert (await line("mailboxes", context)).reason == "1 of 1 mailboxes of sessions with work were looked at and are sound"
    await house.mailbox.close()
    broken = house.home / house.session.folder / "outbound.db"
    broken.write_bytes(b"nothing" * 1000)
    first, rest = await lines("mailboxes", context)
    assert (first.status, str(broken) in first.reason) == (CheckStatus.FAIL, True)
    assert rest.reason.startswith("0 of 1 ")


async def test_a_session_that_has_begun_anew_is_named(house: House) -> None:
    copy = house.home / house.session.folder / "broken-20270101T000000Z"
    copy.mkdir()
    found = (await lines("mailboxes", context_on(house.home)))[0]
    assert (found.status, str(copy) in found.reason) == (CheckStatus.WARN, True)


async def test_a_deleted_mailbox_file_is_named_with_what_will_happen(house: House) -> None:
    row = NewRow(id="r", address=CHAT, message_id="m", sender_id="", sender_name="", text="x", sent_at=1.0)
    await house.mailbox.add_rows([row])
    await house.mailbox.close()
    (house.home / house.session.folder / "outbound.db").unlink()
    found = (await lines("mailboxes", context_on(house.home)))[0]
    assert (found.status, "is gone" in found.reason, "keeps a copy" in found.fix) == (CheckStatus.FAIL, True, True)


async def test_a_mailbox_of_a_later_version_is_named(house: House) -> None:
    await house.mailbox.close()
    with closing(sqlite3.connect(house.home / house.session.folder / "inbound.db")) as connection:
        connection.execute("PRAGMA user_version=99")
    found = (await lines("mailboxes", context_on(house.home)))[0]
    assert "a later version of NanoClaw wrote it" in found.reason


# --- messages ---------------------------------------------------------------------------------------------------------


async def accept(house: House, count: int, received_at: float) -> None:
    insert = (
        "INSERT INTO events (channel, account, chat, message_id, payload, received_at) VALUES ('f', '', 'c', 'm{}', '{{}}', {})"
    )
    for number in range(count):
        statement = insert.format(number, received_at)
        await house.database.write(lambda connection, it=statement: connection.exec_driver_sql(it))  # type: ignore[misc]


async def test_messages_within_their_time_are_fine(house: House) -> None:
    await accept(house, 1, house.clock.time() - 10)
    found = await line("messages", context_on(house.home), "stuck messages")
    assert (found.status, found.fix) == (CheckStatus.OK, "")


@pytest.mark.parametrize(("host", "status"), [(HOST, CheckStatus.FAIL), (None, CheckStatus.WARN)], ids=["host", "no host"])
async def test_stuck_messages_are_numbered_with_the_command_that_says_why(
    house: House, host: dict[str, Any] | None, status: CheckStatus
) -> None:
    await accept(house, 12, house.clock.time() - 61)
    found = await line("messages", context_on(house.home, host=host), "stuck messages")
    assert found.status is status
    assert found.reason.startswith("1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 2 more wait beyond their time")
    assert "`nanoclaw why 1`" in found.fix


# --- machine ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("each", "status", "says"),
    [
        ("512", CheckStatus.OK, "2.0 GiB; a worker may use 512.0 MiB, all together 1.0 GiB"),
        ("4096", CheckStatus.FAIL, "not one fits"),
    ],
)
def test_only_a_worker_that_does_not_fit_alone_is_a_failure(each: str, status: CheckStatus, says: str) -> None:
    """Those that may work at a time need not fit together: the limit for all of them holds."""
    settings = read(Path("/nowhere"), {"NANOCLAW_MAX_TURNS": "64", "NANOCLAW_WORKER_MEMORY": each})
    found = machine._memory(settings, 2 * 2**30)
    assert (found.status, says in found.reason) == (status, True)


def test_a_limit_for_all_workers_beyond_the_machine_is_told() -> None:
    settings = read(Path("/nowhere"), {"NANOCLAW_MAX_TURNS": "1", "NANOCLAW_MAX_MEMORY": "4096"})
    found = machine._memory(settings, 3 * 2**30)
    assert (found.status, found.fix) == (CheckStatus.WARN, "lower NANOCLAW_MAX_MEMORY")


@pytest.mark.parametrize(
    ("now", "newest", "status"),
    [
        (1_800_000_000.0, 1_799_999_999.0, CheckStatus.OK),
        (1_800_000_000.0, 1_800_090_000.0, CheckStatus.WARN),
        (0.0, 0.0, CheckStatus.FAIL),
    ],
    ids=["right", "set back", "1970"],
)
def test_a_clock_that_cannot_be_right_is_told(now: float, newest: float, status: CheckStatus) -> None:
    assert machine._clock("Europe/Berlin", now, newest).status is status


async def test_the_newest_message_is_what_the_clock_is_compared_with(house: House) -> None:
    await house.database.write(
        lambda connection: connection.exec_driver_sql(
            "INSERT INTO events (channel, account, chat, message_id, payload, received_at) VALUES ('f','','c','m','{}', 2e9)"
        )
    )
    assert (await line("machine", context_on(house.home), "clock")).status is CheckStatus.WARN


def test_a_check_of_a_stranger_is_offered_through_the_same_hook() -> None:
    offers = load([], BUILTINS).checks()
    assert {name: offer.value.name for name, offer in offers.items()} == {name: name for name in CHECKS}
    assert all(isinstance(offer.value, Check) for offer in offers.values())
