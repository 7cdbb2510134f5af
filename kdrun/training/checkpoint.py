"""The state of a training: written whole, read without executing anything, enough to continue bit for bit."""

from __future__ import annotations

import pickle
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kdrun.artefacts import write_whole
from kdrun.errors import KdrunError
from kdrun.training.step import Learner

FORMAT = 1


class Position(NamedTuple):
    """Where a training stands: the next step (of `epoch`), and the seconds it has taken so far."""

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
    """How often a state is written: at the end of an epoch if `seconds` have passed, in an epoch if `minutes`
    have.
    """

    seconds: float
    minutes: float


def read_state(path: Path) -> dict[str, Any] | None:
    """The state in a file, None where there is none. Raises KdrunError for a damaged file, which is left as
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
    """Saves and restores one learner.

    facts: plain values that are stored beside the state and handed back by `read_state` (threads, versions).
    """

    def __init__(self, path: Path, learner: Learner, pace: Pace, facts: dict[str, Any]) -> None:
        self.path, self.learner, self.pace, self.facts = path, learner, pace, facts
        self.best: Best | None = None
        self.written = time.monotonic()

    def restore(self, state: dict[str, Any] | None) -> Position:
        """Puts a state back into the learner and the global generators; the beginning where there is none."""
        if state is None:
            return Position()
        learner = self.learner
        learner.model.load_state_dict(state["model"])
        learner.mix.load_state_dict(state["mix"])
        learner.optimiser.load(state["optimiser"])
        learner.sums.copy_(state["sums"])
        self.best = Best(*state["best"]) if state["best"] else None
        _set_generators(state["generators"])
        return Position(*state["position"])

    def save(self, position: Position) -> None:
        """Writes the whole state; the file holds the old one or the new one, never a part."""
        learner = self.learner
        state = {
            "format": FORMAT,
            "position": tuple(position),
            "model": learner.model.state_dict(),
            "mix": learner.mix.state_dict(),
            "optimiser": learner.optimiser.state(),
            "sums": learner.sums,
            "best": tuple(self.best) if self.best else None,
            "generators": _generators(),
            "facts": self.facts,
        }
        write_whole(self.path, lambda temporary: torch.save(state, temporary))
        self.written = time.monotonic()

    def save_within(self, position: Position) -> None:
        """Writes in the middle of an epoch where that is due and the sums are finite (a broken state is not
        kept).
        """
        due = time.monotonic() - self.written >= 60 * self.pace.minutes
        if due and bool(torch.isfinite(self.learner.sums).all()):
            self.save(position)

    def save_after_epoch(self, position: Position, last: bool) -> None:
        """Writes at the end of an epoch where that is due, and always at the end of the training."""
        if last or time.monotonic() - self.written >= self.pace.seconds:
            self.save(position)


def _generators() -> dict[str, Any]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def _set_generators(states: dict[str, Any]) -> None:
    torch.set_rng_state(states["cpu"])
    if states["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states["cuda"])
