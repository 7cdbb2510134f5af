"""`kdrun compare A B`: the keys and the figures that differ between two runs."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kdrun.commands.terminal import shortened, width
from kdrun.config.options import Options
from kdrun.errors import KdrunError
from kdrun.figures import p_value, plural, signed
from kdrun.report.naming import run_named

GAP = 2


def main(arguments: Sequence[str]) -> int:
    """Prints the differences. Raises KdrunError for a run that is not finished."""
    words, options = Options(values={"--format": ("text", "json")}).parse(arguments)
    if len(words) != 2:
        problem = "which two runs? Folders, first digits of their ids, or names: kdrun compare A B"
        raise KdrunError("kdrun compare", None, problem)
    from kdrun.report.comparison import compared

    both = compared(*map(run_named, words))
    if options.get("--format") == "json":
        print(json.dumps(both, indent=2))
    else:
        print("\n".join(as_text(both, width())))
    return 0


def as_text(both: Mapping[str, Any], columns: int) -> Iterator[str]:
    """The folders, a table of keys, a table of figures, and the verdict."""
    for name, folder in zip(both["runs"], both["folders"], strict=True):
        yield f"{name}  {shortened(folder, columns - len(name) - 2)}"
    for title in ("keys", "figures"):
        yield ""
        if both[title]:
            yield from _table(f"{title} that differ", both["runs"], both[title], columns)
        else:
            yield f"no {title} differ"
    yield ""
    yield from textwrap.wrap(_verdict(both), columns)


def _table(title: str, runs: Sequence[str], rows: Sequence[Mapping[str, str]], columns: int) -> Iterator[str]:
    """A row for each difference; with its values below it if they are too wide."""
    heads = {"name": title, "first": runs[0], "second": runs[1]}
    lines = [heads, *({key: row[key] or "-" for key in heads} for row in rows)]
    room = max(len(line["name"]) for line in lines)
    sides = [max(len(line[side]) for line in lines) for side in ("first", "second")]
    if room + sum(sides) + 2 * GAP <= columns:
        for line in lines:
            yield f"{line['name']:{room}}  {line['first']:>{sides[0]}}  {line['second']:>{sides[1]}}"
        return
    for line in lines:
        yield line["name"]
        for side in ("first", "second"):
            yield f"    {shortened(line[side], columns - 4)}"


def _verdict(both: Mapping[str, Any]) -> str:
    paired, (first, second) = both.get("paired"), both["runs"]
    if not paired:
        return (
            "No paired test: both runs must have kept their answers to the same test images, of the same "
            "data set and split."
        )
    low, high = paired["interval"]
    usual = "does not measurably differ from"
    how = {"better": "is better than", "worse": "is worse than"}.get(paired["verdict"], usual)
    images = plural(paired["images"], "test image")
    right = paired["only_second"], paired["only_first"]
    interval = f"95 % interval {signed(low)} to {signed(high)}, p {p_value(paired['p'])}"
    gain = signed(paired["gain"])
    return (
        f"On the same {images} the student of {second} {how} that of {first}: {gain} points ({interval}, "
        f"over the test images only); {right[0]} only it has right, {right[1]} only the other."
    )
