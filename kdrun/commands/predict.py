"""`kdrun predict RUN IMAGE...`: what a finished run's student says of pictures, its teacher beside it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from kdrun.commands.terminal import shortened, width
from kdrun.config.options import Options
from kdrun.errors import KdrunError
from kdrun.report.naming import run_named

USE = "kdrun predict RUN IMAGE..., RUN being a folder in outputs/runs, or an exported file"

CONTROL = dict.fromkeys([*range(32), *range(127, 160)], "?")
"""What a terminal takes for orders, as text."""


def main(arguments: Sequence[str]) -> int:
    """Prints a line for each picture. Raises KdrunError for a run or a picture that is none."""
    known = Options(values={"--format": ("text", "json"), "--packages": ()}, switches=("--teacher",))
    words, options = known.parse(arguments)
    packages = [name for name in options.get("--packages", "").strip("[]").split(",") if name]
    if len(words) < 2:
        problem = "which pictures?" if words else "which run, and which pictures?"
        raise KdrunError("kdrun predict", None, f"{problem} {USE}")
    rows = predicted(str(run_named(words[0])), words[1:], "--teacher" in options, packages)
    if options.get("--format") == "json":
        print(json.dumps(rows, indent=2))
        return 0
    for row in rows:
        if "changed" in row:
            print(f"note: {row['file']}: {row['changed']}, as the training images are", file=sys.stderr)
    print(as_text(rows, width()))
    return 0


def predicted(
    run: str, files: Sequence[str], teacher: bool, packages: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """A row for each file: `{file, class, probability, changed, teacher: {class, probability}}`.

    packages: of the user's own, in which the models may lie.
    """
    from kdrun.predictor import load

    models = {"student": load(run, packages=packages)}
    if teacher:
        models["teacher"] = load(run, teacher=True, packages=packages)
    looked = [models["student"].preprocess.looked_at(file) for file in files]
    answers = {role: model.predict_tensors([image for image, _ in looked]) for role, model in models.items()}
    rows = []
    for position, (file, (_, changed)) in enumerate(zip(files, looked, strict=True)):
        found = {
            role: {"class": row[position].label, "probability": row[position].probability}
            for role, row in answers.items()
        }
        row: dict[str, Any] = {"file": file} | found.pop("student")
        rows.append(row | ({"changed": changed} if changed else {}) | found)
    return rows


def as_text(rows: Sequence[dict[str, Any]], columns: int) -> str:
    """A line each: file, class and probability in percent, the teacher's too where it was asked.

    If that is wider than the screen, each stands on a line of its own, with long names shortened.
    """
    parts = [("", [row["file"] for row in rows]), ("student", [_answer(row) for row in rows])]
    if "teacher" in rows[0]:
        parts.append(("teacher", [_answer(row["teacher"]) for row in rows]))
    if len(parts) == 2:
        parts[1] = ("", parts[1][1])
    widths = [max(map(len, (head, *cells))) for head, cells in parts]
    if sum(widths) + 3 * (len(parts) - 1) > columns:
        return "\n".join(line for row in rows for line in _below(row, columns))
    lines = [[head for head, _ in parts], *zip(*(cells for _, cells in parts), strict=True)]
    text = ["   ".join(f"{c:{w}}" for c, w in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join(line for line in text if line)


def _below(row: dict[str, Any], columns: int) -> Iterator[str]:
    """The file, and below it who says what."""
    yield shortened(row["file"], columns)
    for who in ("student", "teacher"):
        if who == "student" or who in row:
            head = f"  {who}  " if "teacher" in row else "  "
            yield head + _answer(row if who == "student" else row[who], columns - len(head))


def _answer(answer: dict[str, Any], columns: int | None = None) -> str:
    name, share = answer["class"].translate(CONTROL), f"  {100 * answer['probability']:5.1f} %"
    return (name if columns is None else shortened(name, columns - len(share))) + share
