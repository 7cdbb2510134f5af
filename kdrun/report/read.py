"""Reading the reports that runs have left."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from kdrun.errors import KdrunError, visible
from kdrun.report.content import problems
from kdrun.report.schema import Report

NAME = "report.json"

STEERING = re.compile(r"\\u(00[0189]|20[026])|[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""In JSON, letters that could steer a terminal, as they are or escaped."""


def read(path: Path) -> Report:
    """The report of a run. path: its folder or the file itself. Raises KdrunError if the report is missing,
    truncated, not kdrun's, or of another schema."""
    file = path / NAME if path.is_dir() else path
    report = content_of(file)
    wrong = problems(report)
    if wrong:
        raise KdrunError(str(file), None, f"no report of this version of kdrun: {'; '.join(wrong)}")
    return cast(Report, report)


def run_folder(outputs: Path, run: str) -> Path:
    """The folder of a run that a sweep names, relative to the outputs folder. Earlier versions of kdrun named
    it relative to the working directory.
    """
    places = (outputs / run, outputs / Path(*Path(run).parts[-2:]), Path(run))
    return next((place for place in places if (place / NAME).is_file()), places[1])


def contents(folder: Path) -> Iterator[Any]:
    """The contents of the JSON files in a folder, by name, without damaged ones."""
    for path in sorted(folder.glob("*.json")):
        with suppress(KdrunError):
            yield content_of(path)


def content_of(file: Path) -> Any:
    """The content of a JSON file, with what would steer a terminal as text. Raises KdrunError if it is
    missing or not JSON.
    """
    if file.exists() and not file.is_file():
        raise KdrunError(str(file), None, "is no file")
    try:
        text = file.read_text(encoding="utf-8")
        content = json.loads(text)
        return visible(content) if STEERING.search(text) else content
    except OSError as error:
        raise KdrunError(str(file), None, f"cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise KdrunError(str(file), None, f"not valid JSON, perhaps cut off ({error})") from error
