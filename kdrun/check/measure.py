"""The first step of a training, on temporary models: value and gradient of each term, time, and memory; and
the speed of this machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from kdrun.data.batches import training_images
from kdrun.evaluation.cost import macs, state_bytes
from kdrun.machine import machine, threads_for, torch_threads
from kdrun.models.build import build
from kdrun.plan.training import Training
from kdrun.schedule import Schedule
from kdrun.stages.saved import model_now
from kdrun.stages.teacher import as_live
from kdrun.stages.train import fastest
from kdrun.stages.trainee import Trainee, begin
from kdrun.training.captured import Captured
from kdrun.training.learning_rate import learning_rate
from kdrun.training.plan import EpochPlan, epoch_plan
from kdrun.training.pulls import pulls
from kdrun.training.seeds import derived, kept_generators
from kdrun.training.step import Learner, Step
from kdrun.training.teachers import NoTeacher, Teacher
from kdrun.types import Batch, Outputs, Rows

WARM_UP = 3
STEPS = 20
SECONDS = 0.5
"""After WARM_UP steps, STEPS are timed, or as many as fit into SECONDS, at least one."""

SHAPE, BATCH, CLASSES = (3, 32, 32), 64, 10
BACKWARD = 3
"""A training step costs about this many forward passes: one, and two for the gradients."""


class AtStart(NamedTuple):
    """A term before the first update. value: unweighted. gradient: the norm of its unweighted gradient with
    respect to the weights of the trained model. claims: whether it should have a gradient.
    """

    name: str
    weight: Schedule
    value: float
    gradient: float
    claims: bool = True


class StepPace(NamedTuple):
    """seconds: of a whole step; asking: of the teacher's answer in it."""

    seconds: float
    asking: float


class FirstStep(NamedTuple):
    """kept: bytes of training (weights, gradients, optimiser, activations for the backward pass). told: bytes
    of the teacher and its forward pass. images: bytes of all training images on the device.
    """

    terms: tuple[AtStart, ...]
    pace: StepPace
    kept: int
    told: int
    images: int


def first_step(training: Training, *teachers: nn.Module) -> FirstStep:
    """Does the first steps of a training without writing anything.

    teachers: the models that its terms read, in order, if not as they are now. They are frozen and tapped.
    """
    models = nn.ModuleList(teachers or map(model_now, training.teachers))
    with torch_threads(training.threads), training.ground.machine.numerics(), kept_generators():
        torch.manual_seed(derived(training.seed, "dropout"))
        return _measured(training, models)


def _measured(training: Training, teachers: nn.ModuleList) -> FirstStep:
    ground, place = training.ground, training.ground.machine
    trainee = begin(training, training.phases[0])
    learner, live = trainee.learners[0], as_live(training, trainee.mix, list(teachers))
    asked: Teacher = live or NoTeacher()
    images = training_images(ground.data, ground.views, place.device, training.part)
    labels = training.labels.to(place.device)
    step = Step(trainee.learners, asked, images, labels)
    row_set = training.row_set(trainee.mix)
    plan = epoch_plan(training.seed, 0, row_set, ground.views, place.device)
    rows = next(plan.batches())
    rates = trainee.phase.rates(training.recipe)
    step.lr.fill_(learning_rate(rates, 0, training.recipe.epochs * row_set.steps, row_set.steps))
    batch = Batch(images(rows), step.labels[rows.index], rows)
    with _largest_call(teachers) as largest:
        answers = asked(batch)
    for each in trainee.learners:
        each.begin(0)
    if peers := trainee.learners[1:]:
        with torch.no_grad():
            answers = peers[0].student(batch.images)
    terms, activations = _terms(learner, answers, batch)
    whole = _as_trained(step, trainee, plan)
    seconds = _seconds(lambda: whole([rows]), place.device)
    images.close()
    return FirstStep(
        terms,
        StepPace(seconds, _seconds(lambda: asked(batch), place.device) if live else 0.0),
        sum(map(_held, trainee.learners)) + activations + _bytes([batch.images]),
        largest[0] + state_bytes(teachers) if len(teachers) else 0,
        images.memory,
    )


def _as_trained(step: Step, trainee: Trainee, plan: EpochPlan) -> Callable[[Sequence[Rows]], None]:
    """The step in the way of the training, but not compiled; a graph is of the first step."""
    ground = trainee.training.ground
    fast = fastest(step, [trainee], ground.machine.graphs(ground.run.runtime.graph), lambda line: None)
    if not isinstance(fast, Captured):
        return fast
    fast.prepare([plan], 0)

    def first(rows: Sequence[Rows]) -> None:
        fast.position.zero_()
        fast(rows)

    return first


def _terms(learner: Learner, answers: Outputs, batch: Batch) -> tuple[tuple[AtStart, ...], int]:
    """Value and gradient of every term, and the bytes that are kept for the backward pass."""
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


def training_speed() -> tuple[str, float]:
    """The device of `device=auto`, and its multiply-accumulates per second in training: by steps of resnet20
    on 32x32 images.
    """
    place = machine("auto", "fp32", "auto")
    node = {
        "name": "resnet20",
        "family": "cifar_resnet",
        "args": {"depth": 20, "stem_width": 16, "widths": [16, 32, 64]},
    }
    model = build(node, CLASSES, SHAPE, "none", seed=0).model.to(place.device)
    work = BACKWARD * macs(model, SHAPE) * BATCH
    with torch_threads(place.threads or threads_for(work)), kept_generators():
        images = torch.randn(BATCH, *SHAPE, device=place.device)
        labels = torch.zeros(BATCH, dtype=torch.long, device=place.device)
        optimiser = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)

        def step() -> None:
            optimiser.zero_grad()
            cross_entropy(model(images), labels).backward()  # type: ignore[no-untyped-call]
            optimiser.step()

        return place.device.type, work / _seconds(step, place.device)


def _held(learner: Learner) -> int:
    """Bytes of weights and buffers, of a gradient for each weight, and of the optimiser's state."""
    model, mix = learner.model, learner.mix
    gradients = _bytes([*model.parameters(), *mix.parameters()])
    kept = _bytes(tensor for tensors in learner.optimiser.state().values() for tensor in tensors)
    return state_bytes(model) + state_bytes(mix) + gradients + kept


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@contextmanager
def _largest_call(model: nn.ModuleList) -> Iterator[list[int]]:
    """Fills in the most bytes of inputs and outputs of one module: the memory of a forward pass without
    gradients, apart from what branches keep.
    """
    largest = [0]

    def look(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        tensors = [value for value in (*args, output) if isinstance(value, Tensor)]
        largest[0] = max(largest[0], _bytes(tensors))

    leaves = [m for m in model.modules() if not list(m.children())] if len(model) else []
    handles = [module.register_forward_hook(look) for module in leaves]
    try:
        yield largest
    finally:
        for handle in handles:
            handle.remove()
