"""The fixed part of every call of the model: its sections, and a limit for what of it is ours."""

from __future__ import annotations

import json

from nanoclaw_core.builtins.messaging import nanoclaw_actions
from nanoclaw_core.gateway.parameters import tools_of
from nanoclaw_core.ledger import prompt
from nanoclaw_core.ledger.prompt import sections
from nanoclaw_core.routing.prompt import instructions

#: Characters, a quarter of a token each. Every call of the model carries them: raise this only for something that is worth it.
MOST_INSTRUCTIONS, MOST_ACTIONS = 1500, 3500
MEMORY = "<system-reminder>\nContents of /workspace/CLAUDE.md (of the project):\n\nlikes tea\n</system-reminder>"


def test_what_nanoclaw_adds_to_every_call_stays_small() -> None:
    schemas = [json.dumps(tool.listed) for tool in tools_of(nanoclaw_actions()).values()]
    assert len(instructions("Andy", ["family", "work"])) <= MOST_INSTRUCTIONS
    assert sum(map(len, schemas)) <= MOST_ACTIONS


def test_a_request_is_taken_apart_by_whose_words_it_has() -> None:
    ours = instructions("Andy", [])
    found = sections(
        {
            "system": [{"type": "text", "text": "You are Claude Code."}, {"type": "text", "text": "Be brief.\n" + ours}],
            "tools": [{"name": "Bash"}, {"name": "mcp__nanoclaw__send_message", "description": "Says."}],
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "text",
                            "text": MEMORY,
                        },
                        {"type": "text", "text": "<system-reminder>Today is Monday</system-reminder>"},
                        {"type": "text", "text": "hello"},
                    ],
                },
                {"role": "system", "content": [{"type": "text", "text": "# Environment\nOf CLAUDE.md: nothing"}]},
                {"role": "assistant", "content": "hi"},
            ],
        }
    )
    assert found == {
        prompt.ENGINE: len("You are Claude Code.Be brief.\n"),
        prompt.OURS: len(ours),
        prompt.ENGINE_TOOLS: len('{"name":"Bash"}'),
        prompt.OUR_TOOLS: len('{"name":"mcp__nanoclaw__send_message","description":"Says."}'),
        prompt.MEMORY: len(MEMORY),
        prompt.REMINDERS: len("<system-reminder>Today is Monday</system-reminder># Environment\nOf CLAUDE.md: nothing"),
        prompt.SAID: len("hellohi"),
    }


def test_a_request_of_any_shape_can_be_taken_apart() -> None:
    assert sum(sections({}).values()) == 0
    assert sections({"system": "x", "messages": [{"content": None}, {"content": ["?"]}]})[prompt.ENGINE] == 1
