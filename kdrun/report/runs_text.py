"""Finished runs as text: a block for each data set and pair, with a line for each run or each setting."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from rich.cells import cell_len

from kdrun.figures import ABSENT, count, interval, minute, percent, plural, signed
from kdrun.report.run_records import STD, Record
from kdrun.report.sweeps import key_name, value_name
from kdrun.report.tables import Column, folded, grid, natural_width
from kdrun.terminal import widest

Cell = tuple[str, Callable[[Record], str]]

PAIR = ("dataset", "teacher", "student")
"""Fields that runs of one block share."""

TITLE = "top-1 on test in %; gain over the control in points"
MEAN_TITLE = f"{TITLE}; mean +- std of n runs that differ in seed, split or labels"
SHORT = {"better": "better", "worse": "worse", "no measurable difference": "no difference"}
INDENT = "  "

CELLS: tuple[Cell, ...] = (
    ("data set", lambda run: run.get("dataset", ABSENT)),
    ("method", lambda run: run.get("method", ABSENT)),
    ("teacher", lambda run: run.get("teacher", ABSENT)),
    ("student", lambda run: run.get("student", ABSENT)),
    ("seed", lambda run: str(run.get("seed", ABSENT))),
    ("parameters", lambda run: _shown(run, "params", count)),
    ("teacher %", lambda run: _shown(run, "teacher_top1", percent)),
    ("student %", lambda run: _shown(run, "student_top1", percent)),
    ("control %", lambda run: _shown(run, "control_top1", percent)),
    ("gain", lambda run: _shown(run, "gain_top1", signed)),
    ("95 % interval", lambda run: _interval(run)),
    ("verdict", lambda run: _verdict(run)),
)
WHO = 5
"""So many cells say which run it is; the others say how well it did."""

OF_ONE = ("seed", "95 % interval", "verdict")
"""Cells of a single run; a mean has n in place of the seed."""

ID: tuple[Cell, ...] = (
    ("id", lambda run: run.get("id") or ABSENT),
    ("name", lambda run: run.get("name", ABSENT)),
)
WHEN: Cell = ("when", lambda run: minute(run.get("created", "")) or ABSENT)

OFTEN_SHARED = ("name", "method", "seed", "parameters")
"""In the line above a block if all its runs have the same."""

LEFT_OUT = ("when", "verdict", "parameters", "95 % interval", "teacher", "control", "seed")
"""Left out one after the other until the block fits."""

WORDS = ("id", "name", "method", "verdict", "when")


def cells(differs: Sequence[str], mean: bool = False) -> list[Cell]:
    """All cells of a run or a mean, with those keys after the ones that say which run it is."""
    extra: list[Cell] = [
        (key_name(key), lambda run, key=key: value_name(run.get(key)))  # type: ignore[misc]
        for key in differs
    ]
    if not mean:
        return [*CELLS[:WHO], *extra, *CELLS[WHO:]]
    n: Cell = ("n", lambda run: str(run["n"]))
    return [*CELLS[: WHO - 1], *extra, n, *(cell for cell in CELLS[WHO:] if cell[0] not in OF_ONE)]


def pair(run: Record) -> tuple[str, ...]:
    """The data set and the pair of a run."""
    return tuple(run.get(name, ABSENT) for name in PAIR)


def block(runs: Sequence[Record], differs: Sequence[str], width: int, mean: bool = False) -> str:
    """The runs of one data set and pair, or means. differs: the keys that tell them apart."""
    data, teacher, student = pair(runs[0])
    columns = list(_columns(runs, cells(differs, mean) if mean else [*ID, *cells(differs), WHEN]))
    several = columns if len(runs) > 1 else []
    shared = [each for each in several if each.heading in OFTEN_SHARED and len(set(each.texts)) == 1]
    columns = _fitting([each for each in columns if each not in shared], width - len(INDENT))
    heads = [f"{data}   {teacher} -> {student}   {plural(len(runs), 'setting' if mean else 'run')}"]
    heads += ["; ".join(f"{each.heading} {each.texts[0]}" for each in shared)] if shared else []
    first, *rest = (line for head in heads for line in folded(head, width - len(INDENT)))
    lines = [*rest, *grid(columns, width - len(INDENT)).splitlines()]
    return "".join(f"{line}\n" for line in (first, *(INDENT + line for line in lines)))


def _columns(runs: Sequence[Record], shown: Sequence[Cell]) -> Iterator[Column]:
    """The columns of cells; a heading is never folded, nor a figure."""
    for name, cell in shown:
        if name in ("data set", "teacher", "student"):
            continue
        texts, heading = [cell(run) for run in runs], name.removesuffix(" %").replace(".", ".\n")
        if name == "name" and set(texts) == {ABSENT}:
            continue
        words = name in WORDS
        least = widest(heading.split("\n"))
        if not words:
            least = max(least, *(cell_len(word) for text in set(texts) for word in text.split()))
        yield Column(heading, texts, not words, least)


def _fitting(columns: list[Column], width: int) -> list[Column]:
    """The columns without as many of LEFT_OUT as it takes for the others to fit."""
    for name in LEFT_OUT:
        if natural_width(columns) <= width:
            break
        columns = [each for each in columns if each.heading != name]
    return columns


def _shown(run: Record, key: str, show: Callable[[float], str]) -> str:
    std = f" +- {percent(run[key + STD])}" if key + STD in run else ""
    return show(run[key]) + std if key in run else ABSENT


def _verdict(run: Record) -> str:
    word = SHORT.get(run.get("verdict", ""), ABSENT)
    if "upper_bound" in run and word == SHORT["worse"]:
        return "below its bound"
    return word if "at_chance" not in run or word == SHORT["worse"] else "at chance"


def _interval(run: Record) -> str:
    return interval((run["gain_low"], run["gain_high"])) if "gain_low" in run else ABSENT
