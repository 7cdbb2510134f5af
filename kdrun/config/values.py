"""Values that no key can mean: numbers too large to count with, lists in lists, empty names."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import lru_cache
from typing import Any, get_args, get_origin

from kdrun.config.exact import types_of
from kdrun.config.schema import Run
from kdrun.errors import UNSEEN, KdrunError
from kdrun.figures import as_typed
from kdrun.nested import places

LARGEST = 1e15
"""The largest number, of either sign, that is computed with."""

SEED = re.compile(r"(^|[._])seed$|\.split$")
MOST_SEED = 2**63 - 1

MOST = {
    r"threads|runtime\.(jobs|workers)": 4096,
    r"generations": 1000,
    r".*_gb": 1e9,
    r"(teacher|student|assistant\.\d+)\.args\..*": 2**20,
    r"(phase_one\.)?loss\..*": 1e9,
    r"recipe\..*\.(epochs|batch|milestones\.\d+)|controls\.longer_epochs": 10**9,
}
"""The most that some keys can mean; the whole key must match."""

LONGEST = 200
"""The most letters of a name, a note or a tag."""

NEEDED = {str: "a name", int: "a whole number", float: "a number"}
"""What an entry of a list is, by the type in the schema."""


def refuse_unusable_numbers(config: Mapping[str, Any]) -> None:
    """Raises KdrunError for the first number that is not finite, or too large for its key; keys above others
    first, since these may take their values.
    """
    for place, value in sorted(places(config), key=lambda leaf: len(leaf[0])):
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            continue
        key = ".".join(map(str, place))
        if not math.isfinite(value):
            raise KdrunError(key, value, "must be a finite number")
        most = most_of(key)
        if abs(value) > most:
            raise KdrunError(key, _short(value), f"is too large: at most {_short(most)}")


@lru_cache(4096)
def most_of(key: str) -> float:
    """The largest size of a number that the key can have."""
    if SEED.search(key):
        return MOST_SEED
    return next((most for pattern, most in MOST.items() if re.fullmatch(pattern, key)), LARGEST)


def _short(value: float) -> str:
    """A number in at most 20 characters."""
    text = str(value)
    return text if len(text) <= 20 else f"{text[0]}.{text[1:3]}e{len(text) - 1}"


def refuse_unusable_texts(run: Run) -> None:
    """Raises KdrunError for the first list with an entry that is no plain value, and for what the user calls
    the run, if commands could not take it or a line could not show it.
    """
    for key, kind, values in _lists(run, ""):
        for value in values:
            if value is None or isinstance(value, (Mapping, list, tuple)):
                raise KdrunError(key, as_typed(value), f"{NEEDED.get(kind, 'a name or a number')} is needed")
    if run.name is not None:
        _refuse_line("name", run.name)
        if "/" in run.name or run.name in (".", "..") or run.name.startswith(("-", "~")):
            problem = (
                "commands that take a run would read it as a path or an option: no / in it, no - or ~ first"
            )
            raise KdrunError("name", run.name, problem)
    for key in ("outputs_dir", "data_dir"):
        if UNSEEN.search(getattr(run, key)) or "\n" in getattr(run, key):
            raise KdrunError(key, getattr(run, key), "a folder with printable letters is needed")
    for key, texts in (("note", [run.note] if run.note is not None else []), ("tags", run.tags)):
        for text in texts:
            _refuse_line(key, text)


def _refuse_line(key: str, text: str) -> None:
    """What is empty is `null`, what has several lines or unseen letters is no line."""
    if not text.strip():
        raise KdrunError(
            key, f"'{text}'", "is empty; for none: " + ("tags=[]" if key == "tags" else f"{key}=null")
        )
    if not text.isprintable() or len(text) > LONGEST:
        raise KdrunError(key, text, f"one line of at most {LONGEST} printable letters is needed")


def _lists(value: Any, key: str) -> Iterator[tuple[str, Any, list[Any]]]:
    """The lists of plain values below a dataclass: key, type of the entries, entries."""
    kind_of: Any = type(value)
    types = types_of(kind_of)
    for field in fields(value):
        inner, below = getattr(value, field.name), f"{key}.{field.name}" if key else field.name
        kind = get_args(types[field.name])
        if is_dataclass(inner):
            yield from _lists(inner, below)
        elif get_origin(types[field.name]) is list and not is_dataclass(kind[0]):
            yield below, kind[0], inner
        elif get_origin(types[field.name]) is dict and is_dataclass(kind[1]):
            for name, each in inner.items():
                yield from _lists(each, f"{below}.{name}")
