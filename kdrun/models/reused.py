"""A student with the teacher's classifier, which reads the student's last map through a projector.

Chen, Mei, Zhang, Wang, Feng, Chen, "Knowledge Distillation with the Reused Teacher Classifier", CVPR 2022,
https://arxiv.org/abs/2203.14001
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdrun.errors import KdrunError
from kdrun.models.build import Built, seeded
from kdrun.models.survey import anatomy, survey
from kdrun.models.taps import Tapped, probe
from kdrun.types import POOLED, HeadWeights

LAST = "stage:-1"

Size = tuple[int, int, int]


class Projector(nn.Sequential):
    """(N, C, H, W) to (N, C', H, W): 1x1, 3x3, 1x1 with norm and ReLU; inside C' / factor channels."""

    def __init__(self, channels: int, out: int, factor: int = 2) -> None:
        width = max(1, out // factor)
        layers: list[nn.Module] = []
        for before, after, kernel in ((channels, width, 1), (width, width, 3), (width, out, 1)):
            convolution = nn.Conv2d(before, after, kernel, padding=kernel // 2, bias=False)
            layers += [convolution, nn.BatchNorm2d(after), nn.ReLU()]
        super().__init__(*layers)


class Reused(nn.Module):
    """Logits (N, K) of images: a student's layers up to its last stage, a projector, and a frozen classifier.
    teacher: the size (C, H, W) of the map that the teacher's classifier reads the mean of; a larger map of
    the student is averaged to it. factor: of the projector.
    """

    def __init__(self, student: nn.Module, channels: int, teacher: Size, classes: int, factor: int) -> None:
        super().__init__()
        known = anatomy(student)
        _replace(student, known.head, nn.Identity())
        self.body = Tapped(student, [LAST])
        self.teacher = teacher
        self.projector = Projector(channels, teacher[0], factor)
        self.classifier = nn.Linear(teacher[0], classes).requires_grad_(False)
        self.stages = (*(f"body.model.{stage}" for stage in known.stages[:-1]), "projector")
        self.pre = ()
        self.head = "classifier"

    def forward(self, images: Tensor) -> Tensor:
        maps = self.body(images).layer(LAST)
        _, height, width = self.teacher
        if maps.shape[2] > height or maps.shape[3] > width:
            maps = F.adaptive_avg_pool2d(maps, (height, width))
        logits: Tensor = self.classifier(self.projector(maps).mean((2, 3)))
        return logits

    @torch.no_grad()
    def take(self, teacher: HeadWeights) -> None:
        """Copies the weights of the teacher's classifier."""
        self.classifier.weight.copy_(teacher.weight)
        self.classifier.bias.zero_()
        if teacher.bias is not None:
            self.classifier.bias.copy_(teacher.bias)


def reused(
    student: nn.Module, image_shape: Size, teacher: Size, classes: int, seed: int, factor: int = 2
) -> Reused:
    """The student on a projector and a classifier for maps (C, H, W) like the teacher's. Raises KdrunError if
    its last stage gives no maps.
    """
    shapes = probe(student, image_shape)
    size = shapes.layer(LAST) if shapes.stages else ()
    if len(size) != 3:
        problem = f"feature maps (C, H, W) are needed; the student's last stage is {size}"
        raise KdrunError("loss", None, problem)
    with seeded(seed):
        model = Reused(student, size[0], teacher, classes, factor)
    survey(model, image_shape)
    return model


def reusing(
    student: Built, teacher: nn.Module, image_shape: Size, classes: int, seed: int, factor: int = 2
) -> Built:
    """The student on a classifier like the teacher's, still without its weights. Raises KdrunError if that is
    not one linear layer on the mean of the last map.
    """
    layers = probe(teacher, image_shape, [POOLED]).layers
    if POOLED not in layers:
        problem = "the teacher's classifier must be one linear layer on the mean of its last map"
        raise KdrunError("loss", None, problem)
    channels, height, width = layers[POOLED]
    model = reused(student.model, image_shape, (channels, height, width), classes, seed, factor)
    note = "the student's last map is projected and read by the teacher's classifier"
    return student._replace(model=model, notes=(*student.notes, note))


def _replace(model: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, module)
