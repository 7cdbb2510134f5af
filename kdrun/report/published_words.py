"""The texts on the page of a published table: its heading, its cells, and the notes below."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from string import ascii_lowercase

from kdrun.config.overrides import key_of
from kdrun.config.table import FIGURES, Place, Value
from kdrun.figures import signed
from kdrun.report.published import NEAR, Cell, Page, differences, missing, unknown
from kdrun.report.sweeps import key_name

WHEN = {
    "last": "the last epoch",
    "best": "the epoch that was best on the test images",
    "unknown": "an epoch that is not stated",
}
OVER = {"mean": "mean", "median": "median", "single": "a single run", "unknown": "a figure"}
LISTED = 6
"""The most names in a list; the others are counted."""


def heading(shown: Page) -> list[str]:
    """What the table is, and how its figures were made; for a reduced budget, that it is no reproduction."""
    table, convention = shown.table, shown.table.convention
    less = "" if table.figure == "accuracy" else "; less is better"
    title = f"{table.title} ({table.paper.authors}, {table.paper.venue})"
    sure = "" if convention.sure or convention.epoch == "unknown" else ", most likely"
    runs = f" of {convention.runs} runs" if convention.runs and convention.runs > 1 else ""
    published = f"published: {OVER[convention.statistic]}{runs}{sure} at {WHEN[convention.epoch]}"
    lines = [
        f"{title}: {table.dataset}, {FIGURES[table.figure]}{less}",
        f"{published}; ours: mean +- std (seeds), last epoch",
    ]
    if shown.reduced:
        lines.append(f"{reduced(shown)}. This is not the published experiment, so it reproduces nothing.")
    return lines


def columns(shown: Page) -> list[str]:
    """The headings over the cells. `others` is left out if there are none. With a reduced budget the last
    column names the reduced keys instead of a difference."""
    others = ["others"] if any(cell.others for cell in shown.cells) else []
    return ["published", *others, "ours", "" if shown.reduced else "difference"]


def row(shown: Page, cell: Cell, full: bool = True) -> list[str]:
    """The texts of a line: its name, then one for each of `columns`. full: with published deviations and the
    reduced keys."""
    texts = [
        row_name(cell.pair, cell.method),
        "" if cell.published is None else value_text(shown, cell.published, full),
    ]
    texts += [others_text(shown, cell)] if "others" in columns(shown) else []
    ours = cell.ours
    texts.append("" if ours is None else number(shown, ours.mean, ours.std, ours.n))
    if shown.reduced:
        return [*texts, "" if not cell.values else reduced(shown) if full else "reduced"]
    star = "*" if cell.near else ""
    difference = "" if cell.difference is None else f"{star}{signed(cell.difference, digits(shown))}"
    return [*texts, difference]


def row_name(pair: str, method: str) -> str:
    """The method, or the baseline with its model."""
    teacher, _, student = pair.partition("-")
    return {"teacher": f"teacher {teacher}", "student": f"student {student}"}.get(method, method)


def arrow(pair: str) -> str:
    """`resnet56 -> resnet20`."""
    return pair.replace("-", " -> ", 1)


def digits(shown: Page) -> int:
    """Digits behind the point."""
    return 1 if shown.table.figure == "errors" else 2


def number(shown: Page, mean: float, std: float | None, n: int | None) -> str:
    """`75.33 +- 0.20 (5)`, without what is unknown; a count that is not a mean is a whole number."""
    counted = shown.table.figure == "errors" and std is None and float(mean).is_integer()
    spread = "" if std is None else f" +- {std:.{digits(shown)}f}"
    return f"{mean:.{0 if counted else digits(shown)}f}{spread}{'' if n is None else f' ({n})'}"


def value_text(shown: Page, value: Value, deviation: bool = True) -> str:
    """A figure of a paper or another implementation, with its deviation if that is asked for."""
    std = value.std if deviation else None
    return number(shown, value.value, std, None if std is None else value.runs)


def others_text(shown: Page, cell: Cell) -> str:
    """The results of others, each with its letter of `letters`."""
    known = letters(shown)
    texts = (f"{value_text(shown, value)} {known.get(value.who, '')}".strip() for value in cell.others)
    return ", ".join(texts)


def letters(shown: Page) -> dict[str, str]:
    """A letter for each of several others; none where there is one."""
    names = list(dict.fromkeys(who for who, _ in _who(shown)))
    return dict(zip(names, ascii_lowercase, strict=False)) if len(names) > 1 else {}


def starred(shown: Page) -> bool:
    """Whether some difference carries a star."""
    return not shown.reduced and any(cell.near for cell in shown.cells)


def star(shown: Page) -> str:
    """What a star means."""
    return f"* within {'two' if NEAR == 2 else NEAR} standard deviations of our seeds"


def reduced(shown: Page) -> str:
    """`reduced: student.epochs=10 dataset.train=5000`."""
    pairs = ((key_name(key_of(override)), override.partition("=")[2]) for override in shown.reduced)
    return "reduced: " + " ".join(f"{key}={value}" for key, value in pairs)


def below(shown: Page) -> Iterator[tuple[str, list[str]]]:
    """The notes under the table: a title (empty for the first part) and its lines."""
    yield "", [*_legend(shown), *_left_out(shown)]
    if lines := differences(shown):
        yield "Differences between the published protocol and ours", lines
    if shown.made:
        yield "Ours", list(shown.made)
    if shown.table.notes:
        yield "Before comparing", list(shown.table.notes)
    yield "Sources", list(_sources(shown))


def _legend(shown: Page) -> Iterator[str]:
    if starred(shown):
        yield f"{star(shown)}; difference: ours - published"
    if any(len(cell.values) == 1 and cell.method != "teacher" for cell in shown.cells):
        yield "(1): one seed, which says nothing about the spread of seeds"
    known = letters(shown)
    for who, about in _who(shown):
        yield f"{known.get(who, 'others')}: {who}{f', {about}' if about else ''}"


def _left_out(shown: Page) -> Iterator[str]:
    """Cells that are empty, and why."""
    if cells := missing(shown):
        yield f"not run: kdrun table {shown.table.name}{''.join(_chosen(shown, cells))}"
    lacking: dict[str, list[str]] = {}
    for cell in shown.cells:
        if cell.lacks:
            whose = cell.pair if shown.table.pairs[cell.pair].lacks else cell.method
            lacking.setdefault(cell.lacks, []).append(whose)
    for why, names in lacking.items():
        yield f"cannot be run: {', '.join(dict.fromkeys(names))}: kdrun lacks {why}"
    if cells := unknown(shown):
        named = ", ".join(f"{method} for {arrow(pair)}" for pair, method in cells[:LISTED])
        more = f", {len(cells) - LISTED} more" if len(cells) > LISTED else ""
        yield f"known, but not checked against a source, so not shown: {named}{more}"


def _chosen(shown: Page, cells: Sequence[Place]) -> Iterator[str]:
    """` pair=... method=...` of some cells. A key is left out if it would name the whole table or more than
    LISTED values: finished cells are not run again."""
    every = shown.table.places()
    for position, key in enumerate(("pair", "method")):
        names = list(dict.fromkeys(cell[position] for cell in cells))
        if len(names) <= LISTED and len(names) < len({place[position] for place in every}):
            yield f" {key}={','.join(names)}"


def _sources(shown: Page) -> Iterator[str]:
    """The sources of the shown cells' figures."""
    values = [cell.published for cell in shown.cells if cell.published]
    for what, sources in (
        ("figures", [value.source for value in values]),
        ("deviations", [value.std_source for value in values if value.std_source]),
        ("others", [value.source for cell in shown.cells for value in cell.others]),
    ):
        for source in dict.fromkeys(sources):
            yield f"{what}: {source.where}{' (quoted there)' if source.quoted else ''}"
    yield f"paper: {shown.table.paper.title}, {shown.table.paper.address}"


def _who(shown: Page) -> list[tuple[str, str]]:
    return list(dict.fromkeys((value.who, value.about) for cell in shown.cells for value in cell.others))
