"""`kdrun export RUN --to pt2,onnx,int8`: the student in other formats, checked on the whole test part."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from kdrun.artefacts import read_json
from kdrun.config.options import Options
from kdrun.errors import KdrunError
from kdrun.garbage import uncollected
from kdrun.paths import expanded
from kdrun.report.naming import run_named
from kdrun.terminal import width

NAMES = ("pt2", "onnx", "int8")

USE = "kdrun export RUN --to pt2, RUN being a folder in outputs/runs"


def main(arguments: Sequence[str]) -> int:
    """Exports. Raises KdrunError for a run that is not finished, and for an export that fails its check."""
    values = {"--to": (), "--out": (), "--format": ("text", "json"), "--packages": (), "--data-dir": ()}
    words, options = Options(values=values).parse(arguments)
    if len(words) != 1:
        problem = "one run at a time" if words else "which run?"
        raise KdrunError("kdrun export", None, f"{problem} {USE}")
    names = _split(options.get("--to", "pt2"))
    for name in names or [""]:
        if name not in NAMES:
            raise KdrunError("--to", name, "no such format", NAMES)
    run = run_named(words[0])
    if not run.exists():
        raise KdrunError(str(run), None, "no such run")
    with uncollected():
        from kdrun.export.make import RECORD, export

    folder = export(
        run,
        names,
        expanded(options["--out"]) if "--out" in options else None,
        _split(options.get("--packages", "")),
        options.get("--data-dir"),
        lambda line: print(line, file=sys.stderr, flush=True),
    )
    record = read_json(folder / RECORD)
    if options.get("--format") == "json":
        print(json.dumps(record, indent=2))
    else:
        print("\n".join(_screen(folder, record, width())))
    return 0


def _split(text: str) -> list[str]:
    """`[a, b]` or `a,b` as words, each once."""
    words = (word.strip() for word in text.strip("[]").split(","))
    return list(dict.fromkeys(word for word in words if word))


def _screen(folder: Path, record: dict[str, object], columns: int) -> list[str]:
    from kdrun.export.tables import answers, caption, latencies, verdict
    from kdrun.report.tables import aligned

    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    lines = ["", str(folder), *textwrap.wrap("  ".join(names), columns - 2, initial_indent="  ")]
    lines += ["", *aligned(answers(record)), "", *aligned(latencies(record)), ""]
    lines += textwrap.wrap(caption(record), columns)
    if sentence := verdict(record):
        lines += textwrap.wrap(sentence, columns)
    return lines
