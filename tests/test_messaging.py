"""What agents can do in chats: each action keeps the contract, and says in its answer what the agent needs next."""

from __future__ import annotations

import doctest
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from nanoclaw_core.builtins import emoji
from nanoclaw_core.builtins.emoji import NAMED, emoji_of
from nanoclaw_core.builtins.messaging import nanoclaw_actions
from nanoclaw_core.errors import ActionRefused
from nanoclaw_core.models import OutboundKind
from nanoclaw_core.ports import Action
from nanoclaw_core.testing import ActionContract, FakeActionHost, Said

ACTIONS: dict[str, Action[Any]] = {action.name: action for action in nanoclaw_actions()}


class TestSendMessage(ActionContract):
    @pytest.fixture
    def action(self) -> Action[Any]:
        return ACTIONS["send_message"]

    @pytest.fixture
    def arguments(self) -> Mapping[str, Any]:
        return {"text": "yo", "to": "family"}

    @pytest.fixture
    def refused(self) -> Sequence[Mapping[str, Any]]:
        return [{"text": " "}, {"text": "yo", "to": "nowhere"}, {"text": "x" * 100_001}, {"text": 7}]


class TestSendFile(ActionContract):
    @pytest.fixture
    def action(self) -> Action[Any]:
        return ACTIONS["send_file"]

    @pytest.fixture
    def arguments(self, tmp_path: Path) -> Mapping[str, Any]:
        path = tmp_path / "a.txt"
        path.write_bytes(b"hello")
        return {"path": path, "text": "look", "name": "../b\u202e.txt"}

    @pytest.fixture
    def refused(self, arguments: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        return [{**arguments, "to": "nowhere"}, {"path": "a.txt"}, {}]

    async def test_it_is_sent_under_a_clean_name(
        self, action: Action[Any], arguments: Mapping[str, Any], host: FakeActionHost
    ) -> None:
        assert await host.carry_out(action, {"path": arguments["path"]}) == "a.txt sent to this chat (id s1)."
        assert await host.carry_out(action, arguments, "call-2") == "b.txt sent to this chat (id s2)."
        assert [said.files for said in host.said] == [(("a.txt", b"hello"),), (("b.txt", b"hello"),)]


class TestEditMessage(ActionContract):
    @pytest.fixture
    def action(self) -> Action[Any]:
        return ACTIONS["edit_message"]

    @pytest.fixture
    def arguments(self) -> Mapping[str, Any]:
        return {"message_id": "s12", "text": "done"}

    @pytest.fixture
    def refused(self) -> Sequence[Mapping[str, Any]]:
        return [{"message_id": "12", "text": "done"}, {"message_id": 12, "text": "done"}]


class TestAddReaction(ActionContract):
    @pytest.fixture
    def action(self) -> Action[Any]:
        return ACTIONS["add_reaction"]

    @pytest.fixture
    def arguments(self) -> Mapping[str, Any]:
        return {"message_id": "12", "emoji": "thumbs_up"}

    @pytest.fixture
    def refused(self) -> Sequence[Mapping[str, Any]]:
        return [{"message_id": "12", "emoji": "nice"}, {"message_id": "s12", "emoji": "👍"}, {"message_id": "12", "emoji": ""}]

    async def test_a_name_becomes_the_emoji(self, action: Action[Any], host: FakeActionHost) -> None:
        said = await host.carry_out(action, {"message_id": "12", "emoji": ":+1:"})
        assert said == "👍 is put under the message 12 in this chat."
        assert host.said == [Said(kind=OutboundKind.REACTION, text="👍", to="this chat", about="12")]


class TestAskUser(ActionContract):
    @pytest.fixture
    def action(self) -> Action[Any]:
        return ACTIONS["ask_user"]

    @pytest.fixture
    def arguments(self) -> Mapping[str, Any]:
        return {"question": "Which?", "options": ["red", "blue"], "to": "family"}

    @pytest.fixture
    def refused(self, arguments: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        changes: list[dict[str, Any]] = [{"options": ["red"]}, {"options": ["a"] * 11}, {"options": ["a", "a"]}, {"to": "x"}]
        return [{**arguments, **change} for change in changes]

    async def test_it_says_that_the_answer_comes_later(self, action: Action[Any], host: FakeActionHost) -> None:
        said = await host.carry_out(action, {"question": "Which?", "options": ["red", "blue"]})
        assert said == "Asked in this chat (id s1). The answer arrives as a message; end your turn if you need it."


# --- emoji ------------------------------------------------------------------------------------------------------------------


def test_the_examples_run() -> None:
    assert doctest.testmod(emoji).failed == 0


@pytest.mark.parametrize("text", ["👍", "❤️", "👩🏽‍🚀", "🏳️‍🌈", "🇩🇪", "☑", "⏳"])
def test_an_emoji_is_taken_as_it_is(text: str) -> None:
    assert emoji_of(f" {text} ") == text


@pytest.mark.parametrize(
    ("name", "character"), [*NAMED.items(), ("Thumbs-Up", "👍"), (":100:", "💯"), ("+1", "👍"), ("-1", "👎")]
)
def test_a_name_is_taken_for_its_emoji(name: str, character: str) -> None:
    assert emoji_of(name) == character


@pytest.mark.parametrize("text", ["", " ", "nice", "👍 nice", "^", "\ufe0f", "\u200d", "a", "1", "👍" * 17, ":", "漢"])
def test_what_is_no_emoji_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(ActionRefused, match="thumbs_up"):
        emoji_of(text)
