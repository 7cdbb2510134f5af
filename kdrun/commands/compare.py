"""`kdrun compare A B`: the keys and the figures that differ between two runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.cells import cell_len

from kdrun.config.options import FORMAT, Options, print_as_asked
from kdrun.errors import KdrunError
from kdrun.report.naming import run_named
from kdrun.report.tables import aligned
from kdrun.terminal import shortened, widest, width, wrapped


def main(arguments: Sequence[str]) -> int:
    """Prints the differences. Raises KdrunError for a run that is not finished."""
    words, options = Options(values=FORMAT).parse(arguments)
    if len(words) != 2:
        problem = "which two runs? Folders, first digits of their ids, or names: kdrun compare A B"
        raise KdrunError("kdrun compare", None, problem)
    from kdrun.report.comparison import compared

    both = compared(*map(run_named, words))
    print_as_asked(options, both, as_text(both, width()))
    return 0


def as_text(both: Mapping[str, Any], columns: int) -> Iterator[str]:
    """The folders, a table of keys, a table of figures, and the verdict."""
    from kdrun.report.comparison import verdict

    for name, folder in zip(both["runs"], both["folders"], strict=True):
        yield f"{name}  {shortened(folder, columns - cell_len(name) - 2)}"
    for title in ("keys", "figures"):
        yield ""
        if both[title]:
            yield from _table(f"{title} that differ", both["runs"], both[title], columns)
        else:
            yield f"no {title} differ"
    yield ""
    yield from wrapped(verdict(both), columns)


def _table(title: str, runs: Sequence[str], rows: Sequence[Mapping[str, str]], columns: int) -> Iterator[str]:
    """A row for each difference; with its values below it if they are too wide."""
    cells = [[row[key] or "-" for key in ("name", "first", "second")] for row in rows]
    table = [[title, *runs], *cells]
    lines = aligned(table)
    if widest(lines) <= columns:
        yield from lines
        return
    for name, *values in table:
        yield name
        yield from (f"    {shortened(value, columns - 4)}" for value in values)
