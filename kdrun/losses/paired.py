"""What losses of the logits, of one layer and over stages have in common: the layers that they read."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from kdrun.errors import KdrunError
from kdrun.losses.base import Loss, Needs
from kdrun.losses.numeric import number, widen
from kdrun.types import Outputs, Shapes


class Pair(NamedTuple):
    """A layer of the student, one of the teacher, and their shapes for one image."""

    student_layer: str
    teacher_layer: str
    student: tuple[int, ...]
    teacher: tuple[int, ...]

    def read(self, student: Outputs, teacher: Outputs) -> tuple[Tensor, Tensor]:
        """Both tensors in at least float32; the teacher's is detached."""
        return widen(student.layer(self.student_layer)), widen(teacher.layer(self.teacher_layer).detach())

    def vectors(self, student: Outputs, teacher: Outputs) -> tuple[Tensor, Tensor]:
        """As `read`, each image's layer as a vector: (N, D) and (N, D')."""
        ours, theirs = self.read(student, teacher)
        return ours.flatten(1), theirs.flatten(1)


class LogitsLoss(Loss, ABC):
    """A loss of the student's logits and the teacher's."""

    @property
    def needs(self) -> Needs:
        return Needs(teacher=frozenset({"logits"}))


class LayerLoss(Loss, ABC):
    """A loss of a layer of each model: `pair`, once it is built. maps: both must be maps (C, H, W)."""

    maps: bool = False
    pair: Pair

    def __init__(self, student_layer: str = "stage:-1", teacher_layer: str = "stage:-1") -> None:
        super().__init__()
        self.student_layer, self.teacher_layer = student_layer, teacher_layer

    @property
    def needs(self) -> Needs:
        return Needs(frozenset({"logits", self.student_layer}), frozenset({self.teacher_layer}))

    def build(self, student: Shapes, teacher: Shapes, images: int = 0) -> None:
        self.pair = pair(student, teacher, self.student_layer, self.teacher_layer, maps=self.maps)
        self.adapt(self.pair)

    def adapt(self, pair: Pair) -> None:
        """Create the regressor between the two layers, if the loss has one."""


class StageLoss(Loss, ABC):
    """A loss over the last `stages` stages of both models (0: all there are): `pairs`, once it is built.
    least, before, stem: as for `stage_pairs`. equal_channels: whether the maps of a pair must have as many.
    """

    least: int = 1
    before: str = "never"
    stem: bool = False
    equal_channels: bool = False
    pairs: tuple[Pair, ...] = ()

    def __init__(self, stages: int = 0) -> None:
        super().__init__()
        number("stages", stages, least=0)
        self.stages = stages

    @property
    def needs(self) -> Needs:
        return needs_of(self.pairs)

    @property
    def counted(self) -> str:
        """The number of stages as the equation shows it."""
        return f"{self.stages or 'all'} stages"

    def build(self, student: Shapes, teacher: Shapes, images: int = 0) -> None:
        self.pairs = stage_pairs(
            student, teacher, self.stages, least=self.least, before=self.before, stem=self.stem
        )
        if self.equal_channels:
            require_equal_channels(self.pairs, self.stages)
        self.adapt(self.pairs)

    def adapt(self, pairs: tuple[Pair, ...]) -> None:
        """Create the connectors between the stages of each pair, if the loss has any."""


def shape(shapes: Shapes, layer: str, key: str, model: str) -> tuple[int, ...]:
    """The layer's shape for one image. Raises KdrunError if `model` (student or teacher) has none."""
    try:
        return tuple(shapes.layer(layer))
    except (KeyError, ValueError):
        problem = f"the {model} has no such layer"
        raise KdrunError(key, layer, problem, shapes.layers) from None


def pair(student: Shapes, teacher: Shapes, ours: str, theirs: str, key: str = "", maps: bool = False) -> Pair:
    """Two layers. key: of errors; else they are the constructor's arguments `student_layer` and
    `teacher_layer`. maps: raises KdrunError if one is no feature map (C, H, W).
    """
    sizes = []
    for model, shapes, layer in (("student", student, ours), ("teacher", teacher, theirs)):
        own = key or f"{model}_layer"
        sizes.append(shape(shapes, layer, own, model))
        if maps and len(sizes[-1]) != 3:
            problem = f"feature maps (C, H, W) are needed; {layer} of the {model} is {sizes[-1]}"
            raise KdrunError(own, None if key else layer, problem)
    return Pair(ours, theirs, *sizes)


def stage_pairs(
    student: Shapes,
    teacher: Shapes,
    stages: int,
    *,
    least: int = 1,
    before: str = "never",
    stem: bool = False,
    key: str = "stages",
) -> tuple[Pair, ...]:
    """The last stages of both models in pairs, from shallow to deep; all are maps (C, H, W).

    stages: the number of pairs, 0 for as many as both models have. least: how many the loss needs. stem:
    whether that counts as a stage. before: whether maps before the activation are taken: never, teacher (the
    teacher's, if its family has them), always (both). Raises KdrunError if that cannot be.
    """
    first = 0 if stem else 1
    available = min(student.stages, teacher.stages) - first
    count = available if stages == 0 else stages
    if not least <= count <= available:
        problem = (
            f"needs {max(least, count)} stages{'' if stem else ' after the stem'}; the student has "
            f"{student.stages - first}, the teacher {teacher.stages - first}"
        )
        raise KdrunError(key, stages if key == "stages" else None, problem)
    names = [f"stage:{position}" for position in range(-count, 0)]
    without = [
        model
        for model, shapes in (("student", student), ("teacher", teacher))
        if any(shapes.canonical(f"{name}@pre") not in shapes.layers for name in names)
    ]
    if without and before == "always":
        problem = f"maps before the activation are needed; those of the {without[-1]} are not known"
        raise KdrunError(key, None, problem)
    before_teacher = "teacher" not in without
    ours = "@pre" if before == "always" else ""
    theirs = "@pre" if before == "always" or (before == "teacher" and before_teacher) else ""
    return tuple(pair(student, teacher, name + ours, name + theirs, key, maps=True) for name in names)


def over_pairs(
    pairs: Sequence[Pair], student: Outputs, teacher: Outputs, compare: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """(N,): the sum over pairs of what `compare` returns for the student's and the teacher's layer."""
    return torch.stack([compare(*pair.read(student, teacher)) for pair in pairs]).sum(0)


def needs_of(pairs: tuple[Pair, ...], *more: str, logits: bool = False) -> Needs:
    """What a loss over stages reads: all stages until it is built, then its pairs. more: further layers."""
    student = {pair.student_layer for pair in pairs} or {"stages"}
    teacher = {pair.teacher_layer for pair in pairs} or {"stages"}
    if logits:
        teacher = teacher | {"logits"}
    return Needs(frozenset({"logits", *student, *more}), frozenset({*teacher, *more}))


def require_equal_channels(pairs: tuple[Pair, ...], stages: int) -> None:
    """Raises KdrunError if a stage of the student has another number of channels than the teacher's."""
    for each in pairs:
        if each.student[0] != each.teacher[0]:
            problem = (
                f"equal channels are needed; {each.student_layer} has {each.student[0]} in the "
                f"student, {each.teacher[0]} in the teacher"
            )
            raise KdrunError("stages", stages, problem)
