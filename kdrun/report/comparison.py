"""Two runs beside each other: keys and figures that differ, and a paired test on the same test images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kdrun.config.schema import Run, recorded
from kdrun.figures import interval, p_value, percent, plural, signed
from kdrun.nested import leaves
from kdrun.report import answers
from kdrun.report.int8 import FORMS, FP32
from kdrun.report.naming import said_of, short_id
from kdrun.report.read import read
from kdrun.report.rows import rows
from kdrun.report.schema import ROLES, Int8, Report, roles

UNTOLD = ("outputs_dir", "data_dir", "engine", "fresh", "name", "note", "tags")
"""Keys that say nothing about a run's results."""

Compared = dict[str, Any]


class Difference(NamedTuple):
    """A key or a figure with its values in the two runs, as text; empty where a run has none."""

    name: str
    first: str
    second: str


def compared(first: Path, second: Path) -> Compared:
    """`{runs, folders, keys, figures, paired}`; paired is absent unless both kept answers to the same test
    images.

    Raises KdrunError for a folder without a report.
    """
    reports = read(first), read(second)
    both: Compared = {
        "runs": [said_of(run).get("name") or short_id(run) or run.name for run in (first, second)],
        "folders": [str(first), str(second)],
        "keys": [each._asdict() for each in keys(*reports)],
        "figures": [each._asdict() for each in figures(*reports)],
    }
    paired = paired_test(first, second)
    return both | ({"paired": paired} if paired else {})


def keys(first: Report, second: Report) -> Iterator[Difference]:
    """The keys that differ. A key that is missing in a report of an earlier version has its default."""
    usual = dict(leaves(recorded(Run())))
    one, two = (dict(leaves(report.get("config", {}))) for report in (first, second))
    for key in dict.fromkeys([*one, *two]):
        values = [side.get(key, usual.get(key)) for side in (one, two)]
        counts = key.split(".")[0] not in UNTOLD and not key.startswith("recipe.reasons")
        if counts and values[0] != values[1]:
            yield Difference(key, *map(value_text, values))


def figures(first: Report, second: Report) -> Iterator[Difference]:
    """The figures that differ as they are shown, role by role."""
    sides = [_cells(report) for report in (first, second)]
    for name in dict.fromkeys([*sides[0], *sides[1]]):
        values = [side.get(name, "") for side in sides]
        if values[0] != values[1]:
            yield Difference(name, *values)


def _cells(report: Report) -> dict[str, str]:
    in_int8 = {
        f"top-1 test %, {role}, {FORMS[form]}": percent(own["top1"])
        for role, forms in report.get("int8", Int8()).get("models", {}).items()
        for form, own in forms.items()
        if form != FP32
    }
    in_fp32 = {
        f"{row.label} {row.unit}, {role}".replace(" ,", ","): cell
        for row in rows(report)
        for role, cell in zip(roles(report), row.cells, strict=True)
        if role in ROLES and cell not in ("", "-")
    }
    return in_fp32 | in_int8


def value_text(value: Any) -> str:
    """A value of the configuration: `null`, `true`, `0.1`."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def paired_test(first: Path, second: Path) -> Mapping[str, Any]:
    """The second student against the first on the same test images; empty if their test images differ.

    gain: in points. Its 95 % interval and McNemar's mid-p are over the choice of test images alone.
    """
    one, two = answers.read(first), answers.read(second)
    parts = [side.get("test/labels") for side in (one, two)]
    if any(labels is None for labels in parts) or not np.array_equal(parts[0], parts[1]):  # type: ignore[arg-type]
        return {}
    if "test/student" not in one or "test/student" not in two:
        return {}
    from kdrun.evaluation import compare

    labels = one["test/labels"]
    known = labels >= 0
    hits = [(side["test/student"] == labels)[known] for side in (two, one)]
    counts = compare.Pairs(int(known.sum()), int((hits[0] & ~hits[1]).sum()), int((hits[1] & ~hits[0]).sum()))
    if not counts.n:
        return {}
    ends, p = compare.gain_interval(counts), compare.mcnemar_p(counts)
    return {
        "images": counts.n,
        "only_first": counts.second,
        "only_second": counts.first,
        "gain": compare.gain(counts),
        "interval": list(ends),
        "p": p,
        "verdict": compare.verdict(ends, p),
    }


def verdict(both: Mapping[str, Any]) -> str:
    """A sentence: the paired test of two runs, or why there is none."""
    paired, (first, second) = both.get("paired"), both["runs"]
    if not paired:
        return (
            "No paired test: both runs must have kept their answers to the same test images, of the same "
            "data set and split."
        )
    usual = "does not measurably differ from"
    how = {"better": "is better than", "worse": "is worse than"}.get(paired["verdict"], usual)
    images = plural(paired["images"], "test image")
    right = paired["only_second"], paired["only_first"]
    sure = f"95 % interval {interval(paired['interval'])}, p {p_value(paired['p'])}"
    gain = signed(paired["gain"])
    return (
        f"On the same {images} the student of {second} {how} that of {first}: {gain} points ({sure}, "
        f"over the test images only); {right[0]} only it has right, {right[1]} only the other."
    )
