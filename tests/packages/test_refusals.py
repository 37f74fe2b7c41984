"""What does not fit is refused by name, before anything is changed: one environment stays as it is through all of this."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packages.parcels import CHANNEL, EAR, Environment, make_wheel, parrot, stock

HAS = {"nanoclaw-parrot": "1.0", "lib-seed": "1.0"}


@pytest.fixture(scope="module")
def environment(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """The parrot is installed, and a tool of somebody's that has nothing to do with NanoClaw."""
    with tempfile.TemporaryDirectory(prefix="nc") as home:
        made = Environment(tmp_path_factory.mktemp("settled"), template, Path(home))
        stock(made)
        make_wheel(made.index, "somebodys-tool", "1.0", requires=("lib-mirror<2",))
        for version in ("1.0", "2.0"):
            make_wheel(made.index, "lib-mirror", version)
        made.pip("install", "somebodys-tool")
        made.nanoclaw("plugin", "install", "nanoclaw-parrot", "--yes")
        yield made


@pytest.fixture(autouse=True)
def unchanged(environment: Environment) -> Iterator[None]:
    """Neither packages nor lock are other than before."""
    before = environment.lock
    yield
    assert parrot(environment) == HAS
    assert environment.lock == before


def test_two_plugins_that_want_different_versions_are_told_apart(environment: Environment) -> None:
    make_wheel(environment.index, "nanoclaw-crow", "2.0", requires=("lib-seed>=2",), plugin="crow", code=EAR)
    said = environment.nanoclaw("plugin", "install", "nanoclaw-crow", "--yes", code=3)
    assert "nanoclaw-parrot 1.0 needs lib-seed<2; nanoclaw-crow 2.0 needs lib-seed>=2" in said
    assert "Nothing was changed" in said


def test_a_plugin_for_another_core_is_refused_with_its_range_and_the_core_stays(environment: Environment) -> None:
    make_wheel(environment.index, "nanoclaw-core", "9.0")
    make_wheel(environment.index, "nanoclaw-odd", "1.0", requires=("nanoclaw-core>=9",), plugin="odd", code=EAR)
    said = environment.nanoclaw("plugin", "install", "nanoclaw-odd", "--yes", code=3)
    assert "this has nanoclaw-core 0.1.0; nanoclaw-odd 1.0 needs nanoclaw-core>=9" in said
    assert environment.versions("nanoclaw-core", "nanoclaw-odd") == {"nanoclaw-core": "0.1.0"}


def test_a_second_distribution_with_the_same_plugin_name_is_refused(environment: Environment) -> None:
    make_wheel(environment.index, "other-parrot", "1.0", plugin="parrot", code=CHANNEL)
    said = environment.nanoclaw("plugin", "install", "other-parrot", "--yes", code=3)
    assert "nanoclaw-parrot 1.0 and other-parrot 1.0 carry the same plugin name 'parrot'" in said


def test_a_package_that_is_no_plugin_is_refused(environment: Environment) -> None:
    make_wheel(environment.index, "lib-stone", "1.0")
    for name in ("lib-stone", "lib-seed"):  # new, and there already
        assert f"{name} is no plugin of NanoClaw" in environment.nanoclaw("plugin", "install", name, "--yes", code=3)


def test_another_package_that_a_plugin_would_break_is_named(environment: Environment) -> None:
    make_wheel(environment.index, "nanoclaw-jay", "1.0", requires=("lib-mirror>=2",), plugin="jay", code=EAR)
    said = environment.nanoclaw("plugin", "install", "nanoclaw-jay", "--yes", code=3)
    assert "somebodys-tool 1.0 needs lib-mirror<2, but it would meet 2.0 (nanoclaw-jay 1.0 needs lib-mirror>=2)" in said


def test_an_unknown_name_is_one_line_that_says_what_to_do(environment: Environment) -> None:
    said = environment.nanoclaw("plugin", "install", "nanoclaw-telegarm", "--yes", code=3)
    assert said.startswith("nanoclaw: Nothing was changed: no index knows nanoclaw-telegarm; look at the name")


def test_a_version_that_is_not_there_is_told_with_those_that_are(environment: Environment) -> None:
    said = environment.nanoclaw("plugin", "install", "nanoclaw-parrot>=7", "--yes", code=3)
    assert "no version fits nanoclaw-parrot>=7; there are 1.0" in said


def test_nothing_is_changed_without_a_yes_or_by_a_dry_run(environment: Environment) -> None:
    make_wheel(environment.index, "lib-nut", "1.0", licence="BSD-3-Clause")
    make_wheel(environment.index, "nanoclaw-tit", "1.0", requires=("lib-nut",), plugin="tit", code=EAR)
    assert "add --yes to do this" in environment.nanoclaw("plugin", "install", "nanoclaw-tit", code=2)
    plan = json.loads(environment.nanoclaw("plugin", "install", "nanoclaw-tit", "--dry-run", "--json"))
    assert (plan["done"], plan["enable"]) == (False, ["tit"])
    one, other = plan["steps"]
    assert (one["name"], one["old"], one["new"], one["plugins"]) == ("nanoclaw-tit", None, "1.0", {"tit": ["nanoclaw_event"]})
    assert (other["name"], other["licence"], other["because"]) == ("lib-nut", "BSD-3-Clause", "for nanoclaw-tit")
    assert environment.versions("nanoclaw-tit", "lib-nut") == {}
