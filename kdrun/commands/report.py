"""`kdrun report [DIR...]`: finished runs in a table or a cross table, or a sweep's end screen."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from kdrun.commands.terminal import width
from kdrun.config.options import Options
from kdrun.errors import KdrunError
from kdrun.report.naming import run_named

FORMATS = ("text", "md", "csv", "json", "tex")
PIVOT = {"--rows": "method", "--cols": "pair", "--value": "gain"}
"""Options of the cross table, and what each is if only another is given."""


def main(arguments: Sequence[str]) -> int:
    """Prints the table. Raises KdrunError for a folder that is none, and if there is no finished run."""
    words, options = Options(values={"--format": FORMATS, **dict.fromkeys(PIVOT, ())}).parse(arguments)
    folders = [run_named(word) for word in words or ["outputs/runs"]]
    for folder in folders:
        if not folder.is_dir():
            raise KdrunError(str(folder), None, "no such folder")
    print(_text(folders, options).rstrip("\n"))
    return 0


def _text(folders: Sequence[Path], options: dict[str, str]) -> str:
    from kdrun.report import pivot, runs, sweep_files, sweep_table
    from kdrun.report.sweep_folder import collected

    format = options.get("--format", "text")
    crossed = any(name in options for name in PIVOT)
    if len(folders) == 1 and (folders[0] / "jobs").is_dir() and not crossed:
        jobs = collected(folders[0])
        if jobs:
            return sweep_table.text(jobs, width()) if format == "text" else sweep_files.as_text(jobs, format)
    unfinished = {path for folder in folders for path in runs.unfinished(folder)}
    if unfinished:
        print(f"unfinished runs left out: {len(unfinished)}", file=sys.stderr, flush=True)
    folders = [folder for folder in folders if folder not in unfinished] or folders
    if crossed:
        rows, cols, value = (options.get(name, usual) for name, usual in PIVOT.items())
        return pivot.render(folders, rows, cols, value, format, width())
    return runs.render(folders, format, width())
