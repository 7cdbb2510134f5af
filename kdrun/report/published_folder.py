"""The folder of a published table: the record of each cell that was run, and the page in every format."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from kdrun.artefacts import write_text
from kdrun.config.cells import Cells
from kdrun.errors import KdrunError
from kdrun.report.published import Done, TablePage, page
from kdrun.report.published_page import FORMATS, render
from kdrun.report.sweep_folder import collected

FILES = {name: f"table.{name}" for name in FORMATS if name != "text"}


def folder_of(cells: Cells, outputs: Path) -> Path:
    """The folder of a table; a reduced budget has a folder of its own."""
    return outputs / "tables" / cells.name


def done(cells: Cells, folder: Path) -> Iterator[Done]:
    """The cells that have a run. Runs with the settings of an earlier version of the table are left out."""
    for row in collected(folder):
        swept = row["overrides"]
        try:
            pair, method, seed = str(swept["pair"]), str(swept["method"]), int(swept["seed"])
            current = cells.job(pair, method, seed).name == row["name"]
        except (KdrunError, KeyError, TypeError, ValueError):
            continue
        if current:
            yield Done(pair, method, seed, row["report"])


def shown(cells: Cells, runs: Sequence[Done]) -> TablePage:
    """The page of the cells that were asked for, with all their runs."""
    return page(cells.table, runs, cells.pairs, cells.methods, cells.reduced)


def write(cells: Cells, folder: Path, runs: Sequence[Done]) -> list[str]:
    """Writes the page of the whole table, with the cells of earlier calls. Returns the names of the files."""
    whole = page(cells.table, runs, reduced=cells.reduced)
    for format, name in FILES.items():
        write_text(folder / name, render(whole, format))
    return list(FILES.values())
