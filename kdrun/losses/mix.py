"""The mix: `L = sum_i weight_i * loss_i(student, teacher, batch)`, which every training minimises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kdrun.errors import KdrunError
from kdrun.losses.base import Loss, Needs
from kdrun.losses.lookup import construct, find, schedules
from kdrun.losses.numeric import labelled
from kdrun.losses.sharing import ALONE, Given, Sharing, Valued
from kdrun.schedule import Schedule
from kdrun.types import Batch, Outputs, Shapes
from kdrun.users_code import is_users, one_line

TEACHER = "teacher"
"""The key of a term that names the one of several teachers that it reads."""


class Term(NamedTuple):
    """A named, weighted loss. others: schedules of the loss's own numbers (0-dim buffers), by name. teacher:
    the name of the one of several teachers that it reads; empty: all of them as one.
    """

    name: str
    loss: Loss
    weight: Schedule
    others: Mapping[str, Schedule] = {}
    teacher: str = ""


class Mixture(NamedTuple):
    """total: the weighted sum, a scalar to differentiate. values: the unweighted losses, scalars to
    differentiate. parts: the same as one tensor (n_terms,), detached.
    """

    total: Tensor
    parts: Tensor
    values: tuple[Tensor, ...]


class Mix(nn.Module):
    """The weighted sum of terms. Its parameters are those of the losses' adapters. key: where the terms stand
    in the configuration: `loss`, `phase_one.loss`. weights: (n_terms,) float32. `advance` refills them in
    place, so a schedule needs no new CUDA graph. sharing: over which rows means are taken.
    """

    weights: Tensor
    sharing: Sharing = ALONE

    def __init__(self, terms: Sequence[Term], key: str = "loss") -> None:
        super().__init__()
        self.key = key
        if not terms:
            raise ValueError("a mix needs a term")
        self.terms = tuple(terms)
        self.losses = nn.ModuleDict({term.name: term.loss for term in terms})
        self.register_buffer("weights", torch.zeros(len(self.terms)), persistent=False)
        self.advance(0)

    @property
    def names(self) -> tuple[str, ...]:
        """The terms' names, in the order of `Mixture.parts`."""
        return tuple(term.name for term in self.terms)

    @property
    def needs(self) -> Needs:
        """What all terms together read."""
        every = [term.loss.needs for term in self.terms]
        return Needs(
            student=frozenset().union(*(needs.student for needs in every)),
            teacher=frozenset().union(*(needs.teacher for needs in every)),
            indices=any(needs.indices for needs in every),
        )

    @property
    def uses_unlabelled(self) -> bool:
        """Whether a term uses rows without a label."""
        return any(term.loss.uses_unlabelled for term in self.terms)

    def reads(self, teacher: str) -> frozenset[str]:
        """The layers that terms read of the teacher of this name; empty name: of all teachers as one."""
        own = (term.loss.needs.teacher for term in self.terms if term.teacher == teacher)
        return frozenset().union(*own)

    def build(
        self, student: Shapes, teacher: Shapes, images: int = 0, teachers: Mapping[str, Shapes] | None = None
    ) -> None:
        """Let every loss create its adapters, once, before training. images: how many training images there
        are. teachers: the shapes of each of several teachers, for terms that read one of them. Raises
        KdrunError under `loss.<term>` (or another `key`) if the pair of models does not fit.
        """
        named = teachers or {}
        for term in self.terms:
            key = f"{self.key}.{term.name}"
            try:
                with one_line(key) if is_users(term.loss) else nullcontext():
                    term.loss.build(student, named.get(term.teacher, teacher), images)
            except KdrunError as error:
                raise (error if error.key == key else error.below(key)) from error.__cause__

    @torch.no_grad()
    def take(self, earlier: Mix) -> None:
        """Copies the adapters and memory banks of the same name and shape from an earlier mix."""
        theirs = earlier.state_dict()
        for name, tensor in self.state_dict().items():
            if name in theirs and theirs[name].shape == tensor.shape:
                tensor.copy_(theirs[name])

    def advance(self, epoch: float) -> None:
        """Set weights and scheduled numbers to those after `epoch` epochs. Not to be called within a step."""
        now = [term.weight.at(epoch) for term in self.terms]
        self.weights.copy_(torch.tensor(now, dtype=self.weights.dtype))
        for term in self.terms:
            for name, schedule in term.others.items():
                term.loss.get_buffer(name).fill_(schedule.at(epoch))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Mixture:
        """The sum and its parts. Computed in float32 even if the models run in a lower precision."""
        with torch.autocast(student.logits.device.type, enabled=False):
            every = [self._valued(term, student, teacher, batch) for term in self.terms]
            values = tuple(self.sharing.means(every))
            parts = torch.stack(values)
            return Mixture((self.weights * parts).sum(), parts.detach(), values)

    def value(self, term: Term, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """The unweighted value of a term, a scalar to differentiate. Means over images are taken by `sharing`
        alone: over all rows, or over the labelled ones if the loss does not use the others; of a term that
        reads the teacher, over those for which it has an answer.
        """
        (value,) = self.sharing.means([self._valued(term, student, teacher, batch)])
        return value

    def _valued(self, term: Term, student: Outputs, teacher: Outputs, batch: Batch) -> Valued:
        """What a loss returns, and which rows of it count."""
        key, own = f"{self.key}.{term.name}", teacher.teachers[term.teacher] if term.teacher else teacher
        given = self.sharing.given(term.loss, Given(student, own, batch))
        try:
            value = _called(key, self.sharing, term.loss, given)
        except KdrunError as error:
            raise (error if error.key == key else error.below(key)) from error.__cause__
        if not isinstance(value, Tensor) or not value.is_floating_point():
            problem = f"its forward must return a tensor of floats; it returns {_kind(value)}"
            raise KdrunError(key, None, problem)
        if value.dim() == 0:
            return Valued(value, None, True)
        if value.shape != given.batch.labels.shape:
            problem = (
                f"its forward must return a value for each of the {len(given.batch.labels)} images, or one "
                f"for the batch; it returns {tuple(value.shape)}"
            )
            raise KdrunError(key, None, problem)
        rows, counts = None, given.teacher.counts
        if not term.loss.uses_unlabelled:
            rows = labelled(given.batch.labels)
        if counts is not None and term.loss.needs.teacher:
            rows = counts if rows is None else rows & counts
        return Valued(value, rows, term.loss.of_the_batch)

    def halves(self, mixture: Mixture) -> tuple[Tensor | None, Tensor | None]:
        """The total, to differentiate, of terms that do not read the teacher, and of those that do."""
        halves: dict[bool, Tensor] = {}
        for term, weight, value in zip(self.terms, self.weights, mixture.values, strict=True):
            side = bool(term.loss.needs.teacher)
            halves[side] = halves[side] + weight * value if side in halves else weight * value
        return halves.get(False), halves.get(True)

    def equation(self) -> str:
        """The mix as the screen shows it: `0.1 CE + 0.9 2^2 KL(teacher || student, T=2)`."""
        return " + ".join(_written(term) for term in self.terms)


def make_mix(loss: Mapping[str, Mapping[str, Any]], key: str = "loss") -> Mix:
    """A mix from the node `{hard: {name: cross_entropy, weight: 0.1}, ...}`, which stands under `key`. Terms
    whose weight is always 0 are left out. Raises KdrunError for a term without a name, an unknown name or
    argument, a value out of range, or if there is no term.
    """
    terms = [_make_term(f"{key}.{name}", name, node) for name, node in loss.items()]
    kept = [term for term in terms if not term.weight.zero]
    if not kept:
        problem = "every term has weight 0" if terms else "there is no term"
        raise KdrunError(key, None, f"{problem}, so there is nothing to learn from")
    return Mix(kept, key)


def _make_term(key: str, name: str, node: Mapping[str, Any]) -> Term:
    if not isinstance(node, Mapping) or not node.get("name"):
        raise KdrunError(key, None, f"this term has no name of a loss; to leave a term out: ~{key}")
    if not name.isidentifier() or hasattr(nn.ModuleDict, name):  # torch reserves `type`, `train` and others
        raise KdrunError(key, None, "a term cannot have this name")
    arguments = {k: v for k, v in node.items() if k not in ("name", "weight", TEACHER)}
    cls = find(str(node["name"]), f"{key}.name")
    others = schedules(cls, arguments, key)
    now = {k: others[k].at(0) if k in others else v for k, v in arguments.items()}
    loss = construct(cls, now, key)
    for scheduled in others:
        if scheduled not in dict(loss.named_buffers(recurse=False)):
            problem = f"{cls.__name__} takes no schedule for it, only a number"
            raise KdrunError(f"{key}.{scheduled}", None, problem)
    weight = Schedule.parse(node.get("weight", 1.0), f"{key}.weight")
    teacher = str(node.get(TEACHER) or "")
    return Term(name, loss, weight, {k: v for k, v in others.items() if not v.constant}, teacher)


def _called(key: str, sharing: Sharing, loss: Loss, given: Given) -> Tensor:
    """What the loss returns. Raises KdrunError for an exception in a loss of the user's."""
    if not is_users(loss):
        return sharing.call(loss, given)
    with one_line(key):
        return sharing.call(loss, given)


def _kind(value: object) -> str:
    """What a forward returned, in a word or two: `None`, `a float`, `a tensor of int64`."""
    if isinstance(value, Tensor):
        return f"a tensor of {str(value.dtype).removeprefix('torch.')}"
    return "None" if value is None else f"a {type(value).__name__}"


def _written(term: Term) -> str:
    more = [f"{name} {schedule}" for name, schedule in term.others.items()]
    more += [f"teacher {term.teacher}"] if term.teacher else []
    formula = f"[{'; '.join([term.loss.formula(), *more])}]" if more else term.loss.formula()
    if not term.weight.constant:
        return f"({term.weight}) {formula}"
    return formula if term.weight.start == 1.0 else f"{term.weight} {formula}"
