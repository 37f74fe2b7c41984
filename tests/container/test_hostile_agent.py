"""An agent that works against its own runner loses, at most, its own turn: the next worker answers."""

from __future__ import annotations

import pytest
from anyio import to_thread

from tests.container.house import Person, container_of, docker, living_host

pytestmark = pytest.mark.container

NOWHERE = '{"env":{"ANTHROPIC_BASE_URL":"http://127.0.0.1:9/"},"apiKeyHelper":"sleep 600"}'


async def replace_worker(person: Person) -> None:
    """End the container of the only session; the next message starts another."""
    await to_thread.run_sync(docker, "kill", container_of(person))


async def test_no_settings_of_the_agent_silence_its_next_worker() -> None:
    places = "/workspace/.claude/settings.json /workspace/.claude/settings.local.json ~/.claude/settings.json ~/.claude.json"
    async with living_host() as person:
        await person.ask(f"!bash mkdir -p .claude; for f in {places}; do echo '{NOWHERE}' > $f; done; echo planted")
        await replace_worker(person)
        assert await person.ask("hello?") == ["You said: hello?"]


async def test_no_fifo_blocks_the_next_worker() -> None:
    places = "~/.nanoclaw/instructions.md ~/.nanoclaw/spool.jsonl ~/.claude.json ~/.claude/.credentials.json CLAUDE.md"
    async with living_host() as person:
        await person.ask(f"!bash for f in {places}; do rm -f $f; mkfifo $f; done; echo planted")
        await replace_worker(person)
        assert await person.ask("hello?") == ["You said: hello?"]


async def test_a_spool_that_is_exchanged_in_mid_turn_does_not_hold_its_answer() -> None:
    async with living_host() as person:
        (answer,) = await person.ask("!bash rm -f ~/.nanoclaw/spool.jsonl; mkfifo ~/.nanoclaw/spool.jsonl; echo exchanged")
        assert answer.strip() == "exchanged"
        assert await person.ask("hello?") == ["You said: hello?"]


async def test_no_folder_of_the_runner_is_needed_as_the_agent_left_it() -> None:
    async with living_host() as person:
        await person.ask("!bash chmod 000 ~/.nanoclaw; ln -sfn /dev/zero ~/.claude.json; chmod 000 ~; echo planted")
        await replace_worker(person)
        assert await person.ask("hello?") == ["You said: hello?"]
