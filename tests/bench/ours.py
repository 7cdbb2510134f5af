"""kdrun as it runs, and its own parts before some of the steps that made it faster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from kdrun.data.batches import training_images
from kdrun.models.fold import folded
from kdrun.models.taps import Tapped
from kdrun.plan.answers import asked
from kdrun.progress.screen import Screen, screen
from kdrun.stages.pipeline import loaded_teacher
from kdrun.stages.saved import load_trained, mix_of, threaded
from kdrun.stages.train import train
from kdrun.stages.trainee import Member, Pupil
from kdrun.training.checkpoint import Position
from kdrun.training.fit import Course, fit
from kdrun.training.optimisers import Optimiser
from kdrun.training.plan import epoch_plan
from kdrun.training.step import Images, Step
from kdrun.training.teachers import Live
from kdrun.types import Batch, Rows
from tests.bench.arm import Arm
from tests.bench.paused import Paused
from tests.bench.scene import Scene, assembly


class Whole(Arm):
    """kdrun's own training of one student or several, from the configuration on.

    name: of a folder for runs and tables. runs: overrides of each training. filled: whether the teacher's
    table has all rows beforehand.
    """

    def __init__(self, scene: Scene, name: str, runs: Sequence[Sequence[str]], filled: bool = False) -> None:
        members = [_member(scene, name, overrides) for overrides in runs]
        if filled:
            for member in members:
                fill(member)
        self.training = Paused(lambda shown: train(members, shown))

    def epoch(self) -> float:
        return float(self.training.next()["loss"])

    def close(self) -> None:
        self.training.leave()


def _member(scene: Scene, name: str, overrides: Sequence[str]) -> Member:
    typed = [override for override in scene.taught() if not override.startswith("outputs_dir=")]
    built = assembly([*typed, *overrides, f"outputs_dir={scene.folder}/{name}"])
    built.student.folder.mkdir(parents=True, exist_ok=True)
    return Member(built.student, built, loaded_teacher(built))


def fill(member: Member) -> None:
    """Asks the teacher for all rows of the training, as an earlier run with the same seed has done."""
    training, built = member.training, member.assembly
    mix, images = mix_of(training, built, training.phases[-1]), training_images(built)
    told = asked(built, mix, live_teacher(member, folds=True), images, screen(Console(quiet=True)))
    rows = built.row_set(training, mix)
    for epoch in range(training.recipe.epochs):
        plan = epoch_plan(training.seed, epoch, rows, built.views, built.place.device)
        told.prepare([plan], 0)
        for step in range(plan.steps):
            told.before(step)
    told.close()


def live_teacher(member: Member, folds: bool) -> Live:
    built, needs = member.assembly, member.assembly.teacher_needs
    assert member.teacher is not None
    model = load_trained(built, member.teacher, built.headline)
    if folds:
        model = folded(model, built.image_shape, needs)
    return Live(Tapped(model, needs), built.place.autocast())


class Asked(Arm):
    """The teacher alone, asked in batches of that size about as many images as an epoch has."""

    def __init__(self, scene: Scene, batch: int) -> None:
        member = _member(scene, "asked", ())
        self.live, built = live_teacher(member, folds=True), member.assembly
        self.times = -(-scene.images // batch)
        draw = torch.Generator().manual_seed(0)
        index = torch.randint(scene.images, (batch,), generator=draw)
        rows = Rows(index.to(built.place.device), built.views.draw(draw, batch).to(built.place.device))
        self.batch = Batch(training_images(built)(rows), rows.index, rows)

    def epoch(self) -> float:
        for _ in range(self.times):
            self.live(self.batch)
        return 0.0


class Rung(Arm):
    """The loop with a live teacher, and of the later steps only those that are named."""

    def __init__(
        self, scene: Scene, name: str, channels_last: bool = False, folds: bool = False, fused: bool = False
    ) -> None:
        member = _member(scene, name, ["precision=fp32"])
        built, training = member.assembly, member.training
        pupil, live = Pupil(member, training.phases[-1]), live_teacher(member, folds)
        learner, rows = pupil.learners[0], built.row_set(training, pupil.mix)
        images: Images = training_images(built)
        if not channels_last:
            pupil.model.to(memory_format=torch.contiguous_format)
            live.model.to(memory_format=torch.contiguous_format)
            images = Contiguous(images)
        if not fused:
            learner.optimiser = TorchSgd(learner.optimiser.parameters, training.recipe)
        labels = built.data.train.labels.to(built.place.device)
        step = Step((learner,), live, images, labels)
        epochs = training.recipe.epochs
        course = Course(epochs, epochs, rows, built.views, training.recipe)

        def work(shown: Screen) -> None:
            with threaded(scene.threads):
                fit(course, step, [pupil.strand({}, shown, step, live)], Position())

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
