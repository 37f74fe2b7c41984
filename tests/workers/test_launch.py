"""What a worker is given at its start."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

from nanoclaw_runner.launch import FileRules, parse_launch

from nanoclaw_core.builtins.messaging import nanoclaw_actions
from nanoclaw_core.gateway.parameters import file_rules
from nanoclaw_core.models import AgentGroup, Session
from nanoclaw_core.workers.launch import first_conversation, launch_document, new_identity

SESSION = Session(id="s1", agent_group_id="a1", messaging_group_id="g1", thread=None, folder="sessions/main/s1")
AGENT = AgentGroup(id="a1", name="Andy", folder="main")


def test_the_runner_can_read_its_launch_document() -> None:
    identity, secret = new_identity(SESSION, AGENT)
    options = {"conversation": "c1", "instructions": "ä\n\u2028"}
    launch = parse_launch(launch_document(identity, secret, "claude", options, {}))
    assert (launch.worker, launch.secret, launch.engine) == (identity.worker_id, secret, "claude")
    assert launch.options == options
    assert launch.files is None


def test_the_runner_learns_which_parameters_are_files() -> None:
    rules = file_rules(nanoclaw_actions())
    files = parse_launch(launch_document(*new_identity(SESSION, AGENT), "claude", {}, rules)).files
    assert files == FileRules(parameters={"send_file": ["path"]}, most_bytes=50 * 1024 * 1024)


def test_the_document_is_one_line() -> None:
    identity, secret = new_identity(SESSION, AGENT)
    document = launch_document(identity, secret, "claude", {"instructions": "a\nb\r\nc"}, {})
    assert document.count(b"\n") == 1
    assert json.loads(document)["options"]["instructions"] == "a\nb\r\nc"


def test_an_identity_holds_only_the_hash_of_its_secret() -> None:
    identity, secret = new_identity(SESSION, AGENT)
    assert identity.secret_hash == hashlib.sha256(secret.encode()).hexdigest()
    assert secret not in repr(identity)


def test_no_two_workers_are_the_same() -> None:
    made = [new_identity(SESSION, AGENT) for _ in range(50)]
    assert len({identity.worker_id for identity, _ in made}) == len({secret for _, secret in made}) == 50


def test_the_first_conversation_of_a_session_is_always_the_same_and_only_its_own() -> None:
    assert first_conversation(SESSION) == first_conversation(SESSION)
    assert first_conversation(SESSION) != first_conversation(replace(SESSION, id="s2"))
