"""Pages for a browser: `kdrun report FOLDER --html` writes one as a file; `kdrun report outputs --serve`
lists all runs in a browser of this machine, shows each, compares two.

Served pages are made when they are asked for. A request names a run; it never names a file, so that nothing
outside the folder can be read.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import parse_qs, quote, unquote, urlsplit

from kdrun.artefacts import write_text
from kdrun.errors import KdrunError
from kdrun.extras import install
from kdrun.figures import file_size
from kdrun.paths import expanded
from kdrun.terminal import note

if TYPE_CHECKING:
    from kdrun.report.html.pages import Links, Page

ADDRESS = "127.0.0.1"
PORT = 8642
MANY = ("sweeps", "searches")
"""Folders of the outputs with a page for all runs of a command."""

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


class Missing(Exception):
    """There is no such page."""


class Site:
    """The pages of an outputs folder, made anew for each request."""

    def __init__(self, outputs: Path) -> None:
        self.outputs = outputs.resolve()

    def page(self, target: str) -> Page:
        """The page at a path with its query. Raises Missing, and KdrunError for a damaged report."""
        address = urlsplit(target)
        parts = [unquote(part) for part in address.path.strip("/").split("/") if part]
        if not parts:
            return self._list()
        if parts[0] == "compare":
            return self._two(parse_qs(address.query).get("run", []))
        if parts[0] == "run":
            from kdrun.report.html import pages

            return pages.of_run(self._run("/".join(parts[1:])))
        if parts[0] in MANY and len(parts) == 2:
            return self._many(*parts)
        raise Missing

    def links(self) -> Links:
        from kdrun.report.html.pages import Links

        return Links(lambda run: f"/run/{quote(self._name(run))}" if self._name(run) else None, self._name)

    def _name(self, run: Path) -> str:
        """A run's folder from the outputs folder; empty for one outside."""
        place = run.resolve()
        return place.relative_to(self.outputs).as_posix() if place.is_relative_to(self.outputs) else ""

    def _runs(self) -> dict[str, Path]:
        from kdrun.report.find_runs import find_runs

        named = ((self._name(run), run) for run in find_runs(self.outputs).finished)
        return {name: run for name, run in named if name}

    def _run(self, name: str) -> Path:
        runs = self._runs()
        if name not in runs:
            raise Missing
        return runs[name]

    def _list(self) -> Page:
        from kdrun.report.html import pages
        from kdrun.report.runs import reports_of

        damaged: list[str] = []
        runs = list(self._runs().values())
        reports = reports_of(runs, damaged.append) if runs else []
        many = {path.name: f"/{kind}/{quote(path.name)}" for kind in MANY for path in self._folders(kind)}
        return pages.of_outputs(reports, str(self.outputs), self.links(), many, damaged)

    def _folders(self, kind: str) -> list[Path]:
        folder = self.outputs / kind
        return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []

    def _many(self, kind: str, name: str) -> Page:
        from kdrun.report.html import pages

        folder = next((path for path in self._folders(kind) if path.name == name and self._name(path)), None)
        page = pages.of_sweep(folder, self.links()) if folder else None
        if page is None:
            raise Missing
        return page

    def _two(self, names: list[str]) -> Page:
        from kdrun.report.html import pages

        if len(names) != 2:
            raise KdrunError("compare", None, f"takes two runs; chosen: {len(names)}. Go back, choose two")
        return pages.of_two(*map(self._run, names))


class Handler(BaseHTTPRequestHandler):
    """Answers GET with a page; everything else, and other hosts, with one line."""

    server_version = "kdrun"
    sys_version = ""
    site: Site

    def do_GET(self) -> None:
        """A page, or one line about why there is none."""
        if self.headers.get("Host", "") not in self._hosts():
            self._send(HTTPStatus.FORBIDDEN, "only for this machine\n", "text/plain")
            return
        from kdrun.report.html.document import document

        try:
            text = document(self.site.page(self.path), served=True)
        except Missing:
            self._send(HTTPStatus.NOT_FOUND, "no such page\n", "text/plain")
        except KdrunError as error:
            self._send(HTTPStatus.UNPROCESSABLE_ENTITY, f"{error}\n", "text/plain")
        else:
            self._send(HTTPStatus.OK, text, "text/html")

    def _hosts(self) -> tuple[str, ...]:
        """A page of another site could ask under its own name for this address (DNS rebinding)."""
        port = cast(ThreadingHTTPServer, self.server).server_port
        return (f"{ADDRESS}:{port}", f"localhost:{port}")

    def _send(self, status: HTTPStatus, text: str, kind: str) -> None:
        body = text.encode(errors="replace")
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *values: object) -> None:
        """Requests are not printed."""


def new_server(outputs: Path, port: int) -> ThreadingHTTPServer:
    """A server that does not answer yet. port: 0 for a free one. Raises KdrunError for one in use."""
    need_html("--serve")
    handler = type("OwnHandler", (Handler,), {"site": Site(outputs)})
    try:
        return ThreadingHTTPServer((ADDRESS, port), handler)
    except OSError as error:
        raise KdrunError("--port", port, f"cannot be used ({error.strerror}); another: --port N") from error


def serve(outputs: Path, port: str, ready: Callable[[str], None] = print) -> None:
    """Answers until Ctrl-C. ready: gets the line with the address."""
    number = int(port) if port.isdecimal() and len(port) <= 5 else -1
    if not 0 <= number <= 65535:
        raise KdrunError("--port", port, "is no port: a number from 0 (a free one) to 65535")
    with new_server(outputs, number) as server:
        ready(f"http://{ADDRESS}:{server.server_address[1]}/  all runs in {outputs}; Ctrl-C ends this")
        sys.stdout.flush()
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()
