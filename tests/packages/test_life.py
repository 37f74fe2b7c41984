"""Plugins are installed, upgraded, rolled back and uninstalled as a user does it, in a real environment with the real pip."""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
from functools import partial
from pathlib import Path

import anyio

from nanoclaw_core.store.chats import ensure_messaging_group
from nanoclaw_core.store.database import open_database
from tests.packages.parcels import CORE, EAR, Environment, make_wheel, parrot, release, spoil, stock

# --- the whole way --------------------------------------------------------------------------------------------------------


async def make_chats(home: Path) -> None:
    """A database that knows two chats of the channel."""
    async with open_database(home / "nanoclaw.db", backups=home / "backups") as database:
        for chat in ("7", "8"):
            await database.write(
                partial(ensure_messaging_group, channel="parrot", account="", chat=chat, name="", is_group=False, now=0.0)
            )


def test_the_life_of_a_plugin(environment: Environment) -> None:
    anyio.run(make_chats, environment.home)
    (environment.home / ".env").write_text("PARROT_TOKEN=of-the-parrot\n")
    stock(environment)
    said = environment.nanoclaw("plugin", "install", "nanoclaw-parrot", "--yes")
    assert "nanoclaw-parrot 1.0 (new) MIT plugin parrot, to offer chat platforms" in said
    assert "lib-seed 1.0 (new) BSD-3-Clause for nanoclaw-parrot" in said
    assert environment.plugin("parrot")["state"] == "enabled"  # it is imported, and works
    assert environment.locked() == {"lib-seed": ("1.0", "index"), "nanoclaw-parrot": ("1.0", "index")}
    for package in environment.lock["current"]["packages"]:
        kept = environment.home / "plugins" / "wheels" / package["sha256"] / package["wheel"]
        assert hashlib.sha256(kept.read_bytes()).hexdigest() == package["sha256"]
    assert (environment.home / "plugins.lock").stat().st_mode & 0o777 == 0o600

    release(environment)
    assert "1.0 → 2.0" in environment.nanoclaw("plugin", "upgrade", "--yes")
    assert parrot(environment) == {"nanoclaw-parrot": "2.0", "lib-seed": "2.0"}

    shutil.rmtree(environment.index)  # going back needs nobody
    environment.nanoclaw("plugin", "rollback", "--yes")
    assert parrot(environment) == {"nanoclaw-parrot": "1.0", "lib-seed": "1.0"}
    environment.nanoclaw("plugin", "rollback", "--yes")  # undoes that
    assert parrot(environment) == {"nanoclaw-parrot": "2.0", "lib-seed": "2.0"}

    said = environment.nanoclaw("plugin", "uninstall", "parrot", "--yes")
    assert "lib-seed 2.0 → gone nothing else needs it" in said
    assert parrot(environment) == {}
    assert environment.enabled == []
    said = environment.nanoclaw("plugin", "list")  # of the plugin, its data is left
    assert "channel parrot: 2 chats (0 wired), 0 messages; settings PARROT_TOKEN" in said
    assert "of-the-parrot" not in said

    environment.nanoclaw("plugin", "rollback", "--yes")
    assert environment.enabled == ["parrot"]
    assert parrot(environment) == {"nanoclaw-parrot": "2.0", "lib-seed": "2.0"}


def test_what_is_asked_for_and_there_is_only_enabled(environment: Environment) -> None:
    stock(environment)
    make_wheel(environment.index, "nanoclaw-cage", "1.0", requires=("nanoclaw-parrot",), plugin="cage", code=EAR)
    said = environment.nanoclaw("plugin", "install", "nanoclaw-cage", "--yes", "--no-enable")
    assert "nanoclaw-parrot 1.0 also brings the plugin parrot, which stays disabled" in said
    assert environment.enabled == []
    environment.nanoclaw("plugin", "install", "nanoclaw-cage", "--yes")
    assert environment.enabled == ["cage"]
    assert "Nothing to do" in environment.nanoclaw("plugin", "install", "nanoclaw-cage")
    refused = environment.nanoclaw("plugin", "uninstall", "parrot", "--yes", code=3)
    assert "nanoclaw-cage 1.0 needs nanoclaw-parrot 1.0; uninstall that first" in refused


def test_a_wheel_is_known_again_by_its_content(environment: Environment, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "post", "nanoclaw-ear", "1.0", requires=CORE, plugin="ear", code=EAR)
    environment.nanoclaw("plugin", "install", wheel, "--yes")
    assert environment.locked()["nanoclaw-ear"] == ("1.0", "wheel")
    assert "Nothing to do" in environment.nanoclaw("plugin", "install", wheel)
    make_wheel(tmp_path / "post", "nanoclaw-ear", "1.0", requires=CORE, plugin="ear", code=EAR + "changed = True\n")
    assert "1.0 → 1.0" in environment.nanoclaw("plugin", "install", wheel, "--yes")
    assert "changed = True" in (environment.site / "nanoclaw_ear" / "__init__.py").read_text()


def test_a_folder_is_built_and_so_is_what_the_index_has_no_wheel_of(environment: Environment, tmp_path: Path) -> None:
    sample = Path(__file__).parents[1] / "sample_plugins" / "nanoclaw-parrot"
    with tarfile.open(environment.index / "nanoclaw_parrot-1.2.0.tar.gz", "w:gz") as archive:
        archive.add(sample, "nanoclaw_parrot-1.2.0")
    environment.nanoclaw("plugin", "install", "nanoclaw-parrot", "--yes")
    assert environment.locked()["nanoclaw-parrot"] == ("1.2.0", "index")

    folder = shutil.copytree(sample, tmp_path / "parrot")
    module = folder / "nanoclaw_parrot" / "__init__.py"
    module.write_text(module.read_text() + "changed = True\n")
    environment.nanoclaw("plugin", "install", folder, "--yes")
    assert environment.locked()["nanoclaw-parrot"] == ("1.2.0", "folder")
    assert "changed = True" in (environment.site / "nanoclaw_parrot" / "__init__.py").read_text()


# --- going wrong half-way -------------------------------------------------------------------------------------------------


def test_an_installation_that_fails_half_way_is_put_back(environment: Environment) -> None:
    stock(environment)
    environment.nanoclaw("plugin", "install", "nanoclaw-parrot", "--yes")
    before = environment.lock
    make_wheel(
        environment.index,
        "nanoclaw-parrot",
        "2.0",
        requires=("lib-seed>=2", "lib-cage"),
        plugin="parrot",
        files={"nanoclaw_parrot/sounds.txt": "squawk squawk"},
    )
    make_wheel(environment.index, "lib-cage", "1.0")
    spoil(environment.index / "nanoclaw_parrot-2.0-py3-none-any.whl", b"squawk squawk")
    said = environment.nanoclaw("plugin", "upgrade", "--yes", code=3)
    assert "What was there before was put back." in said
    assert environment.versions("nanoclaw-parrot", "lib-seed", "lib-cage") == {"nanoclaw-parrot": "1.0", "lib-seed": "1.0"}
    assert not (environment.site / "nanoclaw_parrot" / "sounds.txt").exists()
    assert environment.enabled == ["parrot"]
    after = environment.lock
    assert (after["unfinished"], after["previous"]) == (None, before["previous"])
    assert environment.locked() == {"lib-seed": ("1.0", "index"), "nanoclaw-parrot": ("1.0", "index")}


def test_a_change_that_was_cut_short_is_told_and_undone(environment: Environment) -> None:
    stock(environment)
    environment.nanoclaw("plugin", "install", "nanoclaw-parrot", "--yes")
    release(environment)
    lock = environment.lock
    seed = {"name": "lib-seed", "version": "2.0", "source": "index", "brought": True}
    lock["unfinished"] = {"made_by": "upgrade nanoclaw-parrot", "packages": [seed]}
    (environment.home / "plugins.lock").write_text(json.dumps(lock))  # as a killed `upgrade` leaves it …
    environment.pip("install", "lib-seed==2.0", "--no-deps")  # … half-way
    assert "was cut short" in environment.nanoclaw("plugin", "list")
    plan = json.loads(environment.nanoclaw("plugin", "rollback", "--dry-run", "--json"))
    assert [(step["name"], step["old"], step["new"]) for step in plan["steps"]] == [("lib-seed", "2.0", "1.0")]
    assert "`nanoclaw plugin rollback` first" in environment.nanoclaw("plugin", "upgrade", "--yes", code=3)
    environment.nanoclaw("plugin", "rollback", "--yes")
    assert parrot(environment) == {"nanoclaw-parrot": "1.0", "lib-seed": "1.0"}
    assert environment.lock["unfinished"] is None
    assert environment.lock["previous"] == lock["previous"]  # half a set is none to go back to


# --- plain pip ------------------------------------------------------------------------------------------------------------


def test_what_plain_pip_does_is_noticed_recorded_and_respected(environment: Environment) -> None:
    stock(environment)
    environment.pip("install", "nanoclaw-parrot")
    assert "Noticed: nanoclaw-parrot 1.0 was installed with pip." in environment.nanoclaw("plugin", "list")
    assert environment.locked() == {"lib-seed": ("1.0", "pip"), "nanoclaw-parrot": ("1.0", "pip")}

    release(environment)
    environment.nanoclaw("plugin", "upgrade", "--yes")
    environment.nanoclaw("plugin", "uninstall", "nanoclaw-parrot", "--yes")
    assert parrot(environment) == {"lib-seed": "2.0"}  # somebody else's pip brought it, so somebody may want it
    shutil.rmtree(environment.index)
    environment.nanoclaw("plugin", "rollback", "--steps", "2", "--yes")  # from wheels made of what pip had installed
    assert parrot(environment) == {"nanoclaw-parrot": "1.0", "lib-seed": "1.0"}

    environment.pip("uninstall", "--yes", "nanoclaw-parrot")
    assert "Noticed: nanoclaw-parrot 1.0 was uninstalled with pip." in environment.nanoclaw("plugin", "list")
    assert environment.locked() == {"lib-seed": ("1.0", "pip")}
