"""A step as a CUDA graph: recorded once for each batch size, then replayed with one launch.

The graph finds the next rows on the device: it has copies of the epoch's plans, and a position that it moves.
The host copies nothing to it and does not wait. Random numbers are those of a training without a graph, so a
state that is saved between two steps continues with the same bits with or without one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from kdrun.graphs import Graphs
from kdrun.training.plan import EpochPlan
from kdrun.training.seeds import generators, set_generators
from kdrun.training.step import Images, Learner, Stepping
from kdrun.training.teachers import uncounted
from kdrun.types import Rows


def captured(step: Stepping, images: Images, graphs: Graphs, say: Callable[[str], None]) -> Stepping:
    """The step as a graph; if something rules that out, the step itself, after a line that says why."""
    reason = obstacle(step, images)
    if not reason:
        return Captured(step, graphs, say)
    say(_eager(reason))
    return step


def obstacle(step: Stepping, images: Images) -> str:
    """The part of a step that rules a graph out, and why; empty if none does."""
    for learner in step.learners:
        for term in learner.mix.terms:
            if not term.loss.capturable:
                return f"loss.{term.name} waits for the device or is other work in each step"
    if not step.teacher.capturable:
        return "a graph cannot hold this teacher"
    return "" if images.capturable else "the images are read as they are needed"


class Captured:
    """A step as a graph, called like `Step`. Before the first step of each size, one is rehearsed and
    recorded, which changes no state. If that fails, all steps are launched piece by piece, and a line says
    why.

    position: 0-dim int64 on the device, the number of the next step. plans: the epoch's rows, by stream.
    per_step: rows of a step. forwards: images that the teacher sees in a step of each size.
    """

    def __init__(self, step: Stepping, graphs: Graphs, say: Callable[[str], None]) -> None:
        self.step, self.graphs, self.say = step, graphs, say
        self.learners, self.teacher, self.lr = step.learners, step.teacher, step.lr
        self.before, self.given = step.before, step.given
        self.position = torch.zeros((), dtype=torch.int64, device=step.lr.device)
        self.plans: list[Rows] = []
        self.per_step = 0
        self.graph: dict[int, Callable[[], None]] = {}
        self.forwards: dict[int, int] = {}
        self.forms: list[object] = []
        self.failed = False

    def prepare(self, plans: Sequence[EpochPlan], first: int) -> None:
        self.step.prepare(plans, first)
        forms = [term.loss.form for learner in self.learners for term in learner.mix.terms]
        if forms != self.forms:
            self.graph.clear()
        self.forms = forms
        self._keep([plan.rows for plan in plans], plans[0].batch)
        self.position.fill_(first)

    def __call__(self, rows: Sequence[Rows]) -> None:
        size = len(rows[0].index)
        if not self.failed and size not in self.graph:
            self.record(size)
        if self.failed:
            self.step(rows)
            return
        self.graph[size]()
        self.teacher.forwards += self.forwards[size]

    def record(self, size: int) -> None:
        """Records the graph of a step with `size` rows. All state is restored after it."""
        try:
            with unchanged(self.step, self.position):
                before = [learner.draws and learner.draws.state for learner in self.learners]
                self.graphs.rehearse(partial(self._learn, size))
                for learner, state in zip(self.learners, before, strict=True):
                    if learner.draws is not None and not _same(state, learner.draws.state):
                        raise RuntimeError("models that draw random numbers learn beside others")
                    learner.optimiser.clear()  # so that the graph allocates the gradients itself
                with _without_draws(self.learners):
                    before_recording = self.teacher.forwards
                    self.graph[size] = self.graphs.record(partial(self._learn_and_move_on, size))
                    self.forwards[size] = self.teacher.forwards - before_recording
        except RuntimeError as error:
            self.failed = True
            self.say(_eager(str(error).partition("\n")[0]))

    def _keep(self, plans: list[Rows], per_step: int) -> None:
        """Copies an epoch's rows into the tensors that graphs read; drops graphs of other shapes."""
        if (per_step, _shapes(plans)) != (self.per_step, _shapes(self.plans)):
            self.plans = [Rows(torch.empty_like(rows.index), torch.empty_like(rows.view)) for rows in plans]
            self.per_step = per_step
            self.graph.clear()
        for kept, rows in zip(self.plans, plans, strict=True):
            kept.index.copy_(rows.index)
            kept.view.copy_(rows.view)

    def _learn(self, size: int) -> None:
        """A step that finds its rows on the device."""
        places = self.position * self.per_step + torch.arange(size, device=self.position.device)
        self.step([rows.at(places) for rows in self.plans])

    def _learn_and_move_on(self, size: int) -> None:
        self._learn(size)
        self.position += 1


@contextmanager
def unchanged(step: Stepping, *more: Tensor) -> Iterator[None]:
    """Restores, in place, all that a step writes: weights, buffers, states, sums, generators, counts."""
    tensors = [*more, *(tensor for learner in step.learners for tensor in _written(learner))]
    kept = [tensor.detach().clone() for tensor in tensors]
    draws = [(learner.draws, learner.draws.state) for learner in step.learners if learner.draws]
    states = generators()
    try:
        with uncounted(step.teacher):
            yield
    finally:
        with torch.no_grad():
            for tensor, value in zip(tensors, kept, strict=True):
                tensor.copy_(value)
        for own, state in draws:
            own.state = state
        set_generators(states)


def _written(learner: Learner) -> Iterator[Tensor]:
    """The tensors that an update may write; some come more than once."""
    yield from (learner.broken, *_tensors(learner.state()))
    for module in (learner.model, learner.mix):
        yield from module.buffers()


def _tensors(state: Any) -> list[Tensor]:
    return [value for value in tree_leaves(state) if isinstance(value, Tensor)]


@contextmanager
def _without_draws(learners: Sequence[Learner]) -> Iterator[None]:
    """Without the learners' own random numbers, which are set on the host: a graph cannot hold that."""
    before = [learner.draws for learner in learners]
    for learner in learners:
        learner.draws = None
    try:
        yield
    finally:
        for learner, draws in zip(learners, before, strict=True):
            learner.draws = draws


def _same(one: Any, two: Any) -> bool:
    pairs = zip(_tensors(one), _tensors(two), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def _shapes(plans: Sequence[Rows]) -> list[tuple[torch.Size, torch.dtype]]:
    return [(tensor.shape, tensor.dtype) for rows in plans for tensor in rows]


def _eager(reason: str) -> str:
    return f"graph   none, a step is launched piece by piece: {reason}"
