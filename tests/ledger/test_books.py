"""What is written down of calls, and which ones are let pass: with budgets, clocks that are wrong, and prices that change."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import anyio
import pytest

from nanoclaw_core.errors import ModelUnavailable
from nanoclaw_core.ledger.books import BUDGET_WORDS, Wish
from nanoclaw_core.ledger.prices import DOLLAR
from nanoclaw_core.store.spending import Connection
from tests.ledger.conftest import MODEL, Till, stream
from tests.ledger.test_tally import delta

DAY = 86400.0


async def rows(till: Till) -> list[Any]:
    def read(connection: Connection) -> list[Any]:
        found = connection.exec_driver_sql("SELECT * FROM model_calls ORDER BY seq")
        return [dict(row) for row in found.mappings()]

    return await till.house.database.read(read)


# --- the books ------------------------------------------------------------------------------------------------------------


async def test_a_call_is_written_down_with_its_cost_and_the_date_of_the_prices(till: Till) -> None:
    await till.spend(1000, 100)
    (row,) = await rows(till)
    told = [row[name] for name in ("model", "input_tokens", "output_tokens", "status", "task", "session_id")]
    assert told == [MODEL, 1000, 100, "complete", None, "s1"]
    assert (row["cost"], row["priced_as_of"]) == (7_500_000, "2026-11-01")
    assert row["day"] == till.ledger.today()


async def test_sums_can_be_made_by_everything(till: Till) -> None:
    await till.spend(1000, 100)
    await till.spend(2000, 0, model="claude-haiku-4-5")
    till.house.clock.jump(DAY)
    await till.spend(0, 1000)
    for by, expected in {"agent": [3], "session": [3], "task": [3], "model": [2, 1], "day": [2, 1]}.items():
        assert [each.calls for each in await till.totals(by)] == expected
        since = till.house.clock.time() - 2 * DAY
        assert await till.totals(by, since=since) == await till.totals(by)
    assert [each.key for each in await till.totals("model")] == [MODEL, "claude-haiku-4-5"]
    assert [each.calls for each in await till.totals(since=till.house.clock.time() - 60)] == [1]


async def test_a_model_without_a_price_costs_the_unknown_and_never_nothing(till: Till) -> None:
    await till.spend(1000, 100)
    await till.spend(1000, 100, model="gpt-9")
    assert [row["cost"] for row in await rows(till)] == [7_500_000, None]
    total = await till.total()
    assert (total.cost, total.unpriced, total.calls) == (7_500_000, 1, 2)


async def test_a_surcharge_that_no_table_has_makes_the_price_unknown(till: Till) -> None:
    for document in ({"speed": "fast"}, {"inference_geo": "us"}):
        wish = Wish.of({"model": MODEL, "max_tokens": 5, **document}, 10)
        async with till.ledger.call(till.worker, wish) as tally:
            tally.begin("text/event-stream")
            tally.hear(stream(10, 10))
    await till.settled()
    assert (await till.total()).unpriced == 2


async def test_new_prices_do_not_rewrite_what_was(till: Till) -> None:
    await till.spend(1_000_000, 0)
    table = {"as_of": "2027-01-01", "models": {MODEL: [{"input": 50, "output": 1}]}}
    (till.house.home / "prices.json").write_text(json.dumps(table))
    await till.spend(1_000_000, 0)
    assert [(row["cost"], row["priced_as_of"]) for row in await rows(till)] == [
        (5 * DOLLAR, "2026-11-01"),
        (50 * DOLLAR, "2027-01-01"),
    ]
    assert (await till.total()).cost == 55 * DOLLAR


async def test_a_stream_that_is_cut_before_its_usage_is_in_the_books_as_incomplete_at_an_unknown_price(till: Till) -> None:
    async with till.call():
        pass
    with suppress(ConnectionError):
        async with till.call() as tally:
            tally.hear(stream(1000, 1).partition(b"event: message_delta")[0] + delta("a") + delta("b"))
            raise ConnectionError
    await till.settled()
    first, second = await rows(till)
    assert (first["status"], first["input_tokens"], first["cost"]) == ("incomplete", 0, None)
    assert (second["status"], second["input_tokens"], second["output_tokens"]) == ("incomplete", 1000, 2)
    total = await till.total()
    assert (total.incomplete, total.unpriced, total.cost) == (2, 1, 1000 * 5000 + 2 * 25000)


async def test_a_call_that_is_refused_is_not_in_the_books(till: Till) -> None:
    async with till.ledger.call(till.worker, Wish(model=MODEL, size=1, most_output=1)):
        pass
    assert await rows(till) == []
    assert not till.ledger._accounts[till.house.agent.id].holds


async def test_what_has_ended_is_written_down_before_the_host_ends(till: Till) -> None:
    with anyio.CancelScope() as scope:
        async with till.call() as tally:
            tally.hear(stream(10, 10))
            scope.cancel()
            await anyio.sleep_forever()
    await till.ledger.__aexit__()
    assert len(await rows(till)) == 1


# --- budgets --------------------------------------------------------------------------------------------------------------


async def test_over_its_budget_an_agent_is_told_so_at_once_and_again_without_a_retry(till: Till) -> None:
    await till.limit_dollars(0.01)
    await till.spend(1000, 100)
    await till.spend(1000, 100)
    for _ in range(2):
        with pytest.raises(ModelUnavailable) as refused:
            await till.spend(1, 1)
        assert (refused.value.status, refused.value.retry) == (402, False)
        assert str(refused.value).startswith(BUDGET_WORDS)
        assert "$0.0150 of $0.0100" in str(refused.value)
    assert (await till.total()).calls == 2
    assert [event.name for event in till.told] == ["budget.warned", "budget.reached"]


async def test_the_next_day_begins_anew(till: Till) -> None:
    await till.limit(per_day=100, unit="tokens")
    await till.spend(100, 1)
    with pytest.raises(ModelUnavailable):
        await till.spend(1, 1)
    till.house.clock.jump(DAY)
    await till.spend(100, 1)
    assert (await till.budget()).spent == 101


async def test_of_many_calls_at_once_one_goes_over_and_never_two(till: Till) -> None:
    """Each may cost a cent or less and costs three quarters of it; four and a bit fit into the budget."""
    await till.limit_dollars(0.031)
    passed, refused = 0, 0

    async def turn() -> None:
        nonlocal passed, refused
        try:
            async with till.call(size=1, most_output=1) as tally:
                passed += 1
                await anyio.lowlevel.checkpoint()
                tally.hear(stream(1000, 100))
        except ModelUnavailable:
            refused += 1

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(turn)
    assert (passed, refused) == (5, 15)
    assert (await till.budget()).spent == 5 * 7_500_000


async def test_calls_that_cannot_use_up_the_budget_run_side_by_side(till: Till) -> None:
    await till.limit_dollars(100)
    with anyio.fail_after(30):
        async with till.call(), till.call() as tally:
            tally.hear(stream(1, 1))
    await till.settled()
    assert (await till.total()).calls == 2


async def test_a_call_that_waits_for_others_goes_on_when_they_turn_out_cheap(till: Till) -> None:
    await till.limit(per_day=10_000, unit="tokens")
    went = anyio.Event()

    async def second() -> None:
        async with till.call() as tally:
            went.set()
            tally.hear(stream(1, 1))

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            async with till.call(size=50_000) as tally:
                tasks.start_soon(second)
                await anyio.wait_all_tasks_blocked()
                assert not went.is_set()
                tally.hear(stream(1, 1))
            await went.wait()


async def test_what_cannot_be_written_down_counts_all_the_same(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    await till.limit(per_day=100, unit="tokens")

    async def full(_: object) -> Any:
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(till.house.database, "write", full)
        await till.spend(100, 1)
    with pytest.raises(ModelUnavailable, match="101 tokens of 100 tokens"):
        await till.spend(1, 1)


async def test_a_stream_that_is_cut_again_and_again_uses_up_the_budget_too(till: Till) -> None:
    await till.limit(per_day=2500, unit="tokens")
    for _ in range(3):
        async with till.call(size=4000):
            pass
        await till.settled()
    with pytest.raises(ModelUnavailable):
        await till.spend(1, 1)


async def test_a_budget_in_dollars_lets_no_model_pass_whose_price_nobody_knows(till: Till) -> None:
    await till.limit_dollars(5)
    with pytest.raises(ModelUnavailable, match="nobody knows what gpt-9 costs") as refused:
        await till.spend(1, 1, model="gpt-9")
    assert refused.value.status == 402
    await till.limit(per_day=1000, unit="tokens")
    await till.spend(1, 1, model="gpt-9")


async def test_a_prompt_so_long_that_it_has_no_price_uses_up_the_budget_all_the_same(till: Till) -> None:
    await till.limit_dollars(1)
    await till.spend(900_000, 1, model="claude-sonnet-4-5")
    assert (await till.total()).unpriced == 1
    with pytest.raises(ModelUnavailable):
        await till.spend(1, 1)


async def test_the_owner_is_warned_once_a_day_at_the_share(till: Till) -> None:
    await till.limit(per_day=1000, unit="tokens", warn_percent=50)
    for expected in (0, 1, 1):
        await till.spend(300, 1)
        await anyio.wait_all_tasks_blocked()
        assert len(till.warnings) == expected
    assert "602 tokens of the 1,000 tokens" in till.warnings[0]
    till.house.clock.jump(DAY)
    await till.spend(600, 0)
    await anyio.wait_all_tasks_blocked()
    assert len(till.warnings) == 2


async def test_a_rate_is_kept_by_telling_the_engine_to_try_again(till: Till) -> None:
    await till.limit(per_minute=2)
    await till.spend(1, 1)
    await till.spend(1, 1)
    with pytest.raises(ModelUnavailable) as refused:
        await till.spend(1, 1)
    assert (refused.value.status, refused.value.retry) == (429, True)
    await till.house.clock.advance(60)
    await till.spend(1, 1)


# --- clocks ---------------------------------------------------------------------------------------------------------------


async def test_a_clock_that_goes_back_and_forth_opens_no_day_twice(till: Till) -> None:
    await till.limit(per_day=100, unit="tokens")
    await till.spend(100, 1)
    till.house.clock.jump(DAY)
    await till.spend(100, 1)
    for leap in (-DAY, DAY, -5 * DAY, 5 * DAY):
        till.house.clock.jump(leap)
        with pytest.raises(ModelUnavailable):
            await till.spend(1, 1)


async def test_after_a_leap_of_the_clock_the_owner_can_begin_the_day_anew(till: Till) -> None:
    await till.limit(per_day=100, unit="tokens")
    till.house.clock.jump(3650 * DAY)
    await till.spend(100, 1)
    till.house.clock.jump(-3650 * DAY)
    with pytest.raises(ModelUnavailable, match="set the clock right, or begin the day anew"):
        await till.spend(1, 1)
    await till.limit(per_day=100, unit="tokens")
    await till.spend(100, 1)
    with pytest.raises(ModelUnavailable, match="goes on tomorrow"):
        await till.spend(1, 1)


async def test_the_day_is_that_of_the_time_zone(till: Till) -> None:
    """At 23:30 in Berlin it is not yet tomorrow in London, and one hour later it is in Berlin."""
    await till.limit(per_day=100, unit="tokens")
    now = till.house.clock.time()
    till.house.clock.jump(22.5 * 3600 - now % DAY)  # 22:30 UTC, in winter
    await till.spend(100, 1)
    till.house.clock.jump(3600)
    await till.spend(100, 1)


# --- setting them ---------------------------------------------------------------------------------------------------------


async def test_what_is_not_named_stays_and_what_was_spent_today_counts(till: Till) -> None:
    await till.spend(1000, 0)
    await till.limit(per_day=5000, unit="tokens", per_minute=9)
    await till.limit(warn_percent=10)
    budget = await till.budget()
    assert (budget.per_day, budget.unit, budget.per_minute, budget.warn_percent, budget.spent) == (5000, "tokens", 9, 10, 1000)
    await till.limit_dollars(1)
    assert (await till.budget()).spent == 5_000_000


@pytest.mark.parametrize(
    "document", [{}, {"model": 5, "max_tokens": "x"}, {"model": "m" * 9999, "max_tokens": -1}, {"max_tokens": 10**30}], ids=str
)
def test_a_request_may_wish_for_any_nonsense(document: dict[str, Any]) -> None:
    wish = Wish.of(document, 100)
    assert len(wish.model) <= 200
    assert wish.most.output > 100_000


async def test_a_day_with_many_calls_has_one_row_for_each_model_and_session(till: Till) -> None:
    for _ in range(3):
        await till.spend(1, 1)
    count = "SELECT count(*) FROM model_days"
    assert await till.house.database.read(lambda conn: conn.exec_driver_sql(count).scalar()) == 1
