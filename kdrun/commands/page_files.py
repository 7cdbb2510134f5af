"""`kdrun report FOLDER --html`: the page of a run, a sweep, a search or of many runs as one file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kdrun.artefacts import write_text
from kdrun.errors import KdrunError
from kdrun.extras import install
from kdrun.figures import file_size
from kdrun.paths import expanded
from kdrun.terminal import note

if TYPE_CHECKING:
    from kdrun.report.html.pages import Page

FILE = "report.html"


def need_html(flag: str) -> None:
    """Raises KdrunError if the packages for pages are missing."""
    try:
        import bokeh
        import jinja2
    except ImportError as error:
        raise KdrunError(flag, None, f"needs Jinja2 and Bokeh: {install('html')}") from error
    assert bokeh and jinja2


def write(folders: Sequence[Path], out: str = "") -> str:
    """Writes the page; what to print about it. out: the file, if it is not FILE in the only folder.

    Raises KdrunError for folders without a finished run, and for a file that cannot be written.
    """
    need_html("--html")
    if len(folders) > 1 and not out:
        raise KdrunError("--html", None, "of several folders needs a file: --out FILE.html")
    from kdrun.report.html.document import document

    file = expanded(out) if out else folders[0] / FILE
    text = document(page_of(folders))
    if file.is_dir():
        raise KdrunError("--out", out, "is a folder; name a file")
    try:
        write_text(file, text)
    except OSError as error:
        raise KdrunError(str(file), None, f"cannot be written ({error.strerror}); --out FILE.html") from error
    return f"{file}  {file_size(file.stat().st_size)}, opens in a browser without a network"


def page_of(folders: Sequence[Path]) -> Page:
    """The page of a run, of a sweep or a search, or else of the runs in the folders."""
    from kdrun.report.html import pages
    from kdrun.report.read import NAME
    from kdrun.report.runs import reports_of

    if len(folders) == 1:
        if (folders[0] / NAME).is_file():
            return pages.of_run(folders[0])
        if page := pages.of_sweep(folders[0]):
            return page
    return pages.of_runs(reports_of(folders, note), ", ".join(map(str, folders)))
