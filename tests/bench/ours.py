"""kdrun as it runs, and its own parts before some of the steps that made it faster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from kdrun.data.batches import training_images
from kdrun.data.resident import Resident
from kdrun.data.streamed import Streamed
from kdrun.machine import torch_threads
from kdrun.models.fold import folded
from kdrun.models.taps import Tapped
from kdrun.plan.training import Training
from kdrun.progress.screen import Screen
from kdrun.progress.watchers import Observers
from kdrun.stages.saved import load_model, saved
from kdrun.stages.teacher import planned_teacher
from kdrun.stages.train import train
from kdrun.stages.trainee import begin, strand
from kdrun.training.checkpoint import Position
from kdrun.training.fit import Course, fit
from kdrun.training.optimisers import Optimiser
from kdrun.training.plan import epoch_plan
from kdrun.training.step import Images, Step
from kdrun.training.teachers import Live
from kdrun.types import Batch, Rows
from tests.bench.arm import Arm
from tests.bench.paused import Paused
from tests.bench.scene import Scene, plan


class Whole(Arm):
    """kdrun's own training of one student or several, from the configuration on.

    name: of a folder for runs and tables. runs: overrides of each training. filled: whether the teacher's
    table has all rows beforehand.
    """

    def __init__(self, scene: Scene, name: str, runs: Sequence[Sequence[str]], filled: bool = False) -> None:
        students = [_student(scene, name, overrides) for overrides in runs]
        if filled:
            for student in students:
                fill(student)
        self.training = Paused(lambda shown: train(students, Observers(shown)))

    def epoch(self) -> float:
        return float(self.training.next()["loss"])

    def close(self) -> None:
        self.training.leave()


def _student(scene: Scene, name: str, overrides: Sequence[str]) -> Training:
    typed = [override for override in scene.taught() if not override.startswith("outputs_dir=")]
    student = plan([*typed, *overrides, f"outputs_dir={scene.folder}/{name}"]).student
    student.folder.mkdir(parents=True, exist_ok=True)
    return student


def images_of(training: Training) -> Resident | Streamed:
    ground = training.ground
    return training_images(ground.data, ground.views, ground.machine.device)


def fill(training: Training) -> None:
    """Asks the teacher for all rows of the training, as an earlier run with the same seed has done."""
    ground, live = training.ground, live_teacher(training, folds=True)
    told = planned_teacher(training, training.mixes[-1], live, images_of(training), print)
    for epoch in range(training.recipe.epochs):
        rows = epoch_plan(training.seed, epoch, training.row_set(), ground.views, ground.machine.device)
        told.prepare([rows], 0)
        for step in range(rows.steps):
            told.before(step)
    told.close()


def live_teacher(training: Training, folds: bool) -> Live:
    ground, needs, weights = training.ground, training.teacher_needs, saved(training.teachers[0])
    assert weights is not None
    model = load_model(weights, ground.headline)
    if folds:
        model = folded(model, ground.data.image_shape, needs)
    return Live(Tapped(model, needs), ground.machine.autocast())


class Asked(Arm):
    """The teacher alone, asked in batches of that size about as many images as an epoch has."""

    def __init__(self, scene: Scene, batch: int) -> None:
        training = _student(scene, "asked", ())
        self.live, ground = live_teacher(training, folds=True), training.ground
        device = ground.machine.device
        self.times = -(-scene.images // batch)
        draw = torch.Generator().manual_seed(0)
        index = torch.randint(scene.images, (batch,), generator=draw)
        rows = Rows(index.to(device), ground.views.draw(draw, batch).to(device))
        self.batch = Batch(images_of(training)(rows), rows.index, rows)

    def epoch(self) -> float:
        for _ in range(self.times):
            self.live(self.batch)
        return 0.0


class Rung(Arm):
    """The loop with a live teacher, and of the later steps only those that are named."""

    def __init__(
        self, scene: Scene, name: str, channels_last: bool = False, folds: bool = False, fused: bool = False
    ) -> None:
        training = _student(scene, name, ["precision=fp32"])
        ground, live = training.ground, live_teacher(training, folds)
        trainee = begin(training, training.phases[-1])
        learner, rows = trainee.learners[0], training.row_set(trainee.mix)
        images: Images = images_of(training)
        if not channels_last:
            trainee.model.to(memory_format=torch.contiguous_format)
            live.model.to(memory_format=torch.contiguous_format)
            images = Contiguous(images)
        if not fused:
            learner.optimiser = TorchSgd(learner.optimiser.parameters, training.recipe)
        labels = ground.data.train.labels.to(ground.machine.device)
        step = Step((learner,), live, images, labels)
        epochs = training.recipe.epochs
        course = Course(epochs, epochs, rows, ground.views, training.recipe)

        def work(shown: Screen) -> None:
            watchers = Observers(shown).of(training, "student")
            with torch_threads(scene.threads):
                fit(course, step, [strand(trainee, {}, watchers, step, live, print)], Position())

        self.training = Paused(work)

    def epoch(self) -> float:
        return float(self.training.next()["loss"])

    def close(self) -> None:
        self.training.leave()


class Contiguous:
    """Images with channels before rows in memory, as a DataLoader gives them."""

    capturable = False

    def __init__(self, images: Images) -> None:
        self.images, self.prepare, self.close = images, images.prepare, images.close

    def __call__(self, rows: Rows) -> Tensor:
        return self.images(rows).contiguous()


class TorchSgd(Optimiser):
    """torch.optim.SGD."""

    def __init__(self, parameters: list[Tensor], recipe: Any) -> None:
        super().__init__(parameters, recipe.weight_decay)
        self.inner = torch.optim.SGD(
            parameters,
            recipe.lr,
            momentum=recipe.momentum,
            nesterov=recipe.nesterov,
            weight_decay=recipe.weight_decay,
        )

    def step(self, lr: Tensor) -> None:
        self.inner.param_groups[0]["lr"] = lr.item()
        self.inner.step()

    def state(self) -> dict[str, Any]:
        return {}
