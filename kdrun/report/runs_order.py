"""The selection and the order of the finished runs in a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kdrun.errors import KdrunError
from kdrun.report.schema import Report

Run = tuple[Path, Report]

SORTS = {
    "student": "student_top1",
    "teacher": "teacher_top1",
    "control": "control_top1",
    "gain": "gain_top1",
    "parameters": "params",
}
"""Words to sort by, and the names of their figures in a record."""


def latest(runs: Sequence[Run], number: str) -> list[Run]:
    """The runs with the latest reports, in the given order.

    number: as it was typed. Raises KdrunError unless it is a whole number from 1.
    """
    if not number.isdecimal() or int(number) < 1:
        raise KdrunError("--last", number, "must be a whole number from 1")
    newest = sorted(runs, key=lambda run: run[1].get("created", ""), reverse=True)[: int(number)]
    kept = {folder for folder, _ in newest}
    return [run for run in runs if run[0] in kept]


def by_key(records: Sequence[Mapping[str, Any]], key: str) -> list[int]:
    """The order of records by a figure, the largest first, or by a text; records without it come last.

    key: a word of SORTS, or the name of any field. Raises KdrunError if no record has it.
    """
    name = SORTS.get(key, key)
    known = [i for i, record in enumerate(records) if name in record]
    if not known:
        names = sorted({name for record in records for name in record})
        raise KdrunError("--sort", key, "no run has it", [*SORTS, *names])
    figures = all(isinstance(records[i][name], (int, float)) for i in known)
    order = sorted(known, key=lambda i: -records[i][name] if figures else str(records[i][name]))
    return order + [i for i in range(len(records)) if i not in known]
