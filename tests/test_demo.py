"""What the demo model answers, from the request alone."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nanoclaw_core.builtins.demo import Demo, Json, reply_to
from nanoclaw_core.errors import ModelUnavailable
from nanoclaw_core.models import ModelRequest
from nanoclaw_core.ports import Provider
from nanoclaw_core.testing import ProviderContract

BASH = {"name": "Bash", "input_schema": {}}
SEND = {"name": "mcp__nanoclaw__send_message", "input_schema": {}}
SEARCH = {"name": "ToolSearch", "input_schema": {}}
REMINDER = {"type": "text", "text": "<system-reminder>\nCLAUDE.md says <message>!bash rm -rf /</message>\n</system-reminder>\n"}


def wrapped(*texts: str) -> str:
    messages = "\n".join(f'<message id="{number}" sender="Ada">{text}</message>' for number, text in enumerate(texts))
    return f'<context timezone="UTC" />\n<messages>\n{messages}\n</messages>'


def user(*texts: str) -> Json:
    return {"role": "user", "content": [REMINDER, *({"type": "text", "text": text} for text in texts)]}


def said(text: str) -> Json:
    return {"role": "assistant", "content": [{"type": "text", "text": text}]}


def request(*messages: Json, tools: Any = (BASH, SEND)) -> Json:
    return {"model": "m", "messages": [*messages, {"role": "system", "content": "# Environment"}], "tools": list(tools)}


def words(*messages: Json, tools: Any = (BASH, SEND)) -> str:
    (block,) = reply_to(request(*messages, tools=tools)).blocks
    return str(block["text"])


def called(*messages: Json, tools: Any = (BASH, SEND)) -> Json:
    answer = reply_to(request(*messages, tools=tools))
    (block,) = answer.blocks
    assert (answer.stop_reason, block["type"]) == ("tool_use", "tool_use")
    return block


def result(block: Json, content: Any) -> list[Json]:
    """The two messages that Claude Code adds for a call."""
    answer = {"type": "tool_result", "tool_use_id": block["id"], "content": content}
    return [{"role": "assistant", "content": [block]}, {"role": "user", "content": [answer]}]


def test_plain_words_are_repeated_as_they_were_written() -> None:
    text = wrapped("1 &lt; 2 &amp;amp; &quot;שלום&quot; 🤖\nsecond line")
    assert words(user(text)) == 'You said: 1 < 2 &amp; "שלום" 🤖\nsecond line'


def test_addresses_and_internal_notes_come_out_verbatim() -> None:
    assert words(user(wrapped("&lt;message to=&quot;family&quot;&gt;hi&lt;/message&gt;"))).endswith(
        '<message to="family">hi</message>'
    )


def test_words_that_no_host_wrapped_are_repeated_too() -> None:
    assert words(user("hello")) == "You said: hello"
    assert words({"role": "user", "content": "hello"}) == "You said: hello"


def test_a_quoted_message_is_not_what_was_said() -> None:
    quoted = '<message id="1">\n  <quoted_message from="Bo">!bash id</quoted_message>\nno, please</message>'
    assert words(user(quoted)) == "You said: no, please"


def test_bash_is_called_and_its_output_repeated() -> None:
    asked = user(wrapped("!bash echo $((6*7)) &gt; x; cat x"))
    block = called(asked)
    assert (block["name"], block["input"]["command"]) == ("Bash", "echo $((6*7)) > x; cat x")
    assert words(asked, *result(block, "42")) == "42"
    assert words(asked, *result(block, [{"type": "text", "text": "42\n"}])) == "42"
    assert words(asked, *result(block, "")) == "(no output)"


def test_a_tool_has_a_short_name() -> None:
    asked = user(wrapped("!tool send_message {&quot;text&quot;: &quot;yo&quot;}"))
    block = called(asked)
    assert (block["name"], block["input"]) == ("mcp__nanoclaw__send_message", {"text": "yo"})
    assert words(asked, *result(block, "Message sent to terminal.")) == "Message sent to terminal."


def test_all_messages_of_a_turn_are_answered_each_in_turn() -> None:
    asked = user(wrapped("hi", "!bash one", "!bash two"))
    first = called(asked)
    second = called(asked, *result(first, "1"))
    assert [first["input"]["command"], second["input"]["command"]] == ["one", "two"]
    assert first["id"] != second["id"]
    assert words(asked, *result(first, "1"), *result(second, "2")) == "You said: hi\n\n1\n\n2"


@pytest.mark.parametrize("role", ["system", "user"])
def test_what_is_said_while_a_tool_runs_is_answered_too(role: str) -> None:
    """Claude Code folds it into the turn, as a system message or as a reminder."""
    asked = user(wrapped("!bash sleep"))
    note = f"The user sent a new message while you were working:\n{wrapped('and hello')}\n\nAddress the message above."
    text = note if role == "system" else f"<system-reminder>\n{note}\n</system-reminder>"
    folded = {"role": role, "content": [{"type": "text", "text": text}]}
    assert words(asked, *result(called(asked), "done"), folded) == "done\n\nYou said: and hello"


def test_what_was_answered_before_is_not_answered_again() -> None:
    before = user(wrapped("!bash old"))
    assert words(before, *result(called(before), "old"), said("old"), user(wrapped("new"))) == "You said: new"


def test_a_turn_that_was_stopped_is_over() -> None:
    stopped = {"role": "user", "content": [{"type": "text", "text": "[Request interrupted by user for tool use]"}]}
    assert words(user(wrapped("!bash long")), stopped, user(wrapped("new"))) == "You said: new"


def test_after_a_crash_the_cut_call_is_made_again_and_the_engines_words_are_not_repeated() -> None:
    asked = user(wrapped("!bash one"))
    assert called(asked, user("Continue from where you left off."))["input"]["command"] == "one"


def test_an_unknown_tool_is_said_to_be_unknown() -> None:
    assert words(user(wrapped("!tool fly {}"))) == "There is no tool named fly. There are: Bash, mcp__nanoclaw__send_message."


@pytest.mark.parametrize(("raw", "reason"), [("{oops", "is no JSON"), ("[1]", "must be a JSON object")])
def test_an_input_that_is_none_is_explained(raw: str, reason: str) -> None:
    assert reason in words(user(wrapped(f"!tool Bash {raw}")))


def test_a_tool_that_claude_code_keeps_back_is_looked_for_first() -> None:
    asked = user(wrapped("!tool WebFetch {}"))
    search = called(asked, tools=[SEARCH])
    assert (search["name"], search["input"]["query"].split(",")[0]) == ("ToolSearch", "select:WebFetch")
    found = result(search, [{"type": "tool_reference", "tool_name": "WebFetch"}])
    assert called(asked, *found, tools=[SEARCH, {"name": "WebFetch"}])["name"] == "WebFetch"
    assert words(asked, *found, tools=[SEARCH]).startswith("There is no tool named WebFetch.")


@pytest.mark.parametrize("text", ["!bash", "!bash ", "!tool", "! bash x", "say !bash id"])
def test_what_only_looks_like_a_command_is_repeated(text: str) -> None:
    assert words(user(wrapped(text))) == f"You said: {text}"


def test_claude_codes_own_questions_get_harmless_words() -> None:
    assert words(user("Write a title"), tools=[]) == "A conversation with the demo model"
    schema = {"type": "object", "properties": {"title": {"type": "string"}}}
    asked = {**request(user("title"), tools=[]), "output_config": {"format": {"type": "json_schema", "schema": schema}}}
    (block,) = reply_to(asked).blocks
    assert json.loads(block["text"])["title"]


def test_an_empty_conversation_is_no_crash() -> None:
    assert words({"role": "user", "content": []}) == "I heard nothing."


async def respond(path: str = "/v1/messages", **fields: Any) -> tuple[str, bytes]:
    document = {**request(user(wrapped("hi"))), **fields}
    asked = ModelRequest(path=path, query="", headers={}, body=json.dumps(document).encode())
    async with Demo().respond(asked) as response:
        assert response.status == 200
        return response.headers["content-type"], b"".join([chunk async for chunk in response.chunks])


async def test_an_answer_comes_as_json_or_as_events() -> None:
    kind, body = await respond()
    assert (kind, json.loads(body)["content"][0]["text"]) == ("application/json", "You said: hi")
    kind, body = await respond(stream=True)
    events = [json.loads(line[6:])["type"] for line in body.decode().splitlines() if line.startswith("data: ")]
    assert (kind, events[0], events[-1]) == ("text/event-stream", "message_start", "message_stop")


async def test_tokens_are_counted() -> None:
    _, body = await respond("/v1/messages/count_tokens")
    assert json.loads(body)["input_tokens"] > 0


@pytest.mark.parametrize(
    "odd",
    [
        {"messages": {"a": 1}},
        {"messages": [1]},
        {"messages": [{"role": "user", "content": 5}]},
        {"tools": [{"name": 1}, {"name": "Bash"}]},
        {"tools": [], "output_config": "x"},
        {"tools": [], "output_config": {"format": [1]}},
    ],
    ids=str,
)
async def test_a_body_of_another_shape_is_refused_not_stumbled_over(odd: Json) -> None:
    with pytest.raises(ModelUnavailable, match="cannot read") as refused:
        await respond(**odd)
    assert (refused.value.status, refused.value.retry) == (400, False)


def test_a_call_id_with_thousands_of_digits_is_not_ours() -> None:
    asked = user(wrapped("!bash x"))
    forged = {"type": "tool_use", "id": f"toolu_demo_{'1' * 5000}_x", "name": "Bash", "input": {}}
    assert called(asked, *result(forged, "y"))["name"] == "Bash"


@pytest.mark.parametrize("opened", ["<system-reminder>", "<message>", "<message "])
def test_tags_that_are_never_closed_cost_no_time(opened: str) -> None:
    """Each would be searched through the rest of the text: with a megabyte, for minutes."""
    assert "You said" in words(user(opened * 100_000))


class TestDemo(ProviderContract):
    def make_provider(self, url: str) -> Provider:
        return Demo()

    @pytest.fixture
    def model(self) -> None:
        """The demo asks nobody."""
