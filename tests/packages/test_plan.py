"""Plans out of prepared reports of pip, for environments that exist on paper alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nanoclaw_core import __version__
from nanoclaw_core.errors import InstallRefused, UnknownName
from nanoclaw_core.packages import pip
from nanoclaw_core.packages.environment import Distribution, conflicts, needs
from nanoclaw_core.packages.plan import Wish, distribution_named, plan_additions, plan_removal, plan_return, wish_for
from nanoclaw_core.packages.records import Package, PluginSet
from nanoclaw_core.packages.report import read_report
from nanoclaw_core.packages.wheels import sha256_of
from tests.packages.parcels import EAR, make_wheel


def world(*there: Distribution) -> dict[str, Distribution]:
    core = Distribution(name="nanoclaw-core", version=__version__, requires=("lib-core>=1",))
    return {one.name: one for one in (core, Distribution(name="lib-core", version="1.5"), *there)}


def plugin(name: str, version: str = "1.0", *requires: str) -> Distribution:
    return Distribution(name=f"nanoclaw-{name}", version=version, requires=requires, plugins=(name,))


def library(name: str, version: str = "1.0", *requires: str) -> Distribution:
    return Distribution(name=name, version=version, requires=requires)


def brought(*names: str) -> PluginSet:
    return PluginSet(packages=tuple(Package(name=name, version="1.0", source="index", brought=True) for name in names))


def item(name: str, version: str, url: str, **info: Any) -> dict[str, Any]:
    return {"download_info": {"url": url, **info}, "metadata": {"name": name, "version": version, "summary": "unread"}}


def report(*items: dict[str, Any], version: str = "1") -> bytes:
    return json.dumps({"version": version, "pip_version": "26.3", "install": items, "environment": {}}).encode()


def item_of(wheel: Path) -> dict[str, Any]:
    name, version = wheel.name.split("-")[:2]
    return item(name, version, wheel.as_uri(), archive_info={"hashes": {"sha256": sha256_of(wheel)}})


# --- the report -----------------------------------------------------------------------------------------------------------


def test_a_report_is_read_as_far_as_it_is_needed() -> None:
    archive = {"archive_info": {"hashes": {"sha256": "ab" * 32}}}
    one, other = read_report(
        report(
            item("Lib.A", "1.0", "https://example.com/lib_a-1.0-py3-none-any.whl", **archive),
            {**item("lib-b", "2.0", "https://example.com/b.zip", **archive), "is_direct": True},
        )
    )
    assert (one.line, one.file) == (f"lib-a==1.0 --hash=sha256:{'ab' * 32}", None)
    assert other.line == f"lib-b @ https://example.com/b.zip --hash=sha256:{'ab' * 32}"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (report(version="2"), "format 2, and 1 is known"),
        (b"", "cannot be read"),
        (b'{"version": "1", "install": [{"download_info": {}}]}', "cannot be read"),
        (report(item("lib-a", "1.0", "git+https://example.com/a", vcs_info={"vcs": "git"})), "nothing can vouch for"),
        (report(item("lib-a", "1.0", "file:///a", dir_info={})), "nothing can vouch for"),
    ],
    ids=["another format", "nothing", "half of it", "a repository", "a folder"],
)
def test_a_report_that_says_too_little_is_refused(text: bytes, says: str) -> None:
    with pytest.raises(InstallRefused, match=says):
        read_report(text)


# --- additions ------------------------------------------------------------------------------------------------------------


def test_the_core_and_all_sound_plugins_are_part_of_what_is_resolved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def resolve(wishes: list[str], *, upgrade: bool) -> bytes:
        asked.extend(wishes)
        return report()

    monkeypatch.setattr(pip, "resolve", resolve)
    there = world(plugin("parrot"), plugin("odd", "1.0", "lib-core>=9"), plugin("crow", "2.0"))
    plan = plan_additions("install", [Wish(name="nanoclaw-crow", text="nanoclaw-crow")], there, PluginSet(), tmp_path)
    assert asked == [f"nanoclaw-core=={__version__}", "nanoclaw-parrot==1.0", "nanoclaw-crow"]
    assert plan.is_empty


def test_what_somebody_else_needs_otherwise_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seed = make_wheel(tmp_path, "lib-seed", "2.0")
    parrot = make_wheel(tmp_path, "nanoclaw-parrot", "1.0", requires=("lib-seed>=2",), plugin="parrot", code=EAR)
    monkeypatch.setattr(pip, "resolve", lambda wishes, upgrade: report(item_of(parrot), item_of(seed)))
    there = world(library("lib-seed"), library("tool", "3.0", "lib-seed<2"))
    with pytest.raises(
        InstallRefused, match=r"tool 3\.0 needs lib-seed<2, but it would meet 2\.0 \(nanoclaw-parrot 1\.0 needs"
    ):
        plan_additions("install", [Wish(name="nanoclaw-parrot", text="nanoclaw-parrot")], there, PluginSet(), tmp_path)


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("./nowhere", "there is no wheel and no folder ./nowhere"),
        ("nowhere.whl", "there is no wheel and no folder nowhere.whl"),
        ("two words", "neither a name such as"),
        ("--index-url=http://evil.example", "is an address"),
        ("--target=x", "neither a name such as"),
        ("parrot @ https://example.com/parrot.whl", "download the wheel and give its path"),
    ],
)
def test_what_means_nothing_is_refused(tmp_path: Path, target: str, says: str) -> None:
    with pytest.raises(InstallRefused, match=says):
        wish_for(target, tmp_path)


# --- removals -------------------------------------------------------------------------------------------------------------


def test_only_what_was_brought_and_nobody_else_needs_goes_with_a_plugin() -> None:
    there = world(
        plugin("parrot", "1.0", "lib-a", "lib-b", "lib-core", "lib-there"),
        plugin("crow", "1.0", "lib-b"),
        library("lib-a", "1.0", "lib-deep"),
        library("lib-b"),
        library("lib-deep", "1.0", "lib-a"),
        library("lib-there"),
    )
    current = brought("nanoclaw-parrot", "nanoclaw-crow", "lib-a", "lib-b", "lib-deep")
    plan = plan_removal("parrot", there, current, ["parrot", "crow"])
    assert [step.name for step in plan.steps] == ["nanoclaw-parrot", "lib-a", "lib-deep"]
    assert plan.disable == ("parrot",)


def test_what_an_extra_of_something_else_might_need_stays() -> None:
    there = world(plugin("parrot", "1.0", "lib-a"), library("lib-a"), library("tool", "1.0", "lib-a; extra == 'all'"))
    plan = plan_removal("nanoclaw-parrot", there, brought("nanoclaw-parrot", "lib-a"), [])
    assert [step.name for step in plan.steps] == ["nanoclaw-parrot"]


def test_names_of_plugins_and_of_distributions_are_both_understood() -> None:
    there = world(plugin("parrot"), plugin("crow"))
    assert distribution_named("crow", there) == distribution_named("Nanoclaw_Crow", there) == there["nanoclaw-crow"]
    with pytest.raises(UnknownName, match=r"no installed plugin named 'lib-core'.* Known: crow, nanoclaw-crow"):
        distribution_named("lib-core", there)


# --- going back -----------------------------------------------------------------------------------------------------------


def test_a_set_whose_wheel_is_gone_is_refused_with_what_brings_it_back(tmp_path: Path) -> None:
    target = PluginSet(packages=(Package(name="nanoclaw-parrot", version="1.0", source="index", sha256="ab", wheel="x.whl"),))
    with pytest.raises(InstallRefused, match=r"`pip install nanoclaw-parrot==1\.0` brings it back"):
        plan_return(tmp_path, target, world(), PluginSet(), [])


def test_a_kept_wheel_that_was_changed_is_not_installed(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "nanoclaw-parrot", "1.0", plugin="parrot", code=EAR)
    kept = tmp_path / "plugins" / "wheels" / "ab"
    kept.mkdir(parents=True)
    wheel.rename(kept / wheel.name)
    target = PluginSet(
        packages=(Package(name="nanoclaw-parrot", version="1.0", source="index", sha256="ab", wheel=wheel.name),)
    )
    with pytest.raises(InstallRefused, match=r"the kept wheel .+ was changed"):
        plan_return(tmp_path, target, world(), PluginSet(), [])


# --- the environment ------------------------------------------------------------------------------------------------------


def test_what_was_wrong_before_is_not_held_against_a_change() -> None:
    broken = world(library("tool", "1.0", "lib-nowhere"))
    assert conflicts(broken, {**broken, "lib-a": library("lib-a")}) == []


def test_extras_that_are_asked_for_are_followed_and_other_systems_are_not() -> None:
    there = world(
        plugin("parrot", "1.0", "lib-a[voice]", "lib-c; sys_platform == 'amiga'"),
        library("lib-a", "1.0", "lib-b; extra == 'voice'", "lib-c; extra == 'all'"),
        library("lib-b"),
        library("lib-c"),
    )
    assert needs(there, ["nanoclaw-parrot"]) == {"nanoclaw-parrot", "lib-a", "lib-b"}
    assert "lib-c" in needs(there, ["nanoclaw-parrot"], strict=False)
