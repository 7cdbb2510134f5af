"""Writes a page as one HTML document, with its style, its scripts and its images inside.

Names, notes and classes are the user's: Jinja escapes them all, and a policy in the document allows only the
scripts of kdrun and Bokeh, and no network.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, Template
from markupsafe import Markup, escape

from kdrun import __version__
from kdrun.report.html import charts
from kdrun.report.html.charts import Charts
from kdrun.report.html.pages import Page
from kdrun.report.plots import drawable

HERE = Path(__file__).parent / "files"
MARKED = re.compile(r"`([^`]+)`|\*\*([^*]+)\*\*")


def document(page: Page, served: bool = False) -> str:
    """The document of a page. served: by `kdrun report --serve`, with a way back to the list and a form."""
    drawn = Charts()
    for part in page.parts:
        drawn |= part.charts
    scripts = [*([charts.library()] if drawn else []), _file("page.js")]
    text = _template().render(
        page=page,
        served=served,
        scripts=[Markup(script) for script in scripts],
        charts=Markup(charts.as_json(drawn).replace("<", "\\u003c")),
        style=Markup(_file("page.css")),
        policy=policy(scripts, served),
        version=__version__,
    )
    return drawable(text)


def policy(scripts: Sequence[str], served: bool = False) -> str:
    """The content security policy: these scripts by their hashes, and images inside the document."""
    hashes = " ".join(f"'sha256-{_hash(script)}'" for script in scripts)
    form = "'self'" if served else "'none'"
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; "
        f"base-uri 'none'; form-action {form}"
    )


def marked(text: str) -> Markup:
    """The text as HTML: `code` and **bold** are marked, everything else is text."""
    return Markup(MARKED.sub(_mark, str(escape(text))))


def _mark(found: re.Match[str]) -> str:
    code, bold = found.groups()
    return f"<code>{code}</code>" if code is not None else f"<strong>{bold}</strong>"


@cache
def _hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


@cache
def _file(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["marked"] = marked
    environment.filters["kind"] = lambda block: type(block).__name__
    environment.filters["anchor"] = lambda title: re.sub(r"\W+", "-", title.lower())
    return environment.get_template("page.html.j2")
