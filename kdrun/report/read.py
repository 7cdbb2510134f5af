"""Reading the reports that runs have left."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from kdrun.artefacts import read_json
from kdrun.errors import KdrunError
from kdrun.report.content import problems
from kdrun.report.schema import Report

NAME = "report.json"


def read(path: Path) -> Report:
    """The report of a run. path: its folder or the file itself. Raises KdrunError if the report is missing,
    truncated, not kdrun's, or of another schema."""
    file = path / NAME if path.is_dir() else path
    report = content_of(file)
    wrong = problems(report)
    if wrong:
        raise KdrunError(str(file), None, f"no report of this version of kdrun: {'; '.join(wrong)}")
    return cast(Report, report)


@contextmanager
def uncollected() -> Iterator[None]:
    """Within the block Python does not look for cycles: what is read from JSON has none. With thousands of
    reports the search takes as long as the reading.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def run_folder(outputs: Path, run: str) -> Path:
    """The folder of a run that a sweep names, relative to the outputs folder. Earlier versions of kdrun named
    it relative to the working directory.
    """
    places = (outputs / run, outputs / Path(*Path(run).parts[-2:]), Path(run))
    return next((place for place in places if (place / NAME).is_file()), places[1])


def content_of(file: Path) -> Any:
    """The content of a JSON file. Raises KdrunError if it is missing or not JSON."""
    try:
        return read_json(file)
    except OSError as error:
        raise KdrunError(str(file), None, f"cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise KdrunError(str(file), None, f"not valid JSON, perhaps cut off ({error})") from error
