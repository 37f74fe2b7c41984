"""The accepted messages: whether any has waited for longer than it should."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from anyio import to_thread

from nanoclaw_core.builtins.checks.lines import fail, ok, warn
from nanoclaw_core.builtins.terminal import NAME as TERMINAL
from nanoclaw_core.errors import DatabaseBroken, HomeUnusable
from nanoclaw_core.history.outcomes import stuck
from nanoclaw_core.ports import CheckContext, CheckResult

_NAMED: Final = 10
_NAME: Final = "stuck messages"


async def check(context: CheckContext) -> AsyncIterator[CheckResult]:
    """A message that waits for its people at a terminal is not stuck."""

    def look() -> list[int] | None:
        try:
            found = stuck(context.home, context.clock.time(), {TERMINAL})
        except (DatabaseBroken, HomeUnusable):  # as `known`
            return None
        return [each.message.number for each in found.messages]  # a mailbox that cannot be read has its own line

    numbers = await to_thread.run_sync(look, abandon_on_cancel=True)
    if numbers is None:
        return
    if not numbers:
        yield ok(_NAME, "none: every message has an outcome, or is within its time")
        return
    more = f" and {len(numbers) - _NAMED} more" if len(numbers) > _NAMED else ""
    reason = f"{', '.join(map(str, numbers[:_NAMED]))}{more} wait beyond their time"
    why = f"`nanoclaw why {numbers[0]}`"
    if context.host:
        yield fail(_NAME, reason, f"{why} says what for")
    else:
        yield warn(
            _NAME, f"{reason}, and no host runs", f"`nanoclaw chat` starts one, which goes on with them; {why} says more"
        )
