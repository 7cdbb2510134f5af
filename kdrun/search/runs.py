"""Composes and plans the runs of a search, and checks the space before any training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from kdrun.config.arguments import Typed
from kdrun.config.compose import Composer, composing
from kdrun.config.load import Loaded
from kdrun.config.overrides import key_of
from kdrun.config.schema import Run
from kdrun.config.space import Interval, SearchedKey, Setting, Space, Value, swept
from kdrun.errors import KdrunError
from kdrun.figures import as_typed
from kdrun.nested import leaves
from kdrun.plan.ground import Grounds
from kdrun.plan.plan import Plan, make_plan
from kdrun.types import UNLABELLED

TRIAL = ("control=false", "quantise=null", "stages=[teacher,student]")
"""A trial is chosen by its student on validation, so it has no control, no int8 and no evaluation."""

LEFT_OUT = "int8."
"""Keys that a trial leaves out: they have no meaning without int8."""

INSIDE = 0.382
"""The share of an interval at which a fractional number is tried."""


class Runs:
    """Composes and plans the runs of a search; what they share is read once."""

    def __init__(self, typed: Typed, space: Space) -> None:
        self.typed, self.space = typed, space
        self.composer, self.grounds = Composer(), Grounds()

    def loaded(self, setting: Setting, repeat: tuple[str, ...]) -> Loaded:
        """The ordinary run of a setting and a repeat. Raises KdrunError."""
        return self._composed(setting, repeat, self.space.fixed)

    def trial(self, setting: Setting) -> list[Plan]:
        """The plans of a trial, one for each repeat. Raises KdrunError."""
        fixed = [word for word in self.space.fixed if not key_of(word).startswith(LEFT_OUT)]
        runs = [self._composed(setting, repeat, fixed, TRIAL).run for repeat in self.space.repeats]
        return [make_plan(run, self.grounds) for run in runs]

    def tested(self, setting: Setting) -> Plan:
        """The plan of the first ordinary run of a setting, as that of the best trial. Raises KdrunError if it
        is not possible; then the trial would be of no use.
        """
        return make_plan(self.loaded(setting, self.space.repeats[0]).run, self.grounds)

    def plain(self) -> Loaded:
        """The run with the values that the searched keys have without a search. Raises KdrunError."""
        with composing(self.typed):
            return self.composer((*self.space.fixed, *self.space.repeats[0]), {})

    def _composed(
        self, setting: Setting, repeat: Sequence[str], fixed: Sequence[str], more: Sequence[str] = ()
    ) -> Loaded:
        overrides = (*fixed, *self.space.overrides(setting), *repeat, *more)
        with composing(self.typed):
            return self.composer(overrides, swept(self.space, setting, repeat))


def value_of(run: Run, name: str) -> Any:
    """The value of a key in a run, or the name of the file that it chooses; None if it has none."""
    chosen = {
        "method": run.method,
        "teacher": run.teacher.name,
        "student": run.student.name,
        "recipe": run.recipe.student.name,
    }
    return chosen[name] if name in chosen else dict(leaves(asdict(run))).get(name)


def default_of(run: Run, space: Space) -> dict[str, Value]:
    """The value without a search of each key, if it is in the space."""
    values = {key.name: key.like(value_of(run, key.name)) for key in space.keys}
    return {name: value for name, value in values.items() if value is not None}


def outside(run: Run, space: Space) -> Iterator[str]:
    """A note for each key whose value without a search is not in its space."""
    default = default_of(run, space)
    for key in space.keys:
        if key.name not in default:
            value = value_of(run, key.name)
            what = (
                f"{key.name} has no value" if value is None else f"{key.name}={as_typed(value)} is the value"
            )
            yield f"{what} without a search, and not in its space: the first trial draws one"


def validation_images(plan: Plan) -> int:
    """The number of validation images that a search chooses by. Raises KdrunError if there are none."""
    labels = plan.ground.data.validation.labels
    known = int((labels != UNLABELLED).sum())
    if not known:
        problem = (
            "a search chooses on validation images, and there are none. To hold out training images: "
            "dataset.validation=500, or a fraction, 0.1"
        )
        raise KdrunError("dataset.validation", plan.run.dataset.get("validation"), problem)
    return known


def refuse_impossible_values(runs: Runs, default: Setting) -> Plan:
    """Plans runs with the ends of every interval and with every choice. Returns the plan of the first setting
    (keys without a default have an end of their interval), as it is tested. Raises KdrunError.
    """
    start = {key.name: default.get(key.name, key.ends()[0]) for key in runs.space.keys}
    for key in runs.space.keys:
        for value in key.ends():
            _refuse(runs, key, start, value)
        inside = _inside(key.values) if isinstance(key.values, Interval) else None
        if inside is not None:
            try:
                _refuse(runs, key, start, inside)
            except KdrunError:
                _refuse_broken_numbers(runs, key, start, inside)
                raise
    return runs.tested(start)


def _refuse(runs: Runs, key: SearchedKey, start: Setting, value: Value) -> None:
    try:
        runs.tested({**start, key.name: value})
    except KdrunError as error:
        if error.key != key.name:  # the error names its own key
            raise
        _, _, problem, choices, more = error.args
        raise KdrunError(key.key, key.given, f"at {as_typed(value)}: {problem}", choices, more) from error


def _refuse_broken_numbers(runs: Runs, key: SearchedKey, start: Setting, inside: float) -> None:
    """Raises KdrunError if the interval is possible with whole numbers only."""
    try:
        runs.tested({**start, key.name: round(inside)})
    except KdrunError:
        return
    raise KdrunError(key.key, key.given, f"whole numbers are needed: {key.key}='int({key.given})'")


def _inside(values: Interval) -> float | None:
    """A fractional number in the interval; None if it has only whole ones."""
    number = values.rounded(values.low + INSIDE * (values.high - values.low)) if values.step is None else 0.0
    return None if float(number).is_integer() else number
