"""A hook of mkdocs: takes the pages that lie outside docs/ into the site, and points the links at them."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

HOME = Path(__file__).resolve().parents[1]
OUTSIDE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "results/README.md": "results.md",
}
"""Pages outside docs/, from the top of the repository, and what each is called in the site."""

LINK = re.compile(r"\[([^\[\]]*)\]\((?!\w+:|#)([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages that lie outside docs/."""
    for path, name in OUTSIDE.items():
        files.append(File.generated(config, name, content=(HOME / path).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Points each link to a file of the repository at its page in the site; one without a page is named."""
    origin = {name: path for path, name in OUTSIDE.items()}.get(
        page.file.src_uri, f"docs/{page.file.src_uri}"
    )

    def pointed(link: re.Match[str]) -> str:
        text, path, place = link.groups(default="")
        target = posixpath.normpath(posixpath.join(posixpath.dirname(origin), path))
        if not (HOME / target).exists():
            return link[0]  # a broken link, of which mkdocs warns
        name = OUTSIDE.get(target, OUTSIDE.get(f"{target}/README.md", target.removeprefix("docs/")))
        here = posixpath.relpath(name, posixpath.dirname(page.file.src_uri) or ".")
        return (
            f"{text} (`{target}`)" if files.get_file_from_path(name) is None else f"[{text}]({here}{place})"
        )

    return LINK.sub(pointed, markdown)
