"""Every policy must allow a mount; any may refuse or narrow it."""

from __future__ import annotations

from itertools import permutations

import pytest

from nanoclaw_core.models import MountDecision, MountVerdict
from nanoclaw_core.sandbox.verdicts import combined

ALLOWED = MountVerdict(decision=MountDecision.ALLOW)
NARROWED = MountVerdict(decision=MountDecision.NARROW, reason="an archive")
REFUSED = MountVerdict(decision=MountDecision.REFUSE, reason="keys live there")


@pytest.mark.parametrize(
    ("verdicts", "decision"),
    [
        ([ALLOWED, ALLOWED], MountDecision.ALLOW),
        ([ALLOWED, NARROWED], MountDecision.NARROW),
        ([ALLOWED, NARROWED, REFUSED], MountDecision.REFUSE),
        ([REFUSED, ALLOWED], MountDecision.REFUSE),
    ],
    ids=["all allow", "one narrows", "one refuses", "one of two refuses"],
)
def test_the_strictest_counts_in_any_order(verdicts: list[MountVerdict], decision: MountDecision) -> None:
    names = [f"policy-{number}" for number in range(len(verdicts))]
    found = {combined(dict(zip(names, order, strict=True))).decision for order in permutations(verdicts)}
    assert found == {decision}


def test_what_nobody_allows_is_refused() -> None:
    assert combined({}) == MountVerdict(decision=MountDecision.REFUSE, reason="no policy allows it")


def test_each_reason_names_its_policy_and_those_that_did_not_decide_are_silent() -> None:
    verdict = combined({"keys": REFUSED, "old": NARROWED, "vault": REFUSED, "mine": ALLOWED})
    assert verdict.reason == "keys: keys live there; vault: keys live there"
