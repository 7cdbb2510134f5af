"""The models of a run as networks from its images to logits over its classes, and what evaluators get of
these: answers to held-out images. Those of teachers and controls are kept beside their weights.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from kdrun import __version__
from kdrun.artefacts import fingerprint, set_aside
from kdrun.config.choices import is_control
from kdrun.data.batches import plain_batches
from kdrun.data.images import ImageSet, Part
from kdrun.data.select import taken
from kdrun.errors import KdrunError
from kdrun.evaluation.accuracy import logits_of
from kdrun.evaluation.cost import bytes_per_image
from kdrun.evaluation.subject import Answers, Subject
from kdrun.machine import environment, torch_threads
from kdrun.models.class_relation import Related, Relation
from kdrun.models.seen import seen
from kdrun.models.weights import read_weights, save_weights
from kdrun.plan.ground import Ground, sight
from kdrun.plan.plan import Plan
from kdrun.plan.training import Training
from kdrun.report.schema import REFERENCE
from kdrun.stages.saved import Saved, load_model
from kdrun.training.several import Ensemble, Together

TOGETHER = "teacher"
"""The role of several teachers as one in a report."""

SavedModels = Mapping[str, Saved]
"""The models of a run by their names in the report."""

KINDS = ("teacher", "control")
"""Of trainings that other runs share."""

Logits = Mapping[str, Tensor]
"""(N, K) float32 by the name of the part."""

Answered = Callable[[int], object]
"""Gets how many images a model has just answered."""


def images_asked(plan: Plan, models: SavedModels) -> int:
    """How many images all models together answer for `subject_of`."""
    together = is_together(plan.taught_first, models) + (plan.reference is not None)
    each = sum(len(part.labels) for part in held_out(plan.ground.data).values())
    own = sum(len(saved.weights or "1") for saved in models.values() if not saved.training.headless)
    return each * (together + own)


def subject_of(plan: Plan, models: SavedModels, answered: Answered = lambda images: None) -> Subject:
    """The input of evaluators. The test part is used only here, after all training."""
    ground, student, first = plan.ground, plan.student, plan.taught_first
    networks = {name: network_of(first, saved) for name, saved in models.items()}
    ensemble = ensemble_of(first, networks)
    together = {TOGETHER: ensemble} if ensemble is not None else {}
    reference = {REFERENCE: plan.reference.network(ground)} if plan.reference is not None else {}
    return Subject(
        answers=tuple(_answers(plan, models, together | reference, answered)),
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
        headlines={name: saved.training.ground.headline for name, saved in models.items()},
        own=tuple(answers for saved in models.values() for answers in _on_own_test(plan, saved)),
    )


def _answers(
    plan: Plan, models: SavedModels, others: Mapping[str, nn.Module], answered: Answered
) -> Iterator[Answers]:
    """The answers of networks that have one state, then of the models with each of their weights."""
    for name, network in others.items():
        logits = _logits(plan, network, plan.student.threads, answered)
        yield from _by_part(plan, name, "last", logits)
    for saved in models.values():
        for weights in () if saved.training.headless else saved.weights or ("last",):
            yield from _by_part(plan, saved.name, weights, _kept(plan, saved, weights, answered))


def _by_part(plan: Plan, whose: str, weights: str, logits: Logits) -> Iterator[Answers]:
    for name, part in held_out(plan.ground.data).items():
        yield Answers(whose, weights, name, logits[name], part.labels)


def _kept(plan: Plan, saved: Saved, weights: str, answered: Answered) -> Logits:
    """The logits of a model on the run's held-out parts: those that are kept, else computed ones, which are
    equal in every bit. weights: `last` or `val_best`.
    """
    file = _file_of(plan, saved, weights)
    if file is not None and file.is_file():
        with suppress(KdrunError):  # a damaged file is written anew
            known = read_weights(file)
            answered(sum(map(len, known.values())))
            return known
    logits = _asked(plan, saved, weights, answered)
    if file is not None and logits:
        with suppress(OSError):  # a folder that others may only read
            set_aside(file.parent, file.name)
            save_weights(file, logits, {"of": weights, "kdrun": __version__})
    return logits


def _file_of(plan: Plan, saved: Saved, weights: str) -> Path | None:
    """The file is found by the checksum of the weights, the images and what decides the last bits of a sum:
    machine, versions, threads. None if the answers are not kept: of a student, of weights from elsewhere, of
    a teacher that sees other images or classes than its student.
    """
    training, path = saved.training, saved.weights.get(weights)
    if saved.source not in ("trained", "cache") or training.kind not in KINDS or path is None:
        return None
    digest = saved.record.get("sha256", {}).get(path.stem)
    if digest is None or is_adapted(plan.taught_first, saved):
        return None
    data = plan.ground.data
    key: dict[str, Any] = {
        "weights": digest,
        "data": [data.fingerprint, len(data.validation.labels), len(data.test.labels), list(sight(data))],
        "kdrun": __version__,
        "machine": environment(plan.ground.machine, training.threads),
    }
    return path.with_name(f"answers-{fingerprint(key)}.safetensors")


def _asked(plan: Plan, saved: Saved, weights: str, answered: Answered) -> Logits:
    return _logits(plan, network_of(plan.taught_first, saved, weights), saved.training.threads, answered)


def _logits(plan: Plan, network: nn.Module, threads: int, answered: Answered) -> Logits:
    parts = held_out(plan.ground.data).items()
    return {name: logits_on(plan.ground, network, part, threads, answered) for name, part in parts}


def held_out(data: ImageSet) -> dict[str, Part]:
    """The parts with images that no training sees."""
    parts = {"validation": data.validation, "test": data.test}
    return {name: part for name, part in parts.items() if len(part.labels)}


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


def _kept_out(models: SavedModels) -> Iterator[Answers]:
    """Of student and controls, to training images that stayed out of the transfer set."""
    for name, saved in models.items():
        if name == "student" or is_control(name):
            ground = saved.training.ground
            rows = ground.transfer.kept_out
            part = taken(ground.data.train, rows, ground.data.image_shape[1])
            batches = plain_batches(part, ground.data, ground.machine.device)
            logits = logits_of(load_model(saved, ground.headline), batches())
            yield Answers(name, ground.headline, "kept_out", logits, part.labels)


def network_of(student: Training, saved: Saved, weights: str | None = None) -> nn.Module:
    """A model of a student's run. A teacher with other images or classes is adapted to the student's.

    student: it learns from the teachers. weights: `last` or `val_best`; None: those of the headline.
    """
    training = saved.training
    model = load_model(saved, weights or training.ground.headline)
    model = seen(model, sight(student.ground.data), sight(training.ground.data))
    relation = _relation(student, training)
    if relation is None or training.headless:
        return model
    return nn.Sequential(model, Related(relation).to(student.ground.machine.device))


def is_adapted(student: Training, saved: Saved) -> bool:
    """Whether `network_of` adapts the model to images or classes of the student."""
    training = saved.training
    other_images = sight(student.ground.data) != sight(training.ground.data)
    return other_images or _relation(student, training) is not None


def _relation(student: Training, teacher: Training) -> Relation | None:
    """How a teacher's classes relate to those of its student, if they are others."""
    if student.several is None or teacher not in student.teachers:
        return None
    relation = student.several.asked[student.teachers.index(teacher)].relation
    return None if relation.same else relation


def is_together(student: Training, there: Collection[str]) -> bool:
    """Whether several teachers can answer as one without labels, and all exist. there: names of models."""
    if student.several is None or not student.several.answers_images:
        return False
    return all(teacher.name in there for teacher in student.teachers)


def ensemble_of(student: Training, networks: Mapping[str, nn.Module]) -> nn.Module | None:
    """Several teachers as one network; None if they cannot be one. networks: by the name of the training."""
    several = student.several
    if several is None or not is_together(student, networks):
        return None
    own = [networks[teacher.name] for teacher in student.teachers]
    return Ensemble(own, Together(several.asked, several.how).to(student.ground.machine.device))
