"""The state of a training, enough to continue bit for bit. Reading it executes no code."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import torch
from torch import Tensor

from kdrun.artefacts import write_whole
from kdrun.errors import KdrunError
from kdrun.fields import wrong_fields
from kdrun.models.checkpoints import load_plain
from kdrun.records import Damaged
from kdrun.training.seeds import generators, set_generators
from kdrun.training.step import Learner

FORMAT = 3

NEXT = "state.next.pt"
"""The name of a state until those of all trainings in its loop are written."""


class Position(NamedTuple):
    """The next step of a training, within `epoch`, and the seconds that the training has taken so far."""

    epoch: int = 0
    step: int = 0
    seconds: float = 0.0


class Best(NamedTuple):
    """The epoch (from 1) with the best validation accuracy so far, the first of equals, and its weights."""

    epoch: int
    top1: float
    weights: dict[str, Tensor]


class SavePace(NamedTuple):
    """How often a state is written: at an epoch's end after `seconds`, within an epoch after `minutes`."""

    seconds: float
    minutes: float


class _State(TypedDict):
    format: int
    position: Any
    learners: list[Any]
    best: Any
    generators: Any
    facts: dict[str, Any]


KEPT: dict[Path, tuple[tuple[int, int, int], dict[str, Any]]] = {}
"""States that were looked at before they are used, with the file's number, size and time."""


def read_state(path: Path, keep: bool = False) -> dict[str, Any] | None:
    """The state in a file, None if there is none. Raises Damaged, KdrunError for a state of another version,
    and OSError. keep: the caller only looks at it, and the next call gives it without reading the file again.
    """
    if not path.exists():
        return None
    about = path.stat()
    stamp = about.st_ino, about.st_size, about.st_mtime_ns
    seen, state = KEPT.pop(path, (None, None))
    if state is None or seen != stamp:
        state = _checked_state(path)
    if keep:
        KEPT[path] = stamp, state
    return state


def _checked_state(path: Path) -> dict[str, Any]:
    try:
        if path.is_dir():
            raise ValueError
        state: dict[str, Any] = load_plain(path)
    except ValueError as error:
        raise Damaged(str(path), None, "is damaged") from error
    wrong = list(wrong_fields(state, _State)) or _wrong_tuples(state)
    if isinstance(state, dict) and isinstance(state.get("format"), int) and state["format"] != FORMAT:
        problem = "was written by another version of kdrun, which can continue it; fresh=true starts over"
        raise KdrunError(str(path), None, problem)
    if wrong:
        raise Damaged(str(path), None, f"is damaged: {wrong[0]}")
    return state


def _wrong_tuples(state: dict[str, Any]) -> list[str]:
    """The keys whose values do not fit Position, Best or a number of threads."""
    position, best, threads = state["position"], state["best"], state["facts"].get("threads", 1)
    right = {
        "position": _has_three(position)
        and all(isinstance(number, int) and number >= 0 for number in position[:2])
        and isinstance(position[2], (int, float))
        and math.isfinite(position[2]),
        "best": best is None or (_has_three(best) and isinstance(best[2], dict)),
        "facts.threads": isinstance(threads, int) and threads > 0,
    }
    return [key for key, good in right.items() if not good]


def _has_three(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and len(value) == 3


class Checkpoint:
    """Saves and restores one training: its learner, and peers that learn with it. facts: plain values that
    are stored with the state. pace: None if it is never written, as on all ranks but the first.
    """

    def __init__(
        self, path: Path, learners: Sequence[Learner], pace: SavePace | None, facts: dict[str, Any]
    ) -> None:
        self.path, self.learners, self.pace, self.facts = path, learners, pace, facts
        self.best: Best | None = None
        self.written = time.monotonic()

    def restore(self, state: dict[str, Any] | None) -> Position:
        """Copies a state into the learners and generators. Returns its position; the start if it is None.
        Raises KdrunError for a state of other models.
        """
        if state is None:
            return Position()
        draws = self.learners[0].draws
        try:
            for learner, there in zip(self.learners, state["learners"], strict=True):
                learner.load(there)
            self.best = Best(*state["best"]) if state["best"] else None
            if draws is None:
                set_generators(state["generators"])
            else:
                draws.state = state["generators"]
            return Position(*state["position"])
        # names, shapes or types that do not fit
        except (LookupError, RuntimeError, TypeError, ValueError, AttributeError) as error:
            raise KdrunError(str(self.path), None, "is the state of another training; remove it") from error

    def content(self, position: Position) -> dict[str, Any]:
        """The state as it is now."""
        draws = self.learners[0].draws
        return {
            "format": FORMAT,
            "position": tuple(position),
            "learners": [learner.state() for learner in self.learners],
            "best": tuple(self.best) if self.best else None,
            "generators": generators() if draws is None else draws.state,
            "facts": self.facts,
        }


def save(checkpoints: Sequence[Checkpoint], position: Position) -> None:
    """Writes the states of trainings that share a loop, always of one step: if a kill comes between two, all
    are the old ones or all can be the new ones. A file holds the old state or the new one, never a part.
    """
    first, *others = checkpoints
    if first.pace is None:
        return
    for each in checkpoints:
        path = each.path.with_name(NEXT) if others else each.path
        write_whole(path, partial(_save, each.content(position)))
    for each in checkpoints if others else ():  # with the first one, the new ones count
        put_in_place(each.path)
    first.written = time.monotonic()


def put_in_place(path: Path) -> None:
    """Renames a state that was written as NEXT."""
    path.with_name(NEXT).replace(path)


def save_within(checkpoints: Sequence[Checkpoint], position: Position) -> None:
    """Writes the states within an epoch if that is due and all sums are finite."""
    first, learners = checkpoints[0], [learner for each in checkpoints for learner in each.learners]
    due = first.pace is not None and time.monotonic() - first.written >= 60 * first.pace.minutes
    if due and all(bool(torch.isfinite(learner.sums).all()) for learner in learners):
        save(checkpoints, position)


def save_after_epoch(checkpoints: Sequence[Checkpoint], position: Position, last: bool) -> None:
    """Writes the states after an epoch if that is due, or if it is the last."""
    first = checkpoints[0]
    if last or (first.pace is not None and time.monotonic() - first.written >= first.pace.seconds):
        save(checkpoints, position)


def _save(state: dict[str, Any], path: Path) -> None:
    """Through a Python file, since errors of torch's own files do not name the cause."""
    with path.open("wb") as file:
        torch.save(state, file)
