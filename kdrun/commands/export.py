"""`kdrun export RUN --to pt2,onnx,int8`: the student in other formats, checked on the whole test part."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from kdrun.artefacts import read_json
from kdrun.config.options import FORMAT, Options, print_as_asked, read_names
from kdrun.errors import KdrunError
from kdrun.garbage import uncollected
from kdrun.paths import expanded
from kdrun.report.naming import run_named
from kdrun.terminal import width

FORMATS = ("pt2", "onnx", "int8")

USE = "kdrun export RUN --to pt2, RUN being a folder in outputs/runs"


def main(arguments: Sequence[str]) -> int:
    """Exports. Raises KdrunError for a run that is not finished, and for an export that fails its check."""
    values = {"--to": (), "--out": (), **FORMAT, "--packages": (), "--data-dir": ()}
    words, options = Options(values=values).parse(arguments)
    if len(words) != 1:
        problem = "one run at a time" if words else "which run?"
        raise KdrunError("kdrun export", None, f"{problem} {USE}")
    formats = read_names(options, "--to", "pt2")
    for name in formats or [""]:
        if name not in FORMATS:
            raise KdrunError("--to", name, "no such format", FORMATS)
    run = run_named(words[0])
    if not run.exists():
        raise KdrunError(str(run), None, "no such run")
    with uncollected():
        from kdrun.export.make import RECORD, export

    folder = export(
        run,
        formats,
        expanded(options["--out"]) if "--out" in options else None,
        read_names(options, "--packages"),
        options.get("--data-dir"),
        lambda line: print(line, file=sys.stderr, flush=True),
    )
    record = read_json(folder / RECORD)
    print_as_asked(options, record, _screen(folder, record, width()))
    return 0


def _screen(folder: Path, record: dict[str, object], columns: int) -> Iterator[str]:
    from kdrun.export.tables import answers, caption, latencies, verdict
    from kdrun.report.tables import aligned

    files = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    yield from ("", str(folder), *textwrap.wrap("  ".join(files), columns - 2, initial_indent="  "))
    yield from ("", *aligned(answers(record)), "", *aligned(latencies(record)), "")
    yield from textwrap.wrap(caption(record), columns)
    yield from textwrap.wrap(verdict(record), columns)
