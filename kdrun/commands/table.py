"""`kdrun table [ID] [pair=... method=... seed=...] [key=value ...]`: a published table beside ours."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from kdrun.artefacts import held, locked
from kdrun.commands.sweep import Ended, make_and_run, planned
from kdrun.config.cells import CHOOSING, Cells, asked
from kdrun.config.choices import PLAIN
from kdrun.config.compose import Composer, composing
from kdrun.config.load import Loaded
from kdrun.config.options import FOLDER, OTHER_SPELLINGS, Options, own_folder
from kdrun.config.sweep import Job, composed_job
from kdrun.config.tables import read, tables, work_of
from kdrun.errors import KdrunError
from kdrun.figures import plural
from kdrun.garbage import uncollected
from kdrun.report.published_page import FORMATS
from kdrun.terminal import TABLE, note, width

if TYPE_CHECKING:  # these import torch
    from kdrun.check.duration import Paces
    from kdrun.plan.ground import Grounds
    from kdrun.plan.plan import Plan
    from kdrun.plan.training import Training
    from kdrun.report.published_list import RowTrainings

OPTIONS = Options(
    values={"--format": FORMATS, FOLDER: ()},
    switches=("--list",),
    aliases={**OTHER_SPELLINGS, "-l": "--list"},
)

PACES = "paces.json"
"""The file beside the folders of tables for what `--list` measured."""


def main(arguments: Sequence[str]) -> int:
    """Lists the tables, lists the cells of one, or runs them. 1 if a cell failed.

    Raises KdrunError, or Refused if a cell cannot run, before any training.
    """
    words, options = OPTIONS.parse(arguments)
    names = list(filter(_is_name, words))
    if not names:
        return _all_tables(words, own_folder(options), options)
    if len(names) > 1:
        raise KdrunError(names[1], None, "one table at a time; cells are chosen by pair=, method=, seed=")
    cells = _cells(names[0], [word for word in words if word != names[0]], options)
    if "--list" in options:
        return show_cells(cells)
    return fill(cells, options.get("--format", "text"), shlex.join(["kdrun", "table", *arguments]))


def page_of(folder: Path, format: str) -> str:
    """The page of a published table's folder, with all cells that have a run; empty for other folders. Raises
    KdrunError.
    """
    from kdrun.report.published_folder import done, shown
    from kdrun.report.published_page import render
    from kdrun.report.sweep_files import commands

    called = [shlex.split(command) for command in commands(folder)]
    typed = next((words[2:] for words in called if words[1:2] == ["table"]), [])
    words, options = OPTIONS.parse(typed)
    name = next(filter(_is_name, words), None)
    if name is None:
        return ""
    own = [word for word in words if word != name and word.partition("=")[0] not in CHOOSING]
    cells = _cells(name, own, options)
    return render(shown(cells, list(done(cells, folder))), format, width(TABLE))


def _is_name(word: str) -> bool:
    """Whether a word of the command line names a table; other words are overrides."""
    return "=" not in word and not word.startswith("~")


def _cells(name: str, words: Sequence[str], options: Mapping[str, str]) -> Cells:
    own = own_folder(options)
    return asked(read(name, own), words, (FOLDER, options[FOLDER]) if own else ())


def _all_tables(words: Sequence[str], own: Path | None, options: Mapping[str, str]) -> int:
    """Lists all tables, with their cost on this machine."""
    if words or "--list" in options:
        names = [entry.name for entry in tables(own)]
        raise KdrunError(words[0] if words else "--list", None, "the name of a table is missing", names)
    with uncollected():
        from kdrun.check.measure import training_speed
    from kdrun.report.published_list import Known, tables_text

    device, speed = training_speed()
    known = []
    for entry in tables(own):
        table = read(entry.name, own)
        work = work_of(entry.path)
        seconds = None if work is None else work / speed
        known.append(Known(entry.name, entry.description, len(table.places()) * len(table.seeds), seconds))
    print(tables_text(known, device, width(TABLE)))
    return 0


def fill(cells: Cells, format: str, command: str) -> int:
    """Runs the unfinished cells, pair by pair, and shows the table; 1 if a cell failed."""
    from kdrun.plan.ground import Grounds
    from kdrun.report.published_folder import folder_of
    from kdrun.report.sweep_folder import record_call

    pairs, grounds = _composed(cells), Grounds()
    runs = _checked(pairs, grounds)
    for line in dict.fromkeys(line for run in runs for line in run.notes):
        note(line)
    jobs = [job for pair in pairs for job in pair.jobs]
    folder = folder_of(cells, Path(runs[0].run.outputs_dir))
    record_call(folder, jobs, command)
    ended: list[Ended] = []
    with held([folder]):
        try:
            with redirect_stdout(sys.stdout if format == "text" else sys.stderr):
                for pair in pairs:
                    own = [cells.typed.command(job.overrides) for job in pair.jobs]
                    make_and_run(pair.jobs, planned(pair.loaded, grounds)[1], own, folder, ended)
        finally:
            _show_page(cells, folder, format, len(jobs) - len(ended))
    return int(any(each["state"] == "failed" for each in ended))


def show_cells(cells: Cells) -> int:
    """Shows the state of each training, and the time for the rest; nothing is trained."""
    with uncollected():
        from kdrun.check.duration import Paces
    from kdrun.plan.ground import Grounds
    from kdrun.report.published_list import trainings_text

    pairs, grounds = _composed(cells), Grounds()
    run = _checked(pairs, grounds)[0].run
    paces = Paces(Path(run.outputs_dir) / "tables" / PACES, run.fresh)
    lines: list[RowTrainings] = []
    place = ""
    for pair in pairs:
        plans = planned(pair.loaded, grounds)[1]
        lines += _lines(cells, pair.jobs, plans, paces)
        place = plans[0].ground.machine.device.type
    print(trainings_text(cells.table, lines, place, width(TABLE)))
    return 0


class OfPair(NamedTuple):
    """The cells of a pair, and for each its run or its error."""

    jobs: list[Job]
    loaded: list[Loaded | KdrunError]


def _composed(cells: Cells) -> list[OfPair]:
    """All cells, pair by pair. Raises KdrunError if the first cannot run, before the others are looked at:
    what was typed is the same for all.
    """
    from kdrun.stages.engines.engine import refuse_unusable

    jobs = list(cells.jobs())
    print(f"checking {plural(len(jobs), 'cell')}", file=sys.stderr, flush=True)
    with composing(cells.typed):
        composer = Composer()
        pairs: dict[str, OfPair] = {}
        for job in jobs:
            loaded = composed_job(composer, job, {"seed": job.swept["seed"]})
            if not pairs:
                if isinstance(loaded, KdrunError):
                    raise loaded
                refuse_unusable(loaded.run)
            pair = pairs.setdefault(job.swept["pair"], OfPair([], []))
            pair.jobs.append(job)
            pair.loaded.append(loaded)
    return list(pairs.values())


def _checked(pairs: Sequence[OfPair], grounds: Grounds) -> list[Loaded]:
    """Plans each cell with one of its seeds. No plan is kept: a large table would not fit into memory.

    Raises Refused if a cell cannot run.
    """
    wrong = [each for pair in pairs for each in pair.loaded if isinstance(each, KdrunError)]
    if wrong:
        planned(wrong)
    runs = []
    for pair in pairs:
        first = pair.jobs[0].swept["seed"]
        own = [run for job, run in zip(pair.jobs, pair.loaded, strict=True) if job.swept["seed"] == first]
        runs += planned(own, grounds)[0]
    return runs


def _show_page(cells: Cells, folder: Path, format: str, not_run: int) -> None:
    from kdrun.report.published_folder import done, shown, write
    from kdrun.report.published_page import render

    with locked(folder):  # another call may end at the same time
        runs = list(done(cells, folder))
        names = write(cells, folder, runs)
        page = render(shown(cells, runs), format, width(TABLE))
    print(f"\n{page.rstrip()}\n" if format == "text" else page.rstrip(), flush=True)
    rest = f"{plural(not_run, 'cell')} not run; the same command continues\n" if not_run else ""
    print(f"{rest}{folder}\n  {'  '.join(names)}", file=sys.stderr, flush=True)


def _lines(cells: Cells, jobs: Sequence[Job], plans: Sequence[Plan], paces: Paces) -> Iterator[RowTrainings]:
    """A line for each row of a pair: its teacher, its student alone, its methods."""
    from kdrun.check.duration import of_each
    from kdrun.report.published_list import RowTrainings
    from kdrun.report.published_page import row_name
    from kdrun.stages.saved import status

    pair = str(jobs[0].swept["pair"])
    print(f"first steps of {pair}", file=sys.stderr, flush=True)
    seconds = of_each((training for plan in plans for training in plan.trainings), paces)
    for row, trainings in _rows(cells, jobs, plans).items():
        kinds = [status(training).kind for training in trainings]
        done = kinds.count("cached") + kinds.count("loaded")
        left = sum(seconds[training.folder] for training in trainings)
        yield RowTrainings(pair, row_name(pair, row), done, kinds.count("resume"), len(kinds), left)


def _rows(cells: Cells, jobs: Sequence[Job], plans: Sequence[Plan]) -> dict[str, list[Training]]:
    """The trainings of a pair by row of the table, each once."""
    rows: dict[str, list[Training]] = {row: [] for row in cells.table.methods}
    seen = set[Path]()
    for job, plan in zip(jobs, plans, strict=True):
        method = str(job.swept["method"])
        alone = "student" if cells.table.baseline(str(job.swept["pair"]), method) else method
        for training in plan.trainings:
            if training.folder not in seen:
                row = alone if training.name == PLAIN else method
                row = "teacher" if training.kind == "teacher" else row
                rows[row].append(training)
                seen.add(training.folder)
    return {row: trainings for row, trainings in rows.items() if trainings}
