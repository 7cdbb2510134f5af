"""The pictures that a command is given: files, and folders of files."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdrun.artefacts import typed_path
from kdrun.errors import KdrunError
from kdrun.figures import plural
from kdrun.records import PLAN
from kdrun.report.read import NAME

if TYPE_CHECKING:
    from kdrun.predictor import Preprocess


def read_pictures(words: Sequence[str], preprocess: Preprocess) -> dict[str, tuple[Any, str]]:
    """The tensor of each picture, and how it was changed, by its file. A folder stands for all files in it.

    Other files in a folder are left out, with one note. Raises KdrunError for a named file that is not a
    picture, for a folder without pictures, and for the folder of a run.
    """
    pictures: dict[str, tuple[Any, str]] = {}
    left_out: list[str] = []
    for word in words:
        path = typed_path(word)
        if not path.is_dir():
            pictures[word] = preprocess.looked_at(word)
            continue
        before = len(pictures)
        for file in _files(path):
            try:
                pictures[file] = preprocess.looked_at(file)
            except KdrunError:
                left_out.append(file)
        if len(pictures) == before:
            raise KdrunError(word, None, "no pictures in it")
    if left_out:
        _note(f"{plural(len(left_out), 'file')} left out, not pictures: {_first(left_out)}")
    changed = {file: how for file, (_, how) in pictures.items() if how}
    if len(changed) == 1:
        _note(*(f"{file}: {how}, as the training images are" for file, how in changed.items()))
    elif changed:
        _note(
            f"{len(changed)} of {plural(len(pictures), 'picture')} changed, as the training images are: "
            f"{_first([f'{file} ({how})' for file, how in changed.items()])}"
        )
    return pictures


def _files(folder: Path) -> Iterator[str]:
    """The files in a folder and in its subfolders, by path, without hidden ones."""
    if (folder / NAME).exists() or (folder / PLAN).exists():
        raise KdrunError(
            str(folder), None, "is the folder of a run, not of pictures; name one run, then pictures"
        )
    from kdrun.data.imagefolder import files_in

    yield from (each.path for each in files_in(folder))


def _first(texts: Sequence[str]) -> str:
    return texts[0] if len(texts) == 1 else f"{texts[0]} and {len(texts) - 1:,} more"


def _note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr)
