"""The rules of a `MountPolicy`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nanoclaw_core.models import AgentGroup, MountDecision, MountRequest, MountVerdict
from nanoclaw_core.ports import MountPolicy
from nanoclaw_core.testing.contracts.report import capability

#: Paths that a file system allows, and that somebody who writes a rule does not think of.
_ODD = (
    Path("/"),
    Path("/a"),
    Path("/home/ada/.ssh"),
    Path("/home/ada/.SSH/id_ed25519"),
    Path("/home/ada/two\nlines"),
    Path("/home/ada/ space and \ttab "),
    Path("/home/ada/*[a-z]{1,2}(?P<x>\\d+)$"),
    Path("/home/ada/Grüße/שלום/👋🏽"),
    Path("/home/ada/no utf-8 \udcff"),
    Path("/" + "/".join(["deep"] * 500)),
    Path("/" + "x" * 255),
)
_MAIN = AgentGroup(id="a1", name="Andy", folder="main", is_main=True)
_OTHER = AgentGroup(id="a2", name="Böb", folder="bob")


class MountPolicyContract:
    """Inherit, name the class Test…, and supply the fixture `policy`; perhaps also `requests`, those that it is made for."""

    @pytest.fixture
    def policy(self) -> MountPolicy:
        raise NotImplementedError("a fixture `policy` that returns the policy under test")

    @pytest.fixture
    def requests(self) -> list[MountRequest]:
        """What the policy is there to judge; put its refusals among them."""
        return []

    @pytest.fixture
    def every_request(self, requests: list[MountRequest]) -> list[MountRequest]:
        """Those, and odd ones: for the main agent and another one, to read and to write."""
        odd = [MountRequest(agent_group=_MAIN, source=path, target="/workspace-extra/it") for path in _ODD]
        more = [replace(each, agent_group=agent) for each in [*odd, *requests] for agent in (_MAIN, _OTHER)]
        return [replace(each, read_only=read_only) for each in more for read_only in (True, False)] + requests

    @capability("verdicts")
    def test_whatever_is_asked_it_answers(self, policy: MountPolicy, every_request: list[MountRequest]) -> None:
        verdicts = [policy.judge(request) for request in every_request]
        assert [verdict for verdict in verdicts if not isinstance(verdict, MountVerdict)] == []

    @capability("verdicts")
    def test_the_same_request_gets_the_same_verdict(self, policy: MountPolicy, every_request: list[MountRequest]) -> None:
        """In whatever order they come: a verdict hangs on nothing but its request."""
        first = [policy.judge(request) for request in every_request]
        again = [policy.judge(request) for request in reversed(every_request)]
        assert first == again[::-1]

    @capability("reasons")
    def test_what_it_does_not_allow_has_a_reason(self, policy: MountPolicy, every_request: list[MountRequest]) -> None:
        verdicts = [policy.judge(request) for request in every_request]
        against = [verdict for verdict in verdicts if verdict.decision is not MountDecision.ALLOW]
        assert [verdict for verdict in against if not verdict.reason.strip()] == []
