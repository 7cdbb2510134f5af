"""The first step of a training, on models that are thrown away: what each term says and pulls, how long it
takes, and what it keeps in memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kdrun.data.batches import training_images
from kdrun.evaluation.cost import state_bytes
from kdrun.machine import torch_threads
from kdrun.models.taps import Tapped
from kdrun.plan.training import Training
from kdrun.schedule import Schedule
from kdrun.stages.train import stepping
from kdrun.stages.trainee import begin
from kdrun.training.learning_rate import learning_rate
from kdrun.training.plan import epoch_plan
from kdrun.training.pulls import pulls
from kdrun.training.seeds import derived, kept_generators
from kdrun.training.step import Learner, Step
from kdrun.training.teachers import Live, NoTeacher, Teacher
from kdrun.types import Batch, Outputs

WARM_UP = 3
STEPS = 20
SECONDS = 0.5
"""After a few steps to warm up, so many are timed, or as many as fit: of slow steps, one."""


class AtStart(NamedTuple):
    """A term before the first update. value: unweighted. gradient: the norm of its gradient with respect to
    the weights of the model that is trained, unweighted. claims: whether it means to have one.
    """

    name: str
    weight: Schedule
    value: float
    gradient: float
    claims: bool = True


class FirstStep(NamedTuple):
    """seconds: of a whole step, and of the teacher's answer in it. kept: bytes that training keeps (weights,
    gradients, optimiser, activations for the backward pass). told: bytes that asking the teacher takes.
    images: bytes of all training images on the device.
    """

    terms: tuple[AtStart, ...]
    seconds: float
    asking: float
    kept: int
    told: int
    images: int


def first_step(training: Training, teacher: nn.Module | None) -> FirstStep:
    """Does the first steps of a training, writing nothing.

    teacher: the model that its terms read; None if none does. It is frozen and tapped here.
    """
    with torch_threads(training.threads), training.ground.machine.numerics(), kept_generators():
        torch.manual_seed(derived(training.seed, "dropout"))
        return _measured(training, teacher)


def _measured(training: Training, teacher: nn.Module | None) -> FirstStep:
    ground, place = training.ground, training.ground.machine
    trainee = begin(training, training.phases[0])
    learner, read = trainee.learners[0], trainee.mix.needs.teacher
    live = Live(Tapped(teacher, read), place.autocast()) if teacher is not None and read else None
    asked: Teacher = live or NoTeacher()
    images = training_images(ground.data, ground.views, place.device, training.part)
    labels = training.labels.to(place.device)
    step = Step(trainee.learners, asked, images, labels)
    row_set = training.row_set(trainee.mix)
    rows = next(epoch_plan(training.seed, 0, row_set, ground.views, place.device).batches())
    rates = trainee.phase.rates(training.recipe)
    step.lr.fill_(learning_rate(rates, 0, training.recipe.epochs * row_set.steps, row_set.steps))
    batch = Batch(images(rows), step.labels[rows.index], rows)
    with _largest_call(teacher) as largest:
        answers = asked(batch)
    for each in trainee.learners:
        each.begin(0)
    if peers := trainee.learners[1:]:
        with torch.no_grad():
            answers = peers[0].student(batch.images)
    terms, activations = _terms(learner, answers, batch)
    whole = stepping(step, [trainee])
    seconds = _seconds(lambda: whole([rows]), place.device)
    images.close()
    return FirstStep(
        terms,
        seconds,
        _seconds(lambda: asked(batch), place.device) if live else 0.0,
        sum(map(_held, trainee.learners)) + activations + _bytes([batch.images]),
        largest[0] + state_bytes(teacher) if teacher is not None else 0,
        images.memory,
    )


def _terms(learner: Learner, answers: Outputs, batch: Batch) -> tuple[tuple[AtStart, ...], int]:
    """What every term says and pulls, and the bytes that the forward keeps for the backward pass."""
    own = {parameter.untyped_storage().data_ptr() for parameter in learner.model.parameters()}
    saved: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        pairs = zip(learner.mix.terms, pulls(learner, batch, answers), strict=True)
    terms = tuple(
        AtStart(term.name, term.weight, pull.value.item(), pull.norm(), term.loss.reaches_student)
        for term, pull in pairs
    )
    return terms, sum(size for place, size in saved.items() if place not in own)


def _seconds(act: Callable[[], Any], device: torch.device) -> float:
    """The median time of some calls, after a few to warm up."""
    took: list[float] = []
    while (len(took) < WARM_UP + STEPS and sum(took) < SECONDS) or len(took) < 2:
        started = time.perf_counter()
        _finish(act, device)
        took.append(time.perf_counter() - started)
    return median(took[min(WARM_UP, len(took) // 2) :])


def _finish(act: Callable[[], Any], device: torch.device) -> None:
    act()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _held(learner: Learner) -> int:
    """Weights and buffers, a gradient for each weight, and what the optimiser keeps."""
    model, mix = learner.model, learner.mix
    gradients = _bytes([*model.parameters(), *mix.parameters()])
    kept = _bytes(tensor for tensors in learner.optimiser.state().values() for tensor in tensors)
    return state_bytes(model) + state_bytes(mix) + gradients + kept


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@contextmanager
def _largest_call(model: nn.Module | None) -> Iterator[list[int]]:
    """Fills in the most bytes that one module of a forward reads and gives: what a forward without gradients
    has in memory at once, but for what branches keep.
    """
    largest = [0]

    def look(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        tensors = [value for value in (*args, output) if isinstance(value, Tensor)]
        largest[0] = max(largest[0], _bytes(tensors))

    leaves = [m for m in model.modules() if not list(m.children())] if model is not None else []
    handles = [module.register_forward_hook(look) for module in leaves]
    try:
        yield largest
    finally:
        for handle in handles:
            handle.remove()
