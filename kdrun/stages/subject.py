"""What evaluators get of a plan and its saved models: the answers to held-out images."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from functools import partial

from torch import Tensor, nn

from kdrun.config.choices import is_control
from kdrun.data.batches import plain_batches
from kdrun.data.images import Part
from kdrun.data.select import taken
from kdrun.evaluation.accuracy import logits_of
from kdrun.evaluation.cost import bytes_per_image
from kdrun.evaluation.subject import Answers, Subject
from kdrun.machine import torch_threads
from kdrun.plan.ground import Ground
from kdrun.plan.plan import Plan
from kdrun.plan.training import Training
from kdrun.report.schema import REFERENCE
from kdrun.stages.kept_answers import kept_answers
from kdrun.stages.networks import TOGETHER, ensemble_of, is_together, network_of
from kdrun.stages.saved import Saved, load_model

Models = Mapping[str, Saved]
"""The models of a run by their names in the report."""


Answered = Callable[[int], object]
"""Gets how many images a model has just answered."""


def images_asked(plan: Plan, models: Models) -> int:
    """How many images all models together answer for `subject_of`."""
    together = is_together(plan.taught_first, models) + (plan.reference is not None)
    each = sum(len(part.labels) for part in _held_out(plan).values())
    own = sum(len(saved.weights or "1") for saved in models.values() if not saved.training.headless)
    return each * (together + own)


def subject_of(plan: Plan, models: Models, answered: Answered = lambda images: None) -> Subject:
    """The input of evaluators. The test part is used only here, after all training."""
    ground, student, first = plan.ground, plan.student, plan.taught_first
    networks = {name: network_of(first, saved) for name, saved in models.items()}
    ensemble = ensemble_of(first, networks)
    together = {TOGETHER: ensemble} if ensemble is not None else {}
    reference = {REFERENCE: plan.reference.network(ground)} if plan.reference is not None else {}
    return Subject(
        answers=(
            *(
                each
                for name, own in (together | reference).items()
                for each in _answered(plan, name, own, student.threads, answered)
            ),
            *(each for saved in models.values() for each in _answers(plan, saved, answered)),
        ),
        networks=together | networks | reference,
        records={name: saved.record for name, saved in models.items()},
        classes=ground.data.classes,
        image_shape=ground.data.image_shape,
        headline=ground.headline,
        taught_by=TOGETHER if len(student.teachers) > 1 else next(iter(student.teachers), plan.teacher).name,
        settings=dataclasses.asdict(plan.run.evaluation),
        missing=ground.transfer.missing,
        kept_out=tuple(_kept_out(models)) if ground.transfer.missing else (),
        blocks=first.several.blocks if first.several else {},
        headlines=_headlines(models),
        own=tuple(answers for saved in models.values() for answers in _on_own_test(plan, saved)),
    )


def _answers(plan: Plan, saved: Saved, answered: Answered) -> Iterator[Answers]:
    """The answers of a model with each of its weights, on the parts with images; none without classes."""
    if saved.training.headless:
        return
    for weights in saved.weights or ("last",):
        ask = partial(_asked, plan, saved, weights, answered)
        logits = kept_answers(plan, saved, weights, ask, answered)
        for name, part in _held_out(plan).items():
            yield Answers(saved.name, weights, name, logits[name], part.labels)


def _asked(plan: Plan, saved: Saved, weights: str, answered: Answered) -> dict[str, Tensor]:
    """The logits of a model on the parts with images."""
    network = network_of(plan.taught_first, saved, weights)
    parts = _held_out(plan).items()
    threads = saved.training.threads
    return {name: logits_on(plan.ground, network, part, threads, answered) for name, part in parts}


def _held_out(plan: Plan) -> dict[str, Part]:
    """The parts with images that no training sees."""
    parts = {"validation": plan.ground.data.validation, "test": plan.ground.data.test}
    return {name: part for name, part in parts.items() if len(part.labels)}


def _answered(
    plan: Plan, whose: str, model: nn.Module, threads: int, answered: Answered
) -> Iterator[Answers]:
    """The answers of a model that has one state."""
    for name, part in _held_out(plan).items():
        yield Answers(
            whose, "last", name, logits_on(plan.ground, model, part, threads, answered), part.labels
        )


def logits_on(
    ground: Ground, model: nn.Module, part: Part, threads: int, answered: Answered = lambda images: None
) -> Tensor:
    """(N, K) float32 on the CPU, of a model that takes the images of that ground."""
    data = ground.data
    batches = plain_batches(part, data, ground.machine.device, bytes_per_image(model, data.image_shape))
    with torch_threads(threads):
        return logits_of(model, _counted(batches(), answered))


def _counted(batches: Iterator[Tensor], answered: Answered) -> Iterator[Tensor]:
    """The batches; each is counted when the next one is asked for."""
    for images in batches:
        yield images
        answered(len(images))


def _on_own_test(plan: Plan, saved: Saved) -> Iterator[Answers]:
    """Of a teacher with a data set of its own, to the test images of that one, if they are others."""
    ground = saved.training.ground
    if saved.training.headless or not stands_apart(plan, saved.training):
        return
    model, part = load_model(saved, ground.headline), ground.data.test
    logits = logits_on(ground, model, part, saved.training.threads)
    yield Answers(saved.name, ground.headline, "own_test", logits, part.labels)


def stands_apart(plan: Plan, training: Training) -> bool:
    """Whether a model has a data set of its own, with other images or labels than the run's."""
    own, ours = training.ground, plan.ground
    return own.run.dataset != ours.run.dataset and own.data.fingerprint != ours.data.fingerprint


def _headlines(models: Models) -> dict[str, str]:
    """The weights that are shown of each model, by its name."""
    return {name: saved.training.ground.headline for name, saved in models.items()}


def _kept_out(models: Models) -> Iterator[Answers]:
    """Of student and controls, to training images that stayed out of the transfer set."""
    for name, saved in models.items():
        if name == "student" or is_control(name):
            ground = saved.training.ground
            rows = ground.transfer.kept_out
            part = taken(ground.data.train, rows, ground.data.image_shape[1])
            batches = plain_batches(part, ground.data, ground.machine.device)
            logits = logits_of(load_model(saved, ground.headline), batches())
            yield Answers(name, ground.headline, "kept_out", logits, part.labels)
