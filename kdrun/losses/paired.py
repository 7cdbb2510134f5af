"""What losses of one layer and losses over stages have in common: which layers they read."""

from __future__ import annotations

from abc import ABC

from kdrun.losses.base import Loss, Needs
from kdrun.losses.layers import Pair, map_pair, needs_of, pair, require_equal_channels, stage_pairs
from kdrun.losses.numeric import number
from kdrun.types import Shapes


class LayerLoss(Loss, ABC):
    """A loss of a layer of the student and one of the teacher: `pair`, once it is built.

    maps: whether only feature maps (C, H, W) will do.
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
        """Make what connects the two layers (a regressor), if anything does."""


class StageLoss(Loss, ABC):
    """A loss over the last `stages` stages of both models (0: all there are): `pairs`, once it is built.

    least, before, stem: as for `stage_pairs`. equal_channels: whether both maps of a pair must have as many.
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
        """How many stages, as the equation shows it."""
        return f"{self.stages or 'all'} stages"

    def build(self, student: Shapes, teacher: Shapes, images: int = 0) -> None:
        self.pairs = stage_pairs(
            student, teacher, self.stages, least=self.least, before=self.before, stem=self.stem
        )
        if self.equal_channels:
            require_equal_channels(self.pairs, self.stages)
        self.adapt(self.pairs)

    def adapt(self, pairs: tuple[Pair, ...]) -> None:
        """Make what connects the stages of each pair (connectors), if anything does."""
