"""What losses of the logits, of one layer and over stages have in common: the layers that they read."""

from __future__ import annotations

from abc import ABC

from kdrun.losses.base import Loss, Needs
from kdrun.losses.layers import Pair, map_pair, needs_of, pair, require_equal_channels, stage_pairs
from kdrun.losses.numeric import number
from kdrun.types import Shapes


class LogitsLoss(Loss, ABC):
    """A loss of the student's logits and the teacher's."""

    @property
    def needs(self) -> Needs:
        return Needs(teacher=frozenset({"logits"}))


class LayerLoss(Loss, ABC):
    """A loss of a layer of the student and one of the teacher: `pair`, once it is built.

    maps: whether both must be feature maps (C, H, W).
    """

    maps: bool = False
    pair: Pair

    def __init__(self, student_layer: str = "stage:-1", teacher_layer: str = "stage:-1") -> None:
        super().__init__()
        self.student_layer, self.teacher_layer = student_layer, teacher_layer

    @property
    def needs(self) -> Needs:
        return Needs(frozenset({"logits", self.student_layer}), frozenset({self.teacher_layer}))

    def build(self, student: Shapes, teacher: Shapes, images: int = 0) -> None:
        find = map_pair if self.maps else pair
        self.pair = find(student, teacher, self.student_layer, self.teacher_layer)
        self.adapt(self.pair)

    def adapt(self, pair: Pair) -> None:
        """Create the regressor between the two layers, if the loss has one."""


class StageLoss(Loss, ABC):
    """A loss over the last `stages` stages of both models (0: all there are): `pairs`, once it is built.

    least, before, stem: as for `stage_pairs`. equal_channels: whether the maps of a pair must have as many
    channels as each other.
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
