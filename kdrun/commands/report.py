"""`kdrun report [DIR...]`: finished runs in a table or a cross table, the end screen of a sweep or search, or
the page of a published table; or all of these as pages for a browser."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from kdrun.config.options import Options
from kdrun.errors import KdrunError
from kdrun.paths import no_folder
from kdrun.report.naming import run_named
from kdrun.terminal import note, width

FORMATS = ("text", "md", "csv", "json", "tex")
SEEDS = ("each", "mean")
PIVOT = {"--rows": "method", "--cols": "pair", "--value": "gain"}
"""Options of the cross table, with the default of each if another is given."""


def main(arguments: Sequence[str]) -> int:
    """Prints the table. Raises KdrunError for a missing folder, and if there is no finished run."""
    keys = dict.fromkeys(("--sort", "--last", "--out", "--port", *PIVOT), ())
    values = {"--format": FORMATS, "--seeds": SEEDS, **keys}
    words, options = Options(values, ("--html", "--serve")).parse(arguments)
    _check(options)
    folders = [run_named(word) for word in words or ["outputs" if "--serve" in options else "outputs/runs"]]
    for folder in folders:
        if not folder.is_dir():
            raise KdrunError(str(folder), None, no_folder(folder) or "no such folder")
    if "--serve" in options or "--html" in options:
        from kdrun.commands import browser

        if "--html" in options:
            print(browser.write(folders, options.get("--out", "")))
            return 0
        if len(folders) > 1:
            raise KdrunError("--serve", None, "takes one folder")
        browser.serve(folders[0], options.get("--port", str(browser.PORT)))
        return 0
    if len(folders) == 1:
        _draw_missing(folders[0])
    print(_text(folders, options).rstrip("\n"))
    return 0


def _check(options: dict[str, str]) -> None:
    """Raises KdrunError for options that do not go together."""
    for name, of in (("--out", "--html"), ("--port", "--serve")):
        if name in options and of not in options:
            raise KdrunError(name, options[name], f"is for {of}")
    page = next((name for name in ("--serve", "--html") if name in options), "")
    for name in ("--format", "--sort", "--last", *PIVOT, *(["--html"] if page == "--serve" else [])):
        if page and name in options:
            raise KdrunError(name, options[name] or None, f"is not for {page}")


def _draw_missing(folder: Path) -> None:
    """Draws the missing pictures of a sweep's job, and names them; not with `evaluation.plots=false`."""
    from kdrun.report.pictures import draw_missing
    from kdrun.report.read import NAME, read

    if not (folder / NAME).is_file():
        return
    if read(folder).get("config", {}).get("evaluation", {}).get("plots") is not False:
        try:
            drawn = draw_missing(folder)
        except OSError as error:
            print(f"not drawn: {folder} cannot be written ({error.strerror})", file=sys.stderr)
        else:
            for name in drawn:
                print(f"drawn: {folder / name}", file=sys.stderr, flush=True)


def _text(folders: Sequence[Path], options: dict[str, str]) -> str:
    from kdrun.report.find_runs import find_runs

    format = options.get("--format", "text")
    crossed = any(name in options for name in PIVOT)
    listing = [name for name in ("--sort", "--last", "--seeds") if name in options]
    if crossed and listing:
        problem = "is for the list of runs; a cross table takes all of them"
        raise KdrunError(listing[0], options[listing[0]], problem)
    listed = crossed or bool(listing)
    if len(folders) == 1 and not listed and (page := _of_many(folders[0], format)):
        return page
    unfinished = {path for folder in folders for path in find_runs(folder).unfinished}
    if unfinished:
        print(f"unfinished runs left out: {len(unfinished)}", file=sys.stderr, flush=True)
    folders = [folder for folder in folders if folder not in unfinished] or folders
    if crossed:
        from kdrun.report import pivot

        rows, cols, value = (options.get(name, usual) for name, usual in PIVOT.items())
        return pivot.render(folders, rows, cols, value, format, width(), note)
    from kdrun.report import runs

    chosen = options.get("--sort", ""), options.get("--last", "")
    return runs.render(folders, format, width(), *chosen, note, options.get("--seeds", "each"))


def _of_many(folder: Path, format: str) -> str:
    """The end screen for the folder of a sweep, a search or a published table; empty for other folders."""
    if (folder / "search.json").is_file():
        return _of_search(folder, format)
    if not (folder / "jobs").is_dir():
        return ""
    from kdrun.commands.table import page_of
    from kdrun.report import sweep_files, sweep_table
    from kdrun.report.sweep_folder import collected

    if not (folder / "sweep.json").exists() and (page := page_of(folder, format)):
        return page
    jobs = collected(folder)
    if not jobs:
        return ""
    return sweep_table.text(jobs, width()) if format == "text" else sweep_files.as_text(jobs, format)


def _of_search(folder: Path, format: str) -> str:
    if format == "tex":
        raise KdrunError("--format", format, "a search has no such table", ["text", "md", "csv", "json"])
    from kdrun.report import search_files, search_table

    search = search_files.read(folder)
    return search_table.text(search, width()) if format == "text" else search_files.as_text(search, format)
