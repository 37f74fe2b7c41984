"""The allowlist: what it means, and that whatever is wrong with it allows nothing."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nanoclaw_core.builtins.mount_allowlist import AllowlistUnwritable, allow_root, allowlist_path, read_rules
from nanoclaw_core.models import MountDecision, MountRequest, MountVerdict
from nanoclaw_core.ports import MountPolicy
from nanoclaw_core.testing import MountPolicyContract
from tests.mounts.conftest import MAIN, OTHER, Land

ALLOW, NARROW, REFUSE = MountDecision.ALLOW, MountDecision.NARROW, MountDecision.REFUSE


def asked(land: Land, source: Path, **changes: Any) -> MountVerdict:  # Any: as diverse as the request
    request = MountRequest(agent_group=MAIN, source=source, target="/workspace-extra/it")
    return land.allowlist.judge(replace(request, **changes))


class TestTheAllowlist(MountPolicyContract):
    @pytest.fixture
    def policy(self, land: Land) -> MountPolicy:
        return MountPolicy(name="mount-allowlist", summary="", judge=land.allowlist.judge)

    @pytest.fixture
    def requests(self, land: Land) -> list[MountRequest]:
        return [MountRequest(agent_group=MAIN, source=land.folder("notes"), target="/workspace-extra/notes", read_only=False)]


def test_a_root_and_what_is_below_it_is_allowed_and_nothing_beside_it(land: Land) -> None:
    inside, beside = land.folder("notes"), land.root.with_name("root-of-others")
    assert [asked(land, path).decision for path in (land.root, inside, beside)] == [ALLOW, ALLOW, REFUSE]


@pytest.mark.parametrize(
    ("rules", "agent", "decision"),
    [
        ({}, MAIN, ALLOW),
        ({}, OTHER, NARROW),
        ({"nonMainReadOnly": True}, OTHER, NARROW),
        ({"nonMainReadOnly": False}, OTHER, ALLOW),
    ],
    ids=["main", "other, nothing said", "other, read-only", "other, may write"],
)
def test_only_the_main_agent_writes_unless_the_file_says_otherwise(
    land: Land, rules: dict[str, Any], agent: Any, decision: MountDecision
) -> None:
    land.write(**rules)
    assert asked(land, land.root, agent_group=agent, read_only=False).decision is decision


def test_of_nested_roots_the_innermost_decides(land: Land) -> None:
    inner = land.folder("inner")
    roots = [{"path": str(inner), "allowReadWrite": False}, {"path": str(land.root), "allowReadWrite": True}]
    land.write(allowedRoots=roots)
    decisions = [asked(land, path, read_only=False).decision for path in (inner, land.folder("outer"))]
    assert decisions == [NARROW, ALLOW]


def test_a_root_that_is_a_link_means_the_place_it_leads_to(land: Land) -> None:
    link = land.person / "link"
    link.symlink_to(land.root)
    land.write(allowedRoots=[{"path": "~/link", "allowReadWrite": True}])
    assert [asked(land, path).decision for path in (land.root, link)] == [ALLOW, REFUSE]


@pytest.mark.parametrize("root", ["/", "~", "~/..", "relative", "~/vanished", "", "~nobody-has-this-name/x", "\x00"])
def test_a_root_that_is_gone_or_too_much_allows_nothing_and_is_named(land: Land, root: str) -> None:
    land.write(allowedRoots=[{"path": root, "allowReadWrite": True}])
    assert asked(land, land.folder("notes")).decision is REFUSE
    assert read_rules(allowlist_path()).idle_roots() == [root]


@pytest.mark.parametrize(
    ("name", "pattern"),
    [(".ssh", ".ssh"), (".SSH", ".ssh"), ("Id_RSA.pub", "id_rsa*"), (".env.local", ".env.*"), ("server.KEY", "*.key")],
)
def test_a_blocked_name_is_refused_in_any_part_of_the_path_and_below_in_any_case(land: Land, name: str, pattern: str) -> None:
    land.write(blockedPatterns=["*.key"])
    in_path, below = asked(land, land.root / name / "x"), asked(land, land.root, below={name: f"deep/{name}"})
    assert (in_path.decision, below.decision) == (REFUSE, REFUSE)
    assert f"({pattern})" in in_path.reason
    assert f"'deep/{name}'" in below.reason


@pytest.mark.parametrize("name", ["environment", "my.sshd", ".env.example", "credentials.py", "secret", "keyboard"])
def test_a_pattern_matches_whole_names(land: Land, name: str) -> None:
    land.write(blockedPatterns=["key"])
    assert asked(land, land.root / name, below={name: name}).decision is ALLOW


def test_no_file_allows_nothing_and_says_how_to_make_one(land: Land) -> None:
    allowlist_path().unlink()
    verdict = asked(land, land.root)
    assert (verdict.decision, verdict.warning) == (REFUSE, "")
    assert "nanoclaw mount allow" in verdict.reason


GOOD_ROOT = '{"path": "/srv", "allowReadWrite": true}'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        f'{{"allowedRoots": [{GOOD_ROOT}], "blockedPatterns": []',
        '{"allowedRoots": [], "blockedPattern": []}',
        '{"allowedRoots": {}, "blockedPatterns": []}',
        '{"allowedRoots": ["/srv"], "blockedPatterns": []}',
        '{"allowedRoots": [{"path": "/srv"}], "blockedPatterns": []}',
        '{"allowedRoots": [{"path": "/srv", "allowReadWrite": "yes"}], "blockedPatterns": []}',
        '{"allowedRoots": [], "blockedPatterns": [7]}',
        '{"allowedRoots": [], "blockedPatterns": [" "]}',
        '{"allowedRoots": [], "blockedPatterns": [], "nonMainReadOnly": "no"}',
        "[" * 100_000,
        " " * 1024 * 1024 + "{}",
    ],
)
def test_a_file_that_is_not_in_the_format_allows_nothing(land: Land, text: str) -> None:
    land.write_text(text)
    verdict = asked(land, land.root)
    assert verdict.decision is REFUSE
    assert "cannot be used" in verdict.reason


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_can_write_allows_nothing(land: Land, mode: int) -> None:
    allowlist_path().chmod(mode)
    verdict = asked(land, land.root)
    assert verdict.decision is REFUSE
    assert "others can write it" in verdict.reason


def test_a_file_in_a_folder_that_others_can_write_allows_nothing(land: Land) -> None:
    land.policies.chmod(0o777)
    assert "others can write its folder" in asked(land, land.root).reason


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_what_is_no_file_allows_nothing_and_holds_up_nobody(land: Land, make: Any) -> None:
    allowlist_path().unlink()
    make(allowlist_path())
    assert "no plain file" in asked(land, land.root).reason


def test_a_file_that_cannot_be_read_allows_nothing(land: Land) -> None:
    path = allowlist_path()
    path.unlink()
    path.symlink_to(path)  # which not even root can read
    assert "cannot be read" in asked(land, land.root).reason


def test_a_change_takes_effect_at_once(land: Land) -> None:
    assert asked(land, land.root).decision is ALLOW
    land.write(allowedRoots=[])
    assert asked(land, land.root).decision is REFUSE


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_bad_change_leaves_the_last_good_file_in_force_and_says_so(land: Land, text: str) -> None:
    before = asked(land, land.root)
    land.write_text(text)
    verdict = asked(land, land.root)
    assert (before.warning, verdict.decision) == ("", ALLOW)
    assert "what it said before still holds" in verdict.warning
    land.write()
    assert asked(land, land.root).warning == ""


def test_a_file_that_is_deleted_allows_nothing_any_more(land: Land) -> None:
    assert asked(land, land.root).decision is ALLOW
    allowlist_path().unlink()
    assert asked(land, land.root).decision is REFUSE


# --- nanoclaw mount allow ---------------------------------------------------------------------------------------------------


def test_a_root_is_written_for_the_owner_alone_and_what_stands_there_is_kept(land: Land) -> None:
    path = land.write(comment="mine", blockedPatterns=["diary"])
    notes = land.folder("notes")
    allow_root(path, notes, writable=False, description="my notes")
    written = json.loads(path.read_text())
    assert written["allowedRoots"][1] == {"path": str(notes), "allowReadWrite": False, "description": "my notes"}
    assert (written["comment"], written["blockedPatterns"]) == ("mine", ["diary"])
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_same_root_again_changes_it(land: Land) -> None:
    path = allowlist_path()
    allow_root(path, land.root, writable=False, description="")
    assert json.loads(path.read_text())["allowedRoots"] == [{"path": str(land.root), "allowReadWrite": False}]


def test_the_first_root_makes_the_file(land: Land) -> None:
    path = land.person / "new" / "nanoclaw" / "mount-allowlist.json"
    allow_root(path, land.root, writable=True, description="")
    assert [root.path for root in read_rules(path).allowed_roots] == [str(land.root)]


@pytest.mark.parametrize("text", ["{", '{"allowedRoots": []}'])
def test_a_broken_file_is_left_to_its_owner(land: Land, text: str) -> None:
    path = land.write_text(text)
    with pytest.raises(AllowlistUnwritable):
        allow_root(path, land.root, writable=True, description="")
    assert path.read_text() == text


def test_the_whole_home_folder_is_not_allowed(land: Land) -> None:
    with pytest.raises(AllowlistUnwritable, match="whole home folder"):
        allow_root(allowlist_path(), land.person, writable=True, description="")
