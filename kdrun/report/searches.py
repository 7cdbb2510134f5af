"""The trials of a search, and which of them is chosen: on validation, never on test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, Literal, NamedTuple

from kdrun.report.statistics import Spread, spread
from kdrun.report.sweeps import Choice, choice_among

State = Literal["complete", "pruned", "failed"]


class Trial(NamedTuple):
    """A setting that was tried. values: by searched key. accuracy: on validation after the last epoch, in %,
    for each repeat that was trained to the end. curve: what the pruner saw, by step; a step is an epoch of a
    repeat. epochs: trained over all repeats. runs: the folders of its students, relative to the outputs
    folder.
    """

    values: Mapping[str, Any]
    state: State
    accuracy: tuple[float, ...] = ()
    curve: Mapping[int, float] = {}
    epochs: int = 0
    error: str = ""
    runs: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def spread(self) -> Spread | None:
        """The accuracy's mean and deviation over repeats; None unless the trial is complete."""
        return spread(self.accuracy) if self.state == "complete" else None

    @property
    def last(self) -> float | None:
        """The last accuracy on validation; None if it failed before the first."""
        return self.curve[max(self.curve)] if self.curve else None


class Search(NamedTuple):
    """A search as it is shown.

    keys: the searched ones; logarithmic: those with a logarithmic scale. trials: in order. images: of the
    validation part. repeats: overrides of the runs that a trial is the mean of. default: whether the first
    trial has the values without a search. importance: by key, shares that add up to 1; empty with too few
    trials. jobs: the runs of the chosen setting on test, as in `report.sweeps`; empty if test was not used.
    commands: of the search. chosen: the command of the chosen setting's first run.
    """

    keys: tuple[str, ...]
    logarithmic: frozenset[str]
    trials: tuple[Trial, ...]
    images: int
    repeats: tuple[str, ...]
    default: bool
    importance: Mapping[str, float]
    jobs: tuple[Mapping[str, Any], ...] = ()
    commands: tuple[str, ...] = ()
    chosen: str = ""

    @property
    def over(self) -> str:
        """What the accuracies are: `mean +- std of seed=0, seed=1`, or `one seed`."""
        return f"mean +- std of {', '.join(self.repeats)}" if len(self.repeats) > 1 else "one seed"

    @property
    def complete(self) -> list[int]:
        """The positions of the complete trials."""
        return [i for i, trial in enumerate(self.trials) if trial.state == "complete"]

    @property
    def choice(self) -> Choice | None:
        """The best trial, the first of equals, and those within the noise of it; None with fewer than two."""
        chosen = choice_among(self.accuracy, self.images)
        if chosen is None:
            return None
        complete = self.complete
        return Choice(complete[chosen.best], frozenset(complete[i] for i in chosen.within), chosen.images)

    @property
    def best(self) -> int | None:
        """The position of the best trial; None if none is complete."""
        return best(self.trials)

    @property
    def accuracy(self) -> list[dict[int, float]]:
        """The accuracies of the complete trials, by repeat."""
        return [dict(enumerate(self.trials[i].accuracy)) for i in self.complete]

    @property
    def ranked(self) -> list[int]:
        """The positions of all trials: complete ones, the best first; then pruned ones, those with most
        epochs first; then failed ones."""
        order = {"complete": 0, "pruned": 1, "failed": 2}

        def place(i: int) -> tuple[Any, ...]:
            trial = self.trials[i]
            shown = fmean(trial.accuracy) if trial.state == "complete" else trial.last or 0.0
            return order[trial.state], 0 if trial.state == "complete" else -trial.epochs, -shown, i

        return sorted(range(len(self.trials)), key=place)


def best(trials: Sequence[Trial]) -> int | None:
    """The position of the best complete trial by its mean on validation, the earliest of equals."""
    complete = [i for i, trial in enumerate(trials) if trial.state == "complete"]
    return max(complete, key=lambda i: fmean(trials[i].accuracy), default=None)
