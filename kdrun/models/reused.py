"""A student that is read by the teacher's classifier: its last map goes through a projector to it.

Chen, Mei, Zhang, Wang, Feng, Chen, "Knowledge Distillation with the Reused Teacher Classifier", CVPR 2022,
https://arxiv.org/abs/2203.14001
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdrun.errors import KdrunError
from kdrun.models.build import Built
from kdrun.models.survey import anatomy, survey
from kdrun.models.taps import Tapped, classifier, probe
from kdrun.types import CLASSIFIER, Classifier, Outputs

FACTOR = 2
"""The projector is narrower than the teacher's map by this much."""

LAST = "stage:-1"

Size = tuple[int, int, int]


class Projector(nn.Sequential):
    """(N, C, H, W) to (N, C', H, W): three convolutions with norm and ReLU, the middle one 3x3."""

    def __init__(self, channels: int, out: int) -> None:
        width = out // FACTOR
        layers: list[nn.Module] = []
        for before, after, kernel in ((channels, width, 1), (width, width, 3), (width, out, 1)):
            convolution = nn.Conv2d(before, after, kernel, padding=kernel // 2, bias=False)
            layers += [convolution, nn.BatchNorm2d(after), nn.ReLU()]
        super().__init__(*layers)


class Reused(nn.Module):
    """Logits (N, K) of images: a student's layers up to its last map, a projector, and a frozen classifier.

    teacher: the size (C, H, W) of the teacher's last map; a larger map of the student is averaged to it. The
    student's own classifier is taken out.
    """

    def __init__(self, student: nn.Module, channels: int, teacher: Size, classes: int) -> None:
        super().__init__()
        known = anatomy(student)
        _replace(student, known.head, nn.Identity())
        self.body = Tapped(student, [LAST])
        self.teacher = teacher
        self.projector = Projector(channels, teacher[0])
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
    def take(self, teacher: Classifier) -> None:
        """Copies the weights of the teacher's classifier."""
        self.classifier.weight.copy_(teacher.weight)
        self.classifier.bias.zero_()
        if teacher.bias is not None:
            self.classifier.bias.copy_(teacher.bias)


def reused(student: nn.Module, image_shape: Size, teacher: Size, classes: int, seed: int) -> Reused:
    """The student on a projector and a classifier for maps like the teacher's last, (C, H, W).

    Raises KdrunError where the student has no maps.
    """
    size = _last_map(student, image_shape, "student")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = Reused(student, size[0], teacher, classes)
    survey(model, image_shape)
    return model


def reusing(student: Built, teacher: nn.Module, image_shape: Size, classes: int, seed: int) -> Built:
    """The student on the teacher's classifier, whose weights it is still to be given.

    Raises KdrunError where that classifier is not one linear layer on the mean of the teacher's last map.
    """
    size = _last_map(teacher, image_shape, "teacher")
    if not reads_mean(teacher, image_shape):
        problem = "the teacher's classifier must be one linear layer on the mean of its last map. srrl may do"
        raise KdrunError("loss", None, problem)
    model = reused(student.model, image_shape, size, classes, seed)
    note = "the student's last map is projected and read by the teacher's classifier"
    return student._replace(model=model, notes=(*student.notes, note))


def reads_mean(model: nn.Module, image_shape: Size) -> bool:
    """Whether a model's classifier is a linear layer that reads the mean of its last map: tried on noise."""
    if classifier(model) is None:
        return False
    tapped = Tapped(model, [LAST, "embedding", CLASSIFIER])
    noise = torch.rand(2, *image_shape, generator=torch.Generator().manual_seed(0))
    training = model.training
    try:
        with torch.no_grad():
            said: Outputs = tapped.eval()(noise)
    finally:
        tapped.close()
        model.train(training)
    mean = said.layer(LAST).mean((2, 3))
    assert said.embedding is not None
    return mean.shape == said.embedding.shape and torch.allclose(mean, said.embedding, rtol=1e-3, atol=1e-4)


def _last_map(model: nn.Module, image_shape: Size, role: str) -> Size:
    shapes = probe(model, image_shape)
    size = shapes.layer(LAST) if shapes.stages else ()
    if len(size) != 3:
        raise KdrunError(
            "loss", None, f"feature maps (C, H, W) are needed; the {role}'s last stage is {size}"
        )
    return size


def _replace(model: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, module)
