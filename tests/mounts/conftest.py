"""A piece of land: folders of an owner's, an allowlist, and the rules that hold there."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nanoclaw_core.builtins.mount_allowlist import FILE, Allowlist
from nanoclaw_core.models import AgentGroup, AgentMount, MountVerdict
from nanoclaw_core.sandbox.mounts import Judgement, MountRules

MAIN = AgentGroup(id="a1", name="Andy", folder="andy", is_main=True)
OTHER = AgentGroup(id="a2", name="Bea", folder="bea")


@dataclass(kw_only=True)
class Land:
    """`root` is allowed, for writing as well; `home` is NanoClaw's, `person` the owner's home folder."""

    root: Path
    home: Path
    person: Path
    policies: Path
    allowlist: Allowlist

    def write(self, **changes: Any) -> Path:  # Any: JSON, also of wrong types
        """Write the allowlist."""
        text = {"allowedRoots": [{"path": str(self.root), "allowReadWrite": True}], "blockedPatterns": []} | changes
        return self.write_text(json.dumps(text))

    def write_text(self, text: str) -> Path:
        path = self.policies / FILE
        path.unlink(missing_ok=True)
        path.write_text(text)
        path.chmod(0o600)
        return path

    def folder(self, name: str) -> Path:
        path = self.root / name
        path.mkdir(parents=True)
        return path

    def judged(
        self,
        source: Path,
        *others: tuple[AgentGroup, AgentMount],
        agent: AgentGroup = MAIN,
        name: str = "it",
        read_only: bool = True,
    ) -> Judgement:
        wish = AgentMount(id="wish", agent_group_id=agent.id, source=source, name=name, read_only=read_only)
        return self.rules.judged(agent, wish, others)

    @property
    def rules(self) -> MountRules:
        return MountRules(home=self.home, judge=lambda request: self.verdicts(request))

    def verdicts(self, request: Any) -> dict[str, MountVerdict]:  # Any: a MountRequest
        return {"mount-allowlist": self.allowlist.judge(request)}


def mount(
    source: Path, name: str = "other", *, agent: AgentGroup = MAIN, read_only: bool = True
) -> tuple[AgentGroup, AgentMount]:
    return agent, AgentMount(id=name, agent_group_id=agent.id, source=source, name=name, read_only=read_only)


@pytest.fixture
def land(monkeypatch: pytest.MonkeyPatch) -> Iterator[Land]:
    with tempfile.TemporaryDirectory(prefix="nc") as folder:
        top = Path(folder).resolve()
        person = top / "person"
        root, home, config = person / "root", person / "nanoclaw-home", person / "config"
        policies = config / "nanoclaw"
        for path in (root, home, policies):
            path.mkdir(parents=True)
        monkeypatch.setenv("HOME", str(person))
        monkeypatch.setenv("XDG_CONFIG_HOME", str(config))
        land = Land(root=root, home=home, person=person, policies=policies, allowlist=Allowlist(policies / FILE))
        land.write()
        yield land
