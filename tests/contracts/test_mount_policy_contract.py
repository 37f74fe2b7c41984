"""The contract of mount policies: one that keeps it passes, and each broken rule is found."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from nanoclaw_core import AgentGroup, MountDecision, MountPolicy, MountRequest, MountVerdict
from nanoclaw_core.testing import MountPolicyContract

ALLOWED = MountVerdict(decision=MountDecision.ALLOW)
AGENT = AgentGroup(id="a1", name="Andy", folder="main", is_main=True)
VAULT = MountRequest(agent_group=AGENT, source=Path("/srv/vault"), target="/workspace-extra/vault")


def no_keys(request: MountRequest) -> MountVerdict:
    if ".ssh" in request.source.parts:
        return MountVerdict(decision=MountDecision.REFUSE, reason="keys live there")
    return ALLOWED


class TestNoKeys(MountPolicyContract):
    @pytest.fixture
    def policy(self) -> MountPolicy:
        return MountPolicy(name="no-keys", summary="Hides ~/.ssh", judge=no_keys)

    @pytest.fixture
    def requests(self) -> list[MountRequest]:
        return [VAULT]


def counting() -> Callable[[MountRequest], MountVerdict]:
    """Allows the first three mounts."""
    mounts = count(1)

    def judge(_request: MountRequest) -> MountVerdict:
        return ALLOWED if next(mounts) <= 3 else MountVerdict(decision=MountDecision.REFUSE, reason="too many")

    return judge


def shrugging(request: MountRequest) -> Any:
    return None if request.source == VAULT.source else ALLOWED


def crashing(request: MountRequest) -> MountVerdict:
    request.source.as_posix().encode()
    return ALLOWED


def silent(request: MountRequest) -> MountVerdict:
    return ALLOWED if request.agent_group.is_main else MountVerdict(decision=MountDecision.NARROW)


@pytest.mark.parametrize(
    ("judge", "test"),
    [
        (counting(), "test_the_same_request_gets_the_same_verdict"),
        (shrugging, "test_whatever_is_asked_it_answers"),
        (crashing, "test_whatever_is_asked_it_answers"),
        (silent, "test_what_it_does_not_allow_has_a_reason"),
    ],
    ids=["counts", "says nothing", "raises", "gives no reason"],
)
def test_a_broken_rule_is_found(judge: Callable[[MountRequest], MountVerdict], test: str) -> None:
    contract = MountPolicyContract()
    everything = MountPolicyContract.every_request.__wrapped__(contract, [VAULT])  # type: ignore[attr-defined]  # pytest's
    with pytest.raises((AssertionError, UnicodeError)):
        getattr(contract, test)(MountPolicy(name="broken", summary="", judge=judge), everything)
