"""The state of a training: written whole, read without executing anything, enough to continue bit for bit."""

from __future__ import annotations

import pickle
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kdrun.artefacts import write_whole
from kdrun.errors import KdrunError
from kdrun.training.seeds import generators, set_generators
from kdrun.training.step import Learner

FORMAT = 3


class Position(NamedTuple):
    """The next step of a training (of `epoch`), and the seconds that it has taken so far."""

    epoch: int = 0
    step: int = 0
    seconds: float = 0.0


class Best(NamedTuple):
    """The epoch (counted from 1) with the highest validation accuracy so far, the earliest of equals, and its
    weights.
    """

    epoch: int
    top1: float
    weights: dict[str, Tensor]


class Pace(NamedTuple):
    """How often a state is written: at the end of an epoch after `seconds`, within an epoch after
    `minutes`.
    """

    seconds: float
    minutes: float


def read_state(path: Path) -> dict[str, Any] | None:
    """The state in a file, None if there is no file. Raises KdrunError for a damaged file, and leaves it as
    it is.
    """
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if state["format"] != FORMAT:
            raise KeyError("format")
    except (
        RuntimeError,
        KeyError,
        TypeError,
        EOFError,
        OSError,
        ValueError,
        pickle.UnpicklingError,
    ) as error:
        problem = "cannot be read (damaged, or by another version); fresh=true starts over"
        raise KdrunError(str(path), None, problem) from error
    return state


class Checkpoint:
    """Saves and restores one training: its learner, and peers that learn along with it.

    facts: plain values that are stored beside the state and handed back by `read_state` (threads, versions).
    """

    def __init__(self, path: Path, learners: Sequence[Learner], pace: Pace, facts: dict[str, Any]) -> None:
        self.path, self.learners, self.pace, self.facts = path, learners, pace, facts
        self.best: Best | None = None
        self.written = time.monotonic()

    def restore(self, state: dict[str, Any] | None) -> Position:
        """Puts a state back into learners and generators. Returns its position; the beginning for None."""
        if state is None:
            return Position()
        for learner, there in zip(self.learners, state["learners"], strict=True):
            learner.load(there)
        self.best = Best(*state["best"]) if state["best"] else None
        draws = self.learners[0].draws
        if draws is None:
            set_generators(state["generators"])
        else:
            draws.state = state["generators"]
        return Position(*state["position"])

    def save(self, position: Position) -> None:
        """Writes the whole state; the file holds the old one or the new one, never a part."""
        draws = self.learners[0].draws
        state = {
            "format": FORMAT,
            "position": tuple(position),
            "learners": [learner.state() for learner in self.learners],
            "best": tuple(self.best) if self.best else None,
            "generators": generators() if draws is None else draws.state,
            "facts": self.facts,
        }
        write_whole(self.path, lambda temporary: torch.save(state, temporary))
        self.written = time.monotonic()

    def save_within(self, position: Position) -> None:
        """Writes the state within an epoch if that is due and all sums are finite: a broken state is not
        kept.
        """
        due = time.monotonic() - self.written >= 60 * self.pace.minutes
        if due and all(bool(torch.isfinite(learner.sums).all()) for learner in self.learners):
            self.save(position)

    def save_after_epoch(self, position: Position, last: bool) -> None:
        """Writes the state at the end of an epoch if that is due; always at the end of the training."""
        if last or time.monotonic() - self.written >= self.pace.seconds:
            self.save(position)
