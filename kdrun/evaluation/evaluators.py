"""Evaluators by name: `accuracy` is the module `kdrun.evaluation.accuracy`, a dotted name a user's own.

An evaluator is a module with a function `figures(subject) -> Iterator[Figure]`.
"""

from __future__ import annotations

import importlib
import pkgutil
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import kdrun.evaluation
from kdrun.errors import KdrunError
from kdrun.evaluation.figure import Figure
from kdrun.evaluation.subject import Subject

Evaluator = Callable[[Subject], Iterable[Figure]]


def evaluator(name: str, key: str = "evaluation.figures") -> Evaluator:
    """The evaluator of that name. Raises KdrunError under `key`."""
    path = name if "." in name else f"kdrun.evaluation.{name}"
    try:
        module = importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name is not None and not f"{path}.".startswith(f"{error.name}."):
            raise
        raise KdrunError(key, name, "no such evaluator", () if "." in name else _names()) from None
    found = getattr(module, "figures", None)
    if not callable(found):
        problem = f"{path} has no function figures(subject)"
        raise KdrunError(key, name, problem, () if "." in name else _names())
    own: Evaluator = found
    return own


class Evaluated(NamedTuple):
    """The figures of all evaluators. failed: those of the user's that raised an error, with a note on it."""

    figures: list[Figure]
    failed: dict[str, str]


def evaluated(names: Sequence[str], subject: Subject) -> Evaluated:
    """Asks all evaluators. One of the user's that fails leaves its own figures out; one of kdrun's raises."""
    figures: dict[tuple[str, ...], Figure] = {}
    failed = {}
    for name in names:
        try:
            new = dict(_checked(evaluator(name)(subject), subject))
            if twice := sorted({key[0] for key in new.keys() & figures.keys()}):
                raise ValueError(f"{', '.join(twice)}: another evaluator has a figure of that name")
        except Exception as error:
            if "." not in name:
                raise
            failed[name] = f"{name} failed, its figures are left out: {_reason(error)}"
        else:
            figures |= new
    return Evaluated(list(figures.values()), failed)


def _checked(figures: Iterable[Figure], subject: Subject) -> Iterator[tuple[tuple[str, ...], Figure]]:
    for figure in figures:
        if figure.whose not in subject.networks:
            models = ", ".join(subject.networks)
            raise ValueError(f"{figure.name}: whose={figure.whose!r} is none of {models}")
        value = figure.value if isinstance(figure.value, int) else float(figure.value)
        yield (figure.name, *figure[3:]), figure._replace(value=value)


def _reason(error: Exception) -> str:
    """The error and where it was raised, in one line."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text} ({Path(last.filename).name}, line {last.lineno})"


def _names() -> list[str]:
    """The evaluators of kdrun; imports their modules."""
    names = [module.name for module in pkgutil.iter_modules(kdrun.evaluation.__path__)]
    modules = {name: importlib.import_module(f"kdrun.evaluation.{name}") for name in names}
    return [name for name, module in modules.items() if callable(getattr(module, "figures", None))]
