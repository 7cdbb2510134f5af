"""What all arms of a comparison have in common: models and their first weights, teacher, images, batches."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from kdrun.config.arguments import parse
from kdrun.config.compose import single
from kdrun.data.resident import Normal, Resident
from kdrun.models.weights import save_weights
from kdrun.plan.plan import Plan, make_plan
from kdrun.types import Rows

BATCH, TAIL = 64, 16
"""The 50,000 images of CIFAR-100 are 781 batches of 64 and one of 16; epochs end like that here too."""

TEST = 100
"""Images of the test part, where images are random."""

SETTLING = 16
"""Batches that a random teacher's batch norms see, so that its activations are of the usual size."""

CRD = ("recipe=crd", "recipe.student.milestones=[]")
ADAMW = ("recipe=quick", f"recipe.student.batch={BATCH}", "recipe.student.schedule=constant")


@dataclass(frozen=True)
class Scene:
    """images: of an epoch. epochs: how many are done in all. validation: images that are asked about after
    each epoch; 0 for none. data: overrides that make the images, about: what these are. folder: for the
    teacher, tables and runs. workers: of the rivals' DataLoader.
    """

    teacher: str
    student: str
    images: int
    epochs: int
    data: tuple[str, ...]
    about: str
    folder: Path
    validation: int = 0
    recipe: tuple[str, ...] = CRD
    device: str = "cpu"
    threads: int = 1
    workers: int = 0

    @property
    def weights(self) -> Path:
        """The teacher's, as a file."""
        return self.folder / f"{self.teacher}.safetensors"

    def overrides(self) -> list[str]:
        """A run of kdrun in this scene, as it would be typed; the teacher's weights apart."""
        return [
            *self.data,
            f"dataset.train={self.images}",
            f"dataset.validation={self.validation}",
            f"teacher={self.teacher}",
            f"student={self.student}",
            *self.recipe,
            f"recipe.student.epochs={self.epochs}",
            "control=false",
            f"device={self.device}",
            f"threads={self.threads}",
            f"outputs_dir={self.folder}/outputs",
        ]

    def taught(self) -> list[str]:
        """With the teacher's weights, which must be there."""
        return [*self.overrides(), f"teacher.checkpoint={self.weights}"]


def plan(overrides: list[str]) -> Plan:
    """As the command would build it."""
    return make_plan(single(parse(overrides)).run)


def of_cifar(data_dir: str) -> tuple[str, ...]:
    """Images of CIFAR-100 that lie in a folder."""
    return ("dataset=cifar100", f"data_dir={data_dir}")


def at_random(images: int, classes: int = 100, size: int = 32, channels: int = 3) -> tuple[str, ...]:
    """At least so many random images, cropped and mirrored as CIFAR-100's are, and a test part."""
    made = {
        "classes": classes,
        "size": size,
        "channels": channels,
        "per_class": -(-(images + TEST) // classes),
        "test": TEST,
        "views.name": "crop_flip",
        "views.padding": size // 8,
    }
    return ("dataset=fake", *(f"dataset.{key}={value}" for key, value in made.items()))


def settle(scene: Scene) -> None:
    """Writes the teacher's weights: random ones, with the batch norm statistics that go with them."""
    if scene.weights.exists():
        return
    scene.folder.mkdir(parents=True, exist_ok=True)
    made = plan(scene.overrides())
    ground, model = made.ground, made.teacher.initial().model
    data = ground.data
    assert isinstance(data.train.images, torch.Tensor)
    images = Resident(data.train.images, ground.views, Normal(data.mean, data.std, data.white, "cpu"))
    draw = torch.Generator().manual_seed(0)
    model.train()
    with torch.no_grad():
        for _ in range(SETTLING):
            index = torch.randint(len(images), (BATCH,), generator=draw)
            model(images(Rows(index, ground.views.draw(draw, BATCH))))
    save_weights(scene.weights, model.state_dict(), {})


def one_thread() -> None:
    """For processes that are started from here on: one thread until they say how many they want. None is to
    spin while it waits for another: on a busy machine that costs some arms ten times as much.
    """
    os.environ.update({"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"})
