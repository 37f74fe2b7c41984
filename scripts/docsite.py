"""What mkdocs needs besides docs/: pages that lie elsewhere in the repository, and folders in the navigation.

Links stay as they are read in the repository: those that leave docs/ for a page that is shown here lead to it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Final

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT: Final = Path(__file__).parent.parent
DOCS: Final = ROOT / "docs"

#: Pages from elsewhere, and where the site has them.
ELSEWHERE: Final = {
    ROOT / "CHANGELOG.md": "changelog.md",
    ROOT / "CONTRIBUTING.md": "contributing.md",
    ROOT / "container" / "PROTOCOL.md": "protocol.md",
    **{readme: f"plugins/packages/{readme.parent.name}.md" for readme in sorted(ROOT.glob("plugins/*/README.md"))},
}
_LINK: Final = re.compile(r"\]\((?!\w+:|#|/)([^)#\s]+)(#[^)\s]*)?\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the pages of each folder that the navigation names in its place."""
    config.nav = [_unfolded(entry) for entry in config.nav or []]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for path, uri in ELSEWHERE.items():
        files.append(File.generated(config, uri, content=path.read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Let links lead to where their pages are on the site. What is no page of it stays as words."""
    uri = page.file.src_uri
    source = next((path for path, shown in ELSEWHERE.items() if shown == uri), DOCS / uri)

    def led(link: re.Match[str]) -> str:
        target = Path(os.path.normpath(source.parent / link[1]))
        shown = ELSEWHERE.get(target) or (target.relative_to(DOCS).as_posix() if target.is_relative_to(DOCS) else None)
        if shown is None or target.is_dir():
            return "]()" if target.exists() else link[0]
        return f"]({os.path.relpath(shown, Path(uri).parent)}{link[2] or ''})"

    return re.sub(r"\[([^\[\]]*)\]\(\)", r"\1", _LINK.sub(led, markdown))


def _unfolded(entry: Any) -> Any:  # Any: strings and mappings, as in mkdocs.yml
    if isinstance(entry, dict):
        return {
            title: _pages_of(below) if isinstance(below, str) else [*map(_unfolded, below)] for title, below in entry.items()
        }
    return entry


def _pages_of(place: str) -> Any:  # Any: as above
    if not place.endswith("/"):
        return place
    here = [path.relative_to(DOCS).as_posix() for path in (DOCS / place).glob("*.md")]
    return sorted([*here, *(uri for uri in ELSEWHERE.values() if uri.startswith(place))])
