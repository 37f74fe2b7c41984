"""The documentation as a site: it builds without a warning, shows every page, and is made from what it speaks of."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import nanoclaw_core
import nanoclaw_core.testing
from scripts import hookpages

ROOT = Path(__file__).parents[2]


def build(config: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """What `make docs` does."""
    argv = [sys.executable, "-m", "mkdocs", "build", "--strict", f"--site-dir={site}", f"--config-file={config}"]
    variables = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(argv, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    built = build(ROOT / "mkdocs.yml", folder)
    assert built.returncode == 0, built.stderr
    return folder


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("events.md", "[nowhere](nowhere.md)"),
        ("events.md", "[no such heading](cli.md#nanoclaw-fly)"),
        ("events.md", "[nowhere in the repository](../NOTICE.md)"),
        ("orphan.md", "# A page that no navigation names"),
    ],
    ids=["page", "heading", "elsewhere", "orphan"],
)
def test_what_leads_nowhere_ends_the_build(page: str, words: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    with (tmp_path / "docs" / page).open("a", encoding="utf-8") as file:
        file.write(f"\n{words}\n")
    config = tmp_path / "mkdocs.yml"
    config.write_text(f"INHERIT: {ROOT}/mkdocs.yml\ndocs_dir: docs\nhooks: [{ROOT}/scripts/docsite.py]\n")
    built = build(config, tmp_path / "site")
    assert (built.returncode, built.stderr.count("WARNING -")) == (1, 1), built.stderr


def test_every_page_is_on_the_site_and_in_its_navigation(site: Path) -> None:
    pages = [path.relative_to(ROOT / "docs").with_suffix("") for path in (ROOT / "docs").rglob("*.md")]
    pages = [page.parent if page.name == "index" else page for page in pages]
    assert [str(page) for page in pages if not (site / page / "index.html").exists()] == []


def test_links_to_pages_that_lie_elsewhere_lead_to_them_on_the_site(site: Path) -> None:
    page = (site / "plugins" / "life" / "index.html").read_text(encoding="utf-8")
    assert 'href="../packages/nanoclaw-telegram/"' in page
    assert (site / "plugins" / "packages" / "nanoclaw-telegram" / "index.html").exists()


def test_a_page_takes_nothing_from_elsewhere(site: Path) -> None:
    taken = re.compile(
        r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"?https?:|<link\b[^>]*rel=\"?stylesheet[^>]*href=\"?https?:|url\(https?:"
    )
    files = [path for kind in ("*.html", "*.css") for path in site.rglob(kind)]
    assert [path.name for path in files if taken.search(path.read_text(encoding="utf-8"))] == []
    assert len(files) > 50


def test_what_is_made_from_the_source_is_what_the_source_says() -> None:
    stale = [path.name for path, text in hookpages.pages().items() if path.read_text(encoding="utf-8") != text]
    assert stale == [], "run `python -m scripts.hookpages`"


def test_every_hook_has_a_page_and_no_other() -> None:
    assert {path.stem for path in (ROOT / "docs" / "plugins" / "hooks").glob("*.md")} == set(hookpages.hooks())


def test_every_public_name_is_on_a_page_for_authors() -> None:
    names = {*nanoclaw_core.__all__, *nanoclaw_core.testing.__all__} - {"__version__"}
    text = " ".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "plugins").rglob("*.md"))
    assert [name for name in sorted(names) if not re.search(rf"\b{name}\b", text)] == []
