"""The followers of a training: its journal, the screen, the loggers. `Watchers` calls all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from kdrun.plan.training import Training
from kdrun.progress.diverging import Diverging
from kdrun.progress.journal import Journal
from kdrun.progress.record import Recorder
from kdrun.progress.screen import Screen


class Follower(Protocol):
    """Like `kdrun.training.fit.Watcher`; rows also have the training's name as `stage`."""

    def begin(self, epochs: int, steps: int, done: int) -> None: ...

    def steps(self, done: int) -> None: ...

    def epoch(self, row: Mapping[str, Any]) -> None: ...


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


class OnScreen:
    """A training on the screen, under a name."""

    def __init__(self, shown: Screen, name: str) -> None:
        self.shown, self.name = shown, name

    def begin(self, epochs: int, steps: int, done: int) -> None:
        self.shown.begin(self.name, epochs, steps, done)

    def steps(self, done: int) -> None:
        self.shown.steps(done)

    def epoch(self, row: Mapping[str, Any]) -> None:
        self.shown.epoch({**row, "stage": self.name})


class Observers(NamedTuple):
    """The screen and the loggers of a command. recorder: None without loggers. judge: also follows the
    training of a run's student, the last of all, and may stop it. drawing: also follows all trainings.
    silent: nobody follows, as on all ranks but the first.
    """

    screen: Screen
    recorder: Recorder | None = None
    judge: Follower | None = None
    drawing: Follower | None = None
    silent: bool = False

    def of(self, training: Training, shown_as: str | None) -> Watchers:
        """The followers of a training. shown_as: its name on the screen; None if it is not shown."""
        if self.silent:
            return Watchers(training.name, 0, [])
        followers: list[Follower] = [Journal(training.folder, training.kind)]
        if shown_as is not None:
            followers += [OnScreen(self.screen, shown_as), Diverging(self.screen, training)]
        followers += self.besides_screen(training)
        return Watchers(training.name, training.row_set().length, followers)

    def besides_screen(self, training: Training) -> list[Follower]:
        """The followers of a training that do not show it: the loggers, the drawing and the judge."""
        followers: list[Follower] = []
        if self.recorder is not None:
            followers.append(self.recorder.follow(training.name))
        if self.drawing is not None:
            followers.append(self.drawing)
        if self.judge is not None and training.name == "student":
            followers.append(self.judge)
        return followers
