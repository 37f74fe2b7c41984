"""The channels: which are set up, what the others lack, and how the running host finds them."""

from __future__ import annotations

from collections.abc import AsyncIterator

from anyio import to_thread

from nanoclaw_core.builtins.checks.lines import ok, warn
from nanoclaw_core.builtins.terminal import NAME as TERMINAL
from nanoclaw_core.models import Manifest
from nanoclaw_core.ports import CheckContext, CheckResult
from nanoclaw_core.switches import switched_off

_RUNNING = ("running", "starting")


async def check(context: CheckContext) -> AsyncIterator[CheckResult]:
    """A line for each channel, as far as its manifest and the host know; `nanoclaw channel check` asks the platforms."""
    off = await to_thread.run_sync(switched_off, context.home, abandon_on_cancel=True)
    for name, manifest in context.channels.items():
        if name != TERMINAL or context.host:
            yield _channel(context, name, manifest, is_off=name in off)


def _channel(context: CheckContext, name: str, manifest: Manifest, *, is_off: bool) -> CheckResult:
    line = f"channel {name}"
    said = next((it for it in context.host["channels"] if it["name"] == name), None) if context.host else None
    if said and said["state"] in _RUNNING and not is_off:  # perhaps with an environment that is not this one
        return ok(line, f"it is set up, and {said['state']}")
    if is_off:
        return ok(line, f"switched off; `nanoclaw channel enable {name}` switches it on")
    if lacking := [
        field.variable
        for field in manifest.fields
        if field.required and not (context.variables.get(field.variable) or field.default)
    ]:
        return warn(line, f"it is not set up: it lacks {', '.join(lacking)}", f"`nanoclaw channel setup {name}`")
    if context.host is None:
        return ok(line, f"it is set up; `nanoclaw channel check {name}` asks the platform")
    if said is None or (said["state"] == "ended" and said["reason"].startswith(("not set up", "switched off"))):
        return warn(
            line, "the host that runs was started before it was set up or switched on", "`nanoclaw stop`, then start it again"
        )
    reason = f"it is {said['state']}: {said['reason']}"
    return warn(line, reason, f"`nanoclaw channel check {name}` asks the platform; `nanoclaw logs --component channel`")
