"""Folders of the owner's in real containers: what an agent can do there, and what it never sees."""

from __future__ import annotations

from pathlib import Path

import pytest

from nanoclaw_core.builtins.mount_allowlist import allow_root, allowlist_path
from nanoclaw_core.models import ContainerSpec
from nanoclaw_core.sandbox.docker import DockerRuntime
from tests.container.house import Person, living_host

pytestmark = pytest.mark.container


class Exchanging(DockerRuntime):
    """Docker, slow enough for somebody to put a link in the place of `folder` between the check and the first start."""

    folder: Path
    secret: Path
    starts = 0

    async def start(self, spec: ContainerSpec, first_line: bytes) -> str:
        self.starts += 1
        aside = self.folder.with_name("aside")
        if self.starts == 1:
            self.folder.rename(aside)
            self.folder.symlink_to(self.secret)
        try:
            return await super().start(spec, first_line)
        finally:
            if self.folder.is_symlink():
                self.folder.unlink()
                aside.rename(self.folder)


@pytest.fixture
def land(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the owner's that may be given to agents, for everybody to read and write."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    land = tmp_path.resolve() / "land"
    for name in ("", "notes", "site", "site/.git"):
        (land / name).mkdir()
        (land / name).chmod(0o777)  # when the host is root, workers have a user of their own
    (land / "notes" / "a.txt").write_text("hear hear")
    (land / "site" / ".envrc").write_text("echo mine")
    (land / "site" / ".envrc").chmod(0o666)
    allow_root(allowlist_path(), land, writable=True, description="")
    return land


async def give(person: Person, path: Path, *, read_only: bool) -> None:
    await person.host.operations["mount.add"]({"path": str(path), "read_only": read_only})


async def test_an_agent_reads_writes_and_leaves_alone_what_it_was_told_to(land: Path) -> None:
    async with living_host() as person:
        await give(person, land / "notes", read_only=True)
        await give(person, land / "site", read_only=False)
        (answer,) = await person.ask("!bash cat /workspace-extra/notes/a.txt; touch /workspace-extra/notes/b 2>&1; true")
        assert "hear hear" in answer
        assert "Read-only file system" in answer
        (answer,) = await person.ask("!bash cd /workspace-extra/site && echo made > new.txt && cat new.txt")
        assert "made" in answer
        tries = (
            "echo 'rm -rf ~' > .envrc",
            "rm -f .envrc",
            "mv .envrc old",
            "mv .git old",
            "rm -rf .git",
            "touch .git/config",
            "mkdir -p .git/hooks",
            "ln -sfn /etc .git",
        )
        for each in tries:
            (answer,) = await person.ask(f"!bash cd /workspace-extra/site && ({each}) 2>&1 && echo DONE; true")
            assert "Read-only file system" in answer or "busy" in answer or "DONE" not in answer, (each, answer)
    assert (land / "site" / "new.txt").read_text() == "made\n"
    assert (land / "site" / ".envrc").read_text() == "echo mine"
    assert list((land / "site" / ".git").iterdir()) == []
    assert sorted(path.name for path in (land / "site").iterdir()) == [".envrc", ".git", "new.txt"]


async def test_a_link_that_is_put_there_after_the_check_is_never_seen(land: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir(mode=0o755)
    (secret / "key").write_text("s3cret")
    runtime = Exchanging()
    runtime.folder, runtime.secret = land / "notes", secret
    async with living_host(runtime=runtime) as person:
        await give(person, land / "notes", read_only=True)
        (answer,) = await person.ask("!bash ls /workspace-extra/notes")
        assert "a.txt" in answer
        assert "key" not in answer
    assert runtime.starts == 2
