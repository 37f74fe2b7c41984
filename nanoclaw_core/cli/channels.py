"""`nanoclaw channel ...`: the channels as their manifests describe them. Nothing here knows any one channel."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import anyio
import click
from packaging.utils import canonicalize_name

from nanoclaw_core import installed
from nanoclaw_core.builtins.terminal import NAME as TERMINAL
from nanoclaw_core.cli import logs
from nanoclaw_core.cli.operation import operate, status_of_host
from nanoclaw_core.cli.restart import offer_restart
from nanoclaw_core.cli.table import show as show_table
from nanoclaw_core.cli.table import show_findings, show_notes
from nanoclaw_core.cli.text import duration, one_line
from nanoclaw_core.errors import CredentialRefused, NanoClawError, PluginUnusable
from nanoclaw_core.host import BUILTINS
from nanoclaw_core.mask import Mask
from nanoclaw_core.models import PluginState
from nanoclaw_core.offers import idle_reason, missing, values
from nanoclaw_core.plugins import Offer, Plugins, load
from nanoclaw_core.ports import ChannelFactory
from nanoclaw_core.settings import Settings
from nanoclaw_core.supervise import survive
from nanoclaw_core.switches import switch, switched_off

CHECK_WITHIN = 30.0  # seconds that a platform may take


class CheckFailed(NanoClawError):
    """The platform could not be asked: nothing is known of the credential."""


class ChannelMissing(NanoClawError):
    """No installed plugin has the channel."""

    exit_code = 3

    def __init__(self, name: str, known: Iterable[str]) -> None:
        super().__init__(
            f"There is no channel named {name!r}. Known: {', '.join(sorted(known))}. "
            "One that comes as a package is installed first: `nanoclaw plugin install`."
        )


class ChannelNotReady(NanoClawError):
    """What is asked for needs a channel that is set up."""

    exit_code = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A channel, and the plugin to be enabled before the host can have it; '' where that is so already."""

    offer: Offer[ChannelFactory]
    to_enable: str = ""

    @property
    def factory(self) -> ChannelFactory:
        return self.offer.value


def find_channel(settings: Settings, name: str) -> Found:
    """The channel called `name`: of a plugin that is enabled, or of an installed one that carries the name.

    The latter is imported for that: a person has just asked for it.

    Raises:
        ChannelMissing: there is none. PluginUnusable: its plugin is broken.
    """
    logs.silence()
    enabled = installed.enabled(settings.home)
    plugins = load(enabled, BUILTINS)
    if name in plugins.channels():
        return Found(offer=plugins.channels()[name])
    names = [plugin.name for plugin in installed.discover() if name in (plugin.name, _short(plugin.distribution))]
    for plugin in names:
        plugins = load({*enabled, plugin}, BUILTINS)
        if name in plugins.channels():
            return Found(offer=plugins.channels()[name], to_enable=plugin)
        _refuse_broken(plugins, plugin)
    available = [status.name for status in plugins.statuses if status.state is PluginState.AVAILABLE]
    raise ChannelMissing(name, {*plugins.channels(), *available})


def enabled_channel(settings: Settings, name: str) -> ChannelFactory:
    """The channel called `name`, which is of no use while its plugin is not enabled.

    Raises:
        ChannelMissing: there is none. ChannelNotReady: its plugin is not enabled. PluginUnusable: its plugin is broken.
    """
    found = find_channel(settings, name)
    if found.to_enable:
        raise ChannelNotReady(f"{name} is installed, but its plugin is not enabled: `nanoclaw channel setup {name}`.")
    return found.factory


def _short(distribution: str) -> str:
    return canonicalize_name(distribution).removeprefix("nanoclaw-")


def _refuse_broken(plugins: Plugins, name: str) -> None:
    for status in plugins.statuses:
        if status.name == name and status.state is PluginState.BROKEN:
            raise PluginUnusable(name, status.reason)


# --- the list -------------------------------------------------------------------------------------------------------------


def show(settings: Settings, as_json: bool) -> None:
    """Print every channel of the enabled plugins, and which installed ones might have more."""
    logs.silence()
    plugins = load(installed.enabled(settings.home), BUILTINS)
    host, off = status_of_host(settings), switched_off(settings.home)
    said = {each["name"]: each for each in host["channels"]} if host else {}
    rows = [_row(settings, offer, said.get(name), off) for name, offer in plugins.channels().items()]
    if as_json:
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    cells = [(row["name"], _state(row), _host_says(row, host), row["summary"]) for row in rows]
    show_table("Channels", ("NAME", "SET UP", "HOST", ""), [[one_line(cell, 300) for cell in line] for line in cells])
    show_notes(
        [f"{row['name']}: {one_line(row['host']['reason'], 300)}" for row in rows if row["host"] and row["host"]["reason"]]
    )
    for status in plugins.statuses:
        if status.state is PluginState.AVAILABLE:
            label = f"{status.distribution} {status.version}"
            click.echo(f"{label} is installed, not enabled: `nanoclaw channel setup {status.name}`, if it is a channel.")


def _row(settings: Settings, offer: Offer[ChannelFactory], said: Mapping[str, Any] | None, off: set[str]) -> dict[str, Any]:
    factory = offer.value
    return {
        "name": factory.name,
        "summary": factory.summary,
        "plugin": offer.plugin,
        "homepage": factory.manifest.homepage,
        "enabled": factory.name not in off,
        "lacking": missing(factory.manifest, settings),
        "pairs": factory.manifest.pairs,
        "host": {"state": said["state"], "reason": said["reason"]} if said else None,
    }


def _state(row: Mapping[str, Any]) -> str:
    if not row["enabled"]:
        return "switched off"
    return f"no: lacks {', '.join(row['lacking'])}" if row["lacking"] else "yes"


def _host_says(row: Mapping[str, Any], host: Mapping[str, Any] | None) -> str:
    if host is None:
        return "none runs"
    if row["host"] is None:
        return "knows it from its next start on"
    return str(row["host"]["state"])


# --- asking the platform --------------------------------------------------------------------------------------------------


async def ask_platform(factory: ChannelFactory, given: Mapping[str, str]) -> str:
    """What the platform says of these values, in one line without secrets; '' where there is nothing to ask.

    Raises:
        CredentialRefused: it refuses them. CheckFailed: it could not be asked.
    """
    if factory.check is None:
        return ""
    secret = {field.variable for field in factory.manifest.fields if field.secret}
    mask = Mask(value for name, value in given.items() if name in secret)
    said: list[str] = []

    async def ask(check: Any = factory.check) -> None:  # Any: the plugin's own
        said.append(await check(given))

    failure: str | None = f"no answer within {CHECK_WITHIN:.0f} s"
    with anyio.move_on_after(CHECK_WITHIN):
        try:
            failure = await survive(f"check of {factory.name}", ask(), passing=(NanoClawError,))
        except CredentialRefused as error:
            raise CredentialRefused(mask(str(error))) from None  # the original may show the credential
        except NanoClawError as error:
            raise CheckFailed(f"{factory.name} could not be asked: {mask(str(error))}") from None
    if failure:
        raise CheckFailed(f"{factory.name} could not be asked: {mask(failure)}")
    return mask(one_line(str(said[0]), 200))


def check(settings: Settings, name: str | None) -> int:
    """Print what each platform says of what is set; 1 when one refuses, or cannot be asked."""
    logs.silence()
    if name is None:
        factories = [offer.value for offer in load(installed.enabled(settings.home), BUILTINS).channels().values()]
    else:
        factories = [enabled_channel(settings, name)]
    off = switched_off(settings.home)
    lines = anyio.run(_check_all, settings, factories, off)
    failed = sum(status == "fail" for status, *_ in lines)
    show_findings(lines, [], f"{failed} of {len(lines)} failed." if failed else "None failed.")
    return int(failed > 0)


async def _check_all(settings: Settings, factories: list[ChannelFactory], off: set[str]) -> list[tuple[str, str, str, str]]:
    return [await _check_one(settings, factory, off) for factory in factories]


async def _check_one(settings: Settings, factory: ChannelFactory, off: set[str]) -> tuple[str, str, str, str]:
    if reason := idle_reason(factory.name, factory.manifest, settings, off):
        return "warn", factory.name, reason, ""
    try:
        said = await ask_platform(factory, values(factory.manifest, settings))
    except CredentialRefused as error:
        return "fail", factory.name, one_line(str(error), 500), f"`nanoclaw channel setup {factory.name}` with another one"
    except CheckFailed as error:
        return "fail", factory.name, one_line(str(error), 500), "look at this machine's network, and try again"
    return "ok", factory.name, f"it is {said}" if said else "there is nothing to ask", ""


# --- pairing --------------------------------------------------------------------------------------------------------------


def pair(settings: Settings, name: str) -> None:
    """Make a code and print it, with what to do.

    Raises:
        ChannelMissing: there is no such channel. ChannelNotReady: it pairs with nobody, or cannot be written to.
    """
    manifest = enabled_channel(settings, name).manifest
    if not manifest.pairs:
        raise ChannelNotReady(f"{name} needs no pairing: whoever can use it is the owner.")
    reason = idle_reason(name, manifest, settings, switched_off(settings.home))
    if reason and not _is_had(status_of_host(settings), name):
        raise ChannelNotReady(f"{name} is {reason}. A code can be sent to it after that.")
    print_code(settings, name)
    say_whether_it_listens(settings, name)


def _is_had(host: Mapping[str, Any] | None, name: str) -> bool:
    """Whether the host has the channel, perhaps by an environment that is not ours."""
    states = {each["name"]: each["state"] for each in host["channels"]} if host else {}
    return states.get(name) in ("running", "starting", "waiting")


def print_code(settings: Settings, name: str, who: str = "") -> None:
    """Make a code and print it; `who` is what the platform calls the bot."""
    made = operate(settings, "pairing.begin", channel=name)
    to = f"{who} on {name}" if who else name
    click.echo(f"\nSend this to {to} in a private chat, within {duration(made['seconds']).removesuffix(' 0 s')}:\n")
    click.secho(f"    {made['code']}\n", bold=True)
    click.echo("Whoever sends it becomes an owner of this NanoClaw, and that chat one of the main agent's. It works once.")


def say_whether_it_listens(settings: Settings, name: str) -> None:
    """A code is of no use while nobody listens."""
    host = status_of_host(settings)
    if host is None:
        click.echo("No host runs yet: `nanoclaw chat` starts one.", err=True)
    elif not _is_had(host, name):
        click.echo(f"The host that runs does not have {name} yet: `nanoclaw stop`, then start it again.", err=True)


# --- on and off -----------------------------------------------------------------------------------------------------------


def enable(settings: Settings, name: str, restart: bool) -> None:
    """Switch a channel on, and enable its plugin."""
    found = find_channel(settings, name)
    is_news = switch_on(settings, found)
    lacking = missing(found.factory.manifest, settings)
    if lacking:
        click.echo(f"{name} is on, but lacks {', '.join(lacking)}: `nanoclaw channel setup {name}`.")
    elif not is_news:
        click.echo(f"{name} was on already.")
    else:
        click.echo(f"{name} is on.")
        offer_restart(settings, restart)


def switch_on(settings: Settings, found: Found) -> bool:
    """Switch a channel on, and enable its plugin; False where both were so already."""
    if found.to_enable:
        settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        installed.enable(settings.home, found.to_enable)
    return switch(settings.home, found.factory.name, on=True) or bool(found.to_enable)


def disable(settings: Settings, name: str, restart: bool) -> None:
    """Switch a channel off.

    Raises:
        ChannelMissing: there is no such channel. ChannelNotReady: it cannot be switched off.
    """
    enabled_channel(settings, name)
    if name == TERMINAL:
        raise ChannelNotReady("The terminal stays on: it is how `nanoclaw chat` reaches the host, and the host you.")
    if not switch(settings.home, name, on=False):
        click.echo(f"{name} was off already.")
        return
    click.echo(f"{name} is off. Its credentials stay: `nanoclaw secret list`.")
    offer_restart(settings, restart)
