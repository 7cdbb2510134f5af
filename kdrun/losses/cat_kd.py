"""Class attention transfer: where in the image each class is seen.

Guo, Yan, Li, Lin, "Class Attention Transfer Based Knowledge Distillation", CVPR 2023,
https://arxiv.org/abs/2304.12777

Departures: the classifiers stay linear layers and keep their biases, which the maps leave out; the authors
turn them into convolutions without biases. The maps of all classes count; the authors can select some.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from kdrun.errors import KdrunError
from kdrun.losses.base import Loss, Needs
from kdrun.losses.numeric import mse, number, widen
from kdrun.losses.paired import Pair, pair
from kdrun.types import CLASSIFIER, POOLED, Batch, Outputs, Shapes


def class_maps(features: Tensor, weight: Tensor) -> Tensor:
    """(N, K, H, W): the logit of each class at each position. features: (N, C, H, W). weight: (K, C)."""
    return F.conv2d(features, weight[:, :, None, None])


def binarised(maps: Tensor) -> Tensor:
    """1 where a map (N, K, H, W) is above the mean of its absolute values, else 0."""
    return (maps > maps.abs().mean((2, 3), keepdim=True)).to(maps.dtype)


def cat_kd(student: Tensor, teacher: Tensor, size: int, normalise: bool) -> Tensor:
    """(N,): mean squared difference of class maps (N, K, H, W), averaged to `size` x `size`, and before that
    brought to length 1 each if `normalise`.
    """
    pooled = [F.adaptive_avg_pool2d(maps, size).flatten(2) for maps in (student, teacher.detach())]
    ours, theirs = (F.normalize(maps, dim=2) if normalise else maps for maps in pooled)
    return mse(ours, theirs)


class CatKD(Loss):
    """`cat_kd` of the maps that each model's classifier gives on its last map. binarise: the teacher's."""

    pair: Pair

    def __init__(self, size: int = 2, normalise: bool = False, binarise: bool = False) -> None:
        super().__init__()
        number("size", size, least=1)
        self.size, self.normalise, self.binarise = size, normalise, binarise

    @property
    def needs(self) -> Needs:
        layers = frozenset({POOLED, CLASSIFIER})
        return Needs(layers | {"logits"}, layers)

    def build(self, student: Shapes, teacher: Shapes, images: int = 0) -> None:
        for whose, shapes in (("student", student), ("teacher", teacher)):
            if POOLED not in shapes.layers or shapes.classifier is None:
                problem = f"the {whose}'s classifier must be one linear layer on the mean of its last map"
                raise KdrunError("name", "cat_kd", problem)
        self.pair = pair(student, teacher, POOLED, POOLED)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        ours, theirs = self.pair.read(student, teacher)
        assert student.classifier is not None and teacher.classifier is not None
        our_maps = class_maps(ours, widen(student.classifier.weight))
        their_maps = class_maps(theirs, widen(teacher.classifier.weight.detach()))
        their_maps = binarised(their_maps) if self.binarise else their_maps
        return cat_kd(our_maps, their_maps, self.size, self.normalise)

    def formula(self) -> str:
        return f"CAT({self.size}x{self.size})"
