"""The ledger of a host: lets calls of the model pass within the budgets of their agents, and writes down what they took."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Self

import anyio
import structlog

from nanoclaw_core.errors import ModelUnavailable
from nanoclaw_core.ledger.prices import Prices, Rate, Tokens
from nanoclaw_core.ledger.tally import Tally
from nanoclaw_core.ledger.words import amount, day_of
from nanoclaw_core.models import AgentGroup, Event, WorkerIdentity
from nanoclaw_core.ports import Clock
from nanoclaw_core.store import budgets, spending
from nanoclaw_core.store.budgets import Budget
from nanoclaw_core.store.database import Database
from nanoclaw_core.store.spending import Connection, Spent
from nanoclaw_core.supervise import survive

log = structlog.get_logger()

#: How every refusal of ours begins, so that the chat is not told that the provider's account is empty.
BUDGET_WORDS: Final = "NanoClaw’s budget: "
_DEMO: Final = "demo"
_MINUTE: Final = 60.0
_FAREWELL: Final = 5.0
#: What the provider may add to a request that is not in its bytes.
_ADDED: Final = 2000
_BYTES_PER_TOKEN: Final = 4
_LONGEST_NAME: Final = 200
_UNKNOWN_OUTPUT: Final = 128_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is known of a call before it is made. `is_standard` is False where a surcharge applies that no table has."""

    model: str
    size: int
    most_output: int
    is_standard: bool = True

    @classmethod
    def of(cls, document: Mapping[str, Any], size: int) -> Wish:  # Any: JSON of a format that we do not own
        """The wish in a request of `size` bytes."""
        model, most = document.get("model"), document.get("max_tokens")
        plain = (None, "standard", "standard_only", "auto", "default", "global", "not_available")
        return cls(
            model=model[:_LONGEST_NAME] if isinstance(model, str) else "",
            size=size,
            most_output=most if type(most) is int and 0 <= most <= _UNKNOWN_OUTPUT else _UNKNOWN_OUTPUT,
            is_standard=all(document.get(key) in plain for key in ("speed", "inference_geo")),
        )

    @property
    def most(self) -> Tokens:
        """More than it can take: a token has a byte at least."""
        return Tokens(input=self.size + _ADDED, output=self.most_output)

    @property
    def guess(self) -> Tokens:
        """What counts against a budget when the provider never said."""
        return Tokens(input=self.size // _BYTES_PER_TOKEN)


@dataclass(slots=True, kw_only=True, eq=False)
class _Hold:
    """What is set aside for a call, in both units; when it ended and could not be booked, what it took."""

    cost: int
    tokens: int
    is_live: bool = True

    def of(self, unit: str) -> int:
        return self.cost if unit == "usd" else self.tokens


@dataclass(slots=True, kw_only=True)
class _Account:
    """What this host knows of an agent group's calls. `version` counts what has ended."""

    holds: set[_Hold] = field(default_factory=set)
    recent: deque[float] = field(default_factory=deque)
    version: int = 0
    changed: anyio.Event = field(default_factory=anyio.Event)
    refused_on: str = ""

    def tell(self) -> None:
        self.version += 1
        self.changed.set()
        self.changed = anyio.Event()


class Ledger:
    """Knows every call. `warn` tells the owner that a budget is nearly used up, `tell` the plugins.

    With `is_demo`, whatever model is asked for, it is the demo that answers.
    """

    def __init__(
        self,
        database: Database,
        prices: Prices,
        clock: Clock,
        timezone: str,
        warn: Callable[[str], Awaitable[None]],
        tell: Callable[[Event], None],
        *,
        is_demo: bool = False,
    ) -> None:
        self._database = database
        self._prices = prices
        self._clock = clock
        self._timezone = timezone
        self._warn = warn
        self._tell = tell
        self._is_demo = is_demo
        self._accounts: dict[str, _Account] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        if fault := self._prices.check():
            log.warning("prices.unusable", reason=str(fault))
        self._tasks = await self._stack.enter_async_context(anyio.create_task_group())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.__aexit__(None, None, None)  # what has ended is written down first

    @asynccontextmanager
    async def call(self, who: WorkerIdentity, wish: Wish) -> AsyncIterator[Tally]:
        """A call that may be made now; what its answer is heard to take is booked when the block is left, however that is.

        Waits while calls under way could use up the budget: so one call goes beyond it, and never two.

        Raises:
            ModelUnavailable: the budget is used up (402), its unit has no price for the model (402), or too many calls were
                made within a minute (429).
        """
        account = self._accounts.setdefault(who.agent_group.id, _Account())
        hold = await self._admit(who.agent_group, account, wish)
        tally = Tally()
        try:
            yield tally
        finally:
            if tally.has_begun:
                self._tasks.start_soon(self._book, who, wish, tally, account, hold, name="ledger")
            else:
                account.holds.discard(hold)
                account.tell()

    def today(self) -> str:
        """The day by the clock, in the time zone of the settings."""
        return day_of(self._clock.time(), self._timezone)

    async def _admit(self, agent: AgentGroup, account: _Account, wish: Wish) -> _Hold:
        rate = self._rate(wish, wish.model)
        hold = _Hold(cost=rate.most(wish.most) if rate else 0, tokens=wish.most.total)
        while True:
            version, changed = account.version, account.changed
            budget = await self._database.read(partial(budgets.budget_of, agent_group_id=agent.id))
            if version != account.version:  # what is booked meanwhile is in neither sum
                continue
            if budget is None or self._has_room(agent, account, budget, rate, wish):
                if budget is not None:
                    self._keep_pace(agent, account, budget)
                account.holds.add(hold)
                return hold
            await changed.wait()

    def _has_room(self, agent: AgentGroup, account: _Account, budget: Budget, rate: Rate | None, wish: Wish) -> bool:
        """Whether the call may be made now; False while those under way may use up what is left."""
        if budget.per_day is None:
            return True
        if budget.unit == "usd" and rate is None:
            raise self._refusal(
                f"nobody knows what {wish.model or 'this model'} costs, so {agent.name}’s budget in US dollars cannot be kept. "
                "Put its price into prices.json in the home, or set the budget in tokens."
            )
        today = self.today()
        spent = budget.spent_by(today) + sum(hold.of(budget.unit) for hold in account.holds if not hold.is_live)
        if spent >= budget.per_day:
            self._note_refusal(agent, account, budget, today)
            raise self._refusal(_used_up(agent, budget, spent, today))
        return spent + sum(hold.of(budget.unit) for hold in account.holds if hold.is_live) < budget.per_day

    def _keep_pace(self, agent: AgentGroup, account: _Account, budget: Budget) -> None:
        now = self._clock.monotonic()
        while account.recent and now - account.recent[0] >= _MINUTE:
            account.recent.popleft()
        if budget.per_minute is not None and len(account.recent) >= budget.per_minute:
            raise self._refusal(f"{agent.name} may call the model {budget.per_minute} times a minute. Try again soon.", 429)
        account.recent.append(now)

    def _note_refusal(self, agent: AgentGroup, account: _Account, budget: Budget, today: str) -> None:
        if account.refused_on != today:
            account.refused_on = today
            data = {"agent": agent.name, "limit": budget.per_day, "unit": budget.unit}
            self._tell(Event(name="budget.reached", at=self._clock.time(), data=data))

    def _refusal(self, reason: str, status: int = 402) -> ModelUnavailable:
        return ModelUnavailable(BUDGET_WORDS + reason, status=status, retry=status == 429)

    def _rate(self, wish: Wish, model: str) -> Rate | None:
        return self._prices.rate(_DEMO if self._is_demo else model) if wish.is_standard else None

    async def _book(self, who: WorkerIdentity, wish: Wish, tally: Tally, account: _Account, hold: _Hold) -> None:
        with anyio.CancelScope(shield=True):  # a host that ends still writes this down
            model = _DEMO if self._is_demo else tally.model or wish.model
            rate, tokens = self._rate(wish, model), tally.tokens
            spent = self._spent(who, model, tally, rate)
            charged = tokens or wish.guess
            hold.cost, hold.tokens = self._charge(wish, rate, charged), charged.total
            write = partial(_book, spent=spent, cost=hold.cost, tokens=hold.tokens)
            if await survive("ledger", self._write(who.agent_group, write)):
                hold.is_live = False  # nobody else knows of it
            else:
                account.holds.discard(hold)
            account.tell()

    def _charge(self, wish: Wish, rate: Rate | None, tokens: Tokens) -> int:
        """What a call costs its budget: where no price is known for it, the most that the model could have taken."""
        cost = rate.cost(tokens) if rate else None
        known = rate or self._rate(wish, wish.model)
        return cost if cost is not None else known.most(tokens) if known else 0

    def _spent(self, who: WorkerIdentity, model: str, tally: Tally, rate: Rate | None) -> Spent:
        tokens = tally.tokens or Tokens()
        cost = rate.cost(tokens) if rate and tally.tokens else None
        return Spent(
            at=self._clock.time(),
            day=self.today(),
            agent_group_id=who.agent_group.id,
            session_id=who.session_id,
            model=model,
            input_tokens=tokens.input,
            output_tokens=tokens.output,
            cache_read_tokens=tokens.cache_read,
            cache_write_tokens=tokens.cache_write,
            status="complete" if tally.is_complete else "incomplete",
            cost=cost,
            priced_as_of=rate.as_of if rate and cost is not None else None,
        )

    async def _write(self, agent: AgentGroup, write: Callable[[Connection], tuple[Budget, bool] | None]) -> None:
        charged = await self._database.write(write)
        if charged is not None and charged[1]:
            budget = charged[0]
            spent, limit = amount(budget.spent, budget.unit), amount(budget.per_day or 0, budget.unit)
            text = f"{agent.name} has spent {spent} of the {limit} that its budget allows today ({budget.day})."
            self._tasks.start_soon(self._warn_of, text, name="budget warning")
            data = {"agent": agent.name, "spent": budget.spent, "limit": budget.per_day, "unit": budget.unit}
            self._tell(Event(name="budget.warned", at=self._clock.time(), data=data))

    async def _warn_of(self, text: str) -> None:
        with anyio.move_on_after(_FAREWELL, shield=True):  # it is said once a day: a host that ends still says it
            await survive("budget warning", self._warn(text))


def _book(conn: Connection, spent: Spent, cost: int, tokens: int) -> tuple[Budget, bool] | None:
    spending.book(conn, spent)
    return budgets.charge(conn, spent.agent_group_id, spent.day, cost=cost, tokens=tokens)


def _used_up(agent: AgentGroup, budget: Budget, spent: int, today: str) -> str:
    limit = amount(budget.per_day or 0, budget.unit)
    used = f"{agent.name} has used up what it may spend in a day: {amount(spent, budget.unit)} of {limit}"
    if today < budget.day:
        return (
            f"{used}. The host’s clock says {today}, but the last call was on {budget.day}: set the clock right, or begin "
            "the day anew with `nanoclaw budget set`."
        )
    return f"{used}. It goes on tomorrow, or as soon as its owner allows more with `nanoclaw budget set`."
