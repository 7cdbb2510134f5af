"""What losses of one layer each and losses over stages have in common: which layers, and how to find them."""

from __future__ import annotations

from abc import ABC

from kdrun.losses.base import Loss, Needs
from kdrun.losses.layers import Pair, map_pair, needs_of, pair, stage_pairs
from kdrun.losses.numeric import number
from kdrun.types import Shapes


class OfLayers(Loss, ABC):
    """A loss of a layer of the student and one of the teacher: `pair`, once it is built.

    maps: whether only feature maps (C, H, W) will do.
    """

    maps: bool = False
    pair: Pair

    def __init__(self, student_layer: str, teacher_layer: str) -> None:
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
        """Make what lies between the two layers (a regressor), if anything does."""


class OfStages(Loss, ABC):
    """A loss over the last `stages` stages of both models (0: all there are): `pairs`, once it is built.

    least, before, stem: as for `stage_pairs`.
    """

    least: int = 1
    before: str = "never"
    stem: bool = False
    pairs: tuple[Pair, ...] = ()

    def __init__(self, stages: int) -> None:
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
        self.adapt(self.pairs)

    def adapt(self, pairs: tuple[Pair, ...]) -> None:
        """Make what lies between the stages of each pair (connectors), if anything does."""
