"""`kdrun report DIR...`: the table of finished runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kdrun.commands.terminal import width
from kdrun.config.options import Options
from kdrun.errors import KdrunError

FORMATS = ("text", "md", "csv", "json")


def main(arguments: Sequence[str]) -> int:
    """Prints the table. Raises KdrunError for a folder that is none or holds no finished run."""
    words, options = Options(values={"--format": FORMATS}).parse(arguments)
    if not words:
        raise KdrunError("kdrun report", None, "which runs? Their folders, or one of them all: outputs/runs")
    folders = [Path(word).expanduser() for word in words]
    for folder in folders:
        if not folder.is_dir():
            raise KdrunError(str(folder), None, "no such folder")
    from kdrun.report.runs import render

    print(render(folders, options.get("--format", "text"), width()).rstrip("\n"))
    return 0
