"""The followers of a training: its journal, the screen, notes, the loggers. `Watchers` calls all of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from kdrun.plan.training import Training
from kdrun.progress.journal import Follower, Journal, own_rows
from kdrun.progress.record import Recorder
from kdrun.progress.screen import Screen, numbers
from kdrun.records import METRICS

FAR = 2.0
"""A training diverges if its loss is this many times that of guessing (the logarithm of the classes)."""


class Watchers:
    """The followers of one training. images: per epoch, for the speed."""

    def __init__(self, name: str, images: int, followers: Sequence[Follower]) -> None:
        self.name, self.images, self.followers = name, images, tuple(followers)

    def begin(self, epochs: int, steps: int, done: int) -> None:
        for follower in self.followers:
            follower.begin(epochs, steps, done)

    def steps(self, done: int) -> None:
        for follower in self.followers:
            follower.steps(done)

    def epoch(self, row: Mapping[str, Any]) -> None:
        named = {"stage": self.name, **row, "images": self.images}
        for follower in self.followers:
            follower.epoch(named)


class OnScreen(Follower):
    """A training on the screen, under a name."""

    def __init__(self, shown: Screen, name: str) -> None:
        self.shown, self.name = shown, name

    def begin(self, epochs: int, steps: int, done: int) -> None:
        self.shown.begin(self.name, epochs, steps, done)

    def steps(self, done: int) -> None:
        self.shown.steps(done)

    def epoch(self, row: Mapping[str, Any]) -> None:
        self.shown.epoch({**row, "stage": self.name})


class Told(Follower):
    """Passes a training on to `tell(kind, *what)`, as Overall's methods take it."""

    def __init__(self, tell: Callable[..., None]) -> None:
        self.tell = tell

    def begin(self, epochs: int, steps: int, done: int) -> None:
        self.tell("begin", epochs, steps, done)

    def steps(self, done: int) -> None:
        self.tell("step", done)

    def epoch(self, row: Mapping[str, Any]) -> None:
        self.tell("epoch", numbers(row, narrow=True))


class Diverging(Follower):
    """Notes once that a training diverges: from its second epoch on, or at its last. A continued training is
    judged by its further epochs.
    """

    def __init__(self, shown: Screen, training: Training) -> None:
        self.shown, self.training, self.noted = shown, training, training.ground.run.quick
        self.guess = math.log(len(training.ground.data.classes))
        terms = [each for phase in training.phases for each in phase.loss.items()]
        self.terms = {name for name, term in terms if term.get("name") == "cross_entropy"}

    def epoch(self, row: Mapping[str, Any]) -> None:
        loss = max((row.get("terms", {}).get(name, 0.0) for name in self.terms), default=0.0)
        late = row["epoch"] > 1 or row["epoch"] == row["epochs"]
        if self.noted or not late or not loss > FAR * self.guess:
            return
        self.noted = True
        key = f"recipe.{self.training.section}.lr"
        self.shown.say(
            f"note   the {self.training.name} diverges: its loss on the labels is {loss:.3g}, "
            f"that of guessing {self.guess:.3g}. A lower learning rate may help: {key} is "
            f"{self.training.recipe.lr:g}"
        )


class Observers(NamedTuple):
    """The screen and the loggers of a command. recorder: None without loggers. judge: also follows the
    training of a run's student, the last of all, and may stop it. drawing: also follows all trainings.
    told: follows what is on the screen.
    """

    screen: Screen
    recorder: Recorder | None = None
    judge: Follower | None = None
    drawing: Follower | None = None
    told: Follower | None = None

    def of(self, training: Training, shown_as: str | None) -> Watchers:
        """The followers of a training. shown_as: its name on the screen; None if it is not shown."""
        followers: list[Follower] = [Journal(training.folder, training.kind)]
        if shown_as is not None:
            shown = self.told, OnScreen(self.screen, shown_as), Diverging(self.screen, training)
            followers += [each for each in shown if each is not None]
        followers += self.besides_screen(training)
        return Watchers(training.name, training.row_set().length, followers)

    def besides_screen(self, training: Training) -> list[Follower]:
        """The followers of a training that do not show it: the loggers, the drawing and the judge."""
        recorder = self.recorder.follow(training) if self.recorder is not None else None
        judge = self.judge if training.name == "student" else None
        return [each for each in (recorder, self.drawing, judge) if each is not None]


class Reader:
    """Gives the loggers, the judge and the drawing of a command, if there are any, the epochs that another
    process has written into the folder of a training.
    """

    def __init__(self, training: Training, observers: Observers) -> None:
        self.training, self.seen = training, 0
        followers = observers.besides_screen(training)
        self.watchers = Watchers(training.name, training.row_set().length, followers) if followers else None

    def read(self) -> None:
        """Passes on the epochs since the last call. Raises what the followers raise, to stop the training."""
        if self.watchers is None:
            return
        for row in own_rows(self.training.folder / METRICS, self.training.kind):
            if row["epoch"] > self.seen:
                self.seen = row["epoch"]
                self.watchers.epoch(row)
