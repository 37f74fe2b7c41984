"""What people set up: the model provider's credential, settings, plugins."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

from anyio import to_thread

from nanoclaw_core.builtins.checks.lines import fail, ok, warn
from nanoclaw_core.errors import ModelUnavailable, NanoClawError
from nanoclaw_core.ledger.prices import Prices, packaged
from nanoclaw_core.models import PluginState
from nanoclaw_core.packages.lockfile import lock_path, wheel_path
from nanoclaw_core.packages.notice import compare
from nanoclaw_core.ports import CheckContext, CheckResult
from nanoclaw_core.settings import mistakes, read

_AGAIN = "then `nanoclaw stop` and start again"

#: What to do about each status with which a provider refuses, as the gateway's notices say why.
_FIXES = {
    401: f"set a valid credential (for Claude: `nanoclaw secret set ANTHROPIC_API_KEY`), {_AGAIN}",
    402: "add credit to the account (Claude: https://console.anthropic.com/settings/billing); chats go on by themselves",
    403: "the credential lacks a right, or a rule forbids the way there; ask whoever gave it to you",
    404: "nothing, if that is a gateway of your own; else correct its address (`ANTHROPIC_BASE_URL`)",
    429: "wait a few minutes; the provider limits how much may be asked",
}
_SHORT_NAMES = ("default", "opus", "sonnet", "haiku", "opusplan")
_NETWORK = "look at this machine's network: name service, firewall, HTTPS_PROXY; chats go on by themselves"


async def check_provider(context: CheckContext) -> AsyncIterator[CheckResult]:
    """Ask the provider itself: whether a key has the right form says nothing about whether it is good."""
    try:
        provider = await to_thread.run_sync(context.provider, abandon_on_cancel=True)
        models = await provider.models()
    except ModelUnavailable as error:
        if error.status == 404:
            yield warn("provider", f"{error}, so the credential could not be tried", _FIXES[404])
            return
        fix = _FIXES.get(error.status, _NETWORK if error.status in (502, 504) else "try again in a few minutes")
        yield fail("provider", str(error), fix)
        return
    except NanoClawError as error:
        yield fail("provider", str(error), _FIXES[401])
        return
    name = context.host["provider"]["name"] if context.host else ""
    yield _provider(name, list(models), read(context.home, context.variables).model)


def _provider(name: str, models: list[str], wanted: str | None) -> CheckResult:
    if models == ["demo"]:
        return warn("provider", "demo answers: it only echoes", f"set ANTHROPIC_API_KEY to talk to Claude, {_AGAIN}")
    if wanted and models and not _is_listed(wanted, models):
        return warn(
            "provider", f"it does not list the model {wanted}", f"correct NANOCLAW_MODEL; it lists {', '.join(models[:5])}"
        )
    return ok("provider", f"{name or 'it'} accepts the credential")


def _is_listed(wanted: str, models: list[str]) -> bool:
    """Whether the provider has it: its whole id, the id without its date, or one of Claude Code's own short names."""
    name = wanted.partition("[")[0]
    return name in _SHORT_NAMES or any(model.startswith(name) for model in models)


async def check_settings(context: CheckContext) -> AsyncIterator[CheckResult]:
    """Names that mean nothing, and lines of .env that cannot be read."""

    def look() -> list[str]:
        files = [Path.cwd() / ".env", context.home / ".env"]
        return mistakes(context.variables, files, [field.variable for field in context.fields])

    wrong = await to_thread.run_sync(look, abandon_on_cancel=True)
    for line in wrong:
        yield warn("settings", line, "correct it where it is set")
    if not wrong:
        yield ok("settings", "every NANOCLAW_ variable that is set is known")


async def check_prices(context: CheckContext) -> AsyncIterator[CheckResult]:
    """The home's price table, and how old the one is that counts without it."""
    prices = Prices(context.home)
    fault = await to_thread.run_sync(prices.check, abandon_on_cancel=True)
    if fault:
        yield warn("prices", str(fault), "correct it as docs/settings.md shows, or remove it: it counts at once")
        return
    own = f", and the home's own of {prices.as_of} before it" if prices.as_of else ""
    yield ok("prices", f"the packaged table of {packaged().as_of} counts{own}")


async def check_plugins(context: CheckContext) -> AsyncIterator[CheckResult]:
    """A line for each that is left out, and one for all that work."""
    for plugin in context.plugins:
        if plugin.state in (PluginState.BROKEN, PluginState.MISSING):
            reason = f"{plugin.name} {plugin.version}".rstrip() + f" is left out: {plugin.reason}"
            yield fail("plugins", reason, f"mend or upgrade it, or `nanoclaw plugin disable {plugin.name}`")
    enabled = [f"{plugin.name} {plugin.version}" for plugin in context.plugins if plugin.state is PluginState.ENABLED]
    built_in = sum(plugin.state is PluginState.BUILTIN for plugin in context.plugins)
    yield ok("plugins", f"{built_in} built-in ones work" + (f", and {', '.join(enabled)}" if enabled else ""))


async def check_packages(context: CheckContext) -> AsyncIterator[CheckResult]:
    """Whether the lock of the plugins' packages says what is installed, and whether the set before can be restored."""
    for line in await to_thread.run_sync(_packages, context.home, abandon_on_cancel=True):
        yield line


def _packages(home: Path) -> list[CheckResult]:
    seen = compare(home)
    if unfinished := seen.lock.unfinished:
        reason = f"a change was cut short ({unfinished.made_by}), so that the environment may be half-way"
        return [fail("packages", reason, "`nanoclaw plugin rollback` restores what was there before")]
    if not lock_path(home).exists():
        return [ok("packages", f"{len(seen.packages) or 'none'} belong to plugins; the next start locks what there is")]
    lines = [warn("packages", line, "the next start, or `nanoclaw plugin list`, records it") for line in seen.differences]
    if lost := [it.label for each in seen.lock.previous[:1] for it in each.packages if it.sha256 and not wheel_path(home, it)]:
        lines.append(
            warn("packages", f"wheels for `nanoclaw plugin rollback` are gone: {', '.join(lost)}", "nothing, if that is well")
        )
    said = f"{len(seen.packages)} belong to plugins, as locked" if seen.packages else "none belong to plugins"
    return lines or [ok("packages", said)]
