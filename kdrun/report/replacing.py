"""The verdict on a student that is to replace another model: as good or not, faster, smaller."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from kdrun.evaluation.counts import AsGood
from kdrun.figures import points, signed, times
from kdrun.report.schema import REFERENCE, AgainstReference, Report

SAME = 1.05
"""Sizes closer than this ratio are as large as each other."""

COSTS = (
    ("params", "{} fewer parameters", "{} the parameters"),
    ("macs", "{} fewer MACs", "{} the MACs"),
    ("bytes", "{} smaller weights", "{} the bytes of weights"),
)
"""Key of a model, and what is said if the student has less or more of it."""


class Bounds(NamedTuple):
    """A difference in points, with the least and the most that it may be, 95 % each."""

    difference: float
    at_least: float
    at_most: float


def claim(name: str, verdict: AsGood, margin: float, bounds: Bounds) -> str:
    """`as good as resnet50 (margin 1 point): difference -0.3 points, at least -0.8 (95 %)`."""
    words = {
        "as good": f"as good as {name} (margin {points(margin)})",
        "not shown to be as good": f"not shown to be as good as {name} (margin {points(margin)})",
        "worse": f"worse than {name} by more than the margin of {points(margin)}",
    }[verdict]
    shown = digits(bounds, margin)
    low, high = f"at least {signed(bounds.at_least, shown)}", f"at most {signed(bounds.at_most, shown)}"
    ends = {"as good": low, "not shown to be as good": f"{low}, {high}", "worse": high}[verdict]
    each = " each" if verdict == "not shown to be as good" else ""
    return f"{words}: difference {signed(bounds.difference, shown)} points, {ends} (95 %{each})"


def digits(bounds: Bounds, margin: float) -> int:
    """One digit, or two where one would show a bound as if it were the margin."""
    edges = [bounds.at_least, bounds.at_most, -margin]
    return 1 if len({round(edge, 1) for edge in edges}) == len(set(edges)) else 2


def bounds_of(against: AgainstReference) -> Bounds:
    """The difference of one run."""
    return Bounds(against["difference"], against["at_least"], against["at_most"])


def sentences(report: Report) -> str:
    """Two sentences on a student that was measured against the model that it is to replace; else nothing."""
    against = report.get("comparison", {}).get("reference")
    if against is None or "verdict" not in against:
        return ""
    name = report["models"][REFERENCE].get("name", "the reference")
    said = claim(name, against["verdict"], against["margin"], bounds_of(against))
    costs = [*_speeds(against), *_sizes(report)]
    listed = f"{', '.join(costs[:-1])} and {costs[-1]}" if costs[1:] else "".join(costs)
    return f"It is {said}, over the test images only." + (f" Beside {name}: {listed}." if listed else "")


def _speeds(against: AgainstReference) -> Iterator[str]:
    """How fast it answers at each batch size on the first device, if that is more than noise."""
    rows = against.get("speedup", [])
    for row in rows:
        if (row["device"], row["mode"]) != (rows[0]["device"], rows[0]["mode"]):
            continue
        where = f"at batch {row['batch']} on {row['device']}"
        if not row["significant"]:
            yield f"as fast within the noise {where}"
        elif row["ratio"] > 1:
            yield f"{times(row['ratio'])} as fast {where}"
        else:
            yield f"{times(1 / row['ratio'])} slower {where}"


def _sizes(report: Report) -> Iterator[str]:
    own, other = report["models"]["student"], report["models"][REFERENCE]
    for key, fewer, more in COSTS:
        mine, theirs = own.get(key), other.get(key)
        if not isinstance(mine, int) or not isinstance(theirs, int) or not mine or not theirs:
            continue
        if theirs >= SAME * mine:
            yield fewer.format(times(theirs / mine))
        elif mine >= SAME * theirs:
            yield more.format(times(mine / theirs))
