"""Evaluators by name: `accuracy` is the module `kdrun.evaluation.accuracy`; a dotted name is a user's module.

An evaluator is a module with a function `figures(subject) -> Iterator[Figure]`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from types import ModuleType
from typing import NamedTuple

import kdrun.lookup as lookup
from kdrun.evaluation.figure import Figure
from kdrun.evaluation.subject import Subject
from kdrun.users_code import reason

Evaluator = Callable[[Subject], Iterable[Figure]]


def _evaluators(module: ModuleType) -> list[Evaluator]:
    figures = getattr(module, "figures", None)
    return [figures] if callable(figures) else []


EVALUATORS = lookup.Room("kdrun.evaluation", "evaluator", _evaluators, "one function figures(subject)")


def evaluator(name: str, key: str = "evaluation.figures") -> Evaluator:
    """The evaluator of that name. Raises KdrunError under `key`."""
    return lookup.find(EVALUATORS, name, key)


class Evaluated(NamedTuple):
    """The figures of all evaluators. failed: a note for each evaluator of the user's that raised an error."""

    figures: list[Figure]
    failed: dict[str, str]


def evaluated(names: Sequence[str], subject: Subject) -> Evaluated:
    """Runs all evaluators. If one of the user's fails, its figures are left out; one of kdrun's raises."""
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
            failed[name] = f"{name} failed, its figures are left out: {reason(error)}"
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
