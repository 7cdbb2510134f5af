"""Notes on models that look wrong: on teachers, before a student learns from them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress

import torch
from torch import nn

from kdrun.data.batches import plain_batches
from kdrun.data.images import ImageSet, Part
from kdrun.data.overlap import overlap
from kdrun.data.picture import centre
from kdrun.errors import KdrunError
from kdrun.evaluation.accuracy import logits_of
from kdrun.evaluation.class_order import Standing, standing
from kdrun.evaluation.cost import bytes_per_image
from kdrun.evaluation.subject import Subject
from kdrun.figures import percent, plural
from kdrun.plan.ground import Ground
from kdrun.plan.plan import Plan
from kdrun.plan.training import Training
from kdrun.report.schema import REFERENCE
from kdrun.stages.saved import Saved, class_note, load_model, saved

LOOKED_AT = 2000
"""The most images that a teacher is tried on before a student learns from it."""


def model_notes(plan: Plan) -> Iterator[str]:
    """A note for each model whose file has other class names than the data set, and for each teacher that was
    trained on images that the student holds out.
    """
    trainings = (*plan.chain, *filter(None, [plan.student.peer]))
    yield from dict.fromkeys(note for training in trainings if (note := class_note(training)))
    for teacher in plan.teachers:
        ours, own = plan.ground, teacher.ground
        if not teacher.loaded and own.run.dataset != ours.run.dataset:
            for part, shared in overlap(own.data, ours.data).items():
                if shared:
                    images = plural(shared, f"{part} image")
                    yield f"the {teacher.name} is trained on {images} of the student's: too good there"


def teacher_notes(trainings: Iterable[Training]) -> Iterator[str]:
    """Notes on the answers of the trainings' teachers, if they have weights."""
    trained = [training for training in trainings if not training.ground.run.quick]  # in a trial all guess
    every = (teacher for training in trained for teacher in training.teachers)
    teachers = {teacher.folder: teacher for teacher in every if not teacher.headless}
    for teacher in teachers.values():
        with suppress(KdrunError):  # a training that reads it raises this
            weights = saved(teacher)
            if weights is not None:
                yield from _at_a_glance(weights)


def _at_a_glance(teacher: Saved) -> Iterator[str]:
    """Notes on a teacher's answers to some validation images, or else training images."""
    ground = teacher.training.ground
    part = next(part for part in (ground.data.validation, ground.data.train) if len(part.labels))
    network = load_model(teacher, ground.headline)
    stands = standing_on(ground, network, some_images(part, ground.data, LOOKED_AT))
    yield from answer_notes(teacher.name, stands, ground.data.classes)


def evaluated_notes(plan: Plan, subject: Subject) -> Iterator[str]:
    """What is wrong with the answers of the teacher, of a student from a file, or of the reference, as they
    were evaluated.
    """
    looked = [subject.taught_by] if plan.student.teachers and not plan.run.quick else []
    looked += ["student"] if plan.student.loaded else []
    looked += [REFERENCE] if plan.reference is not None else []
    for name in looked:
        answers = subject.on_part(name, "validation") or subject.on_test(name)
        if answers is not None and answers.whole:
            stands = standing(answers.logits, answers.labels)
            yield from answer_notes(name, stands, subject.classes)


def purpose_notes(plan: Plan) -> Iterator[str]:
    """Notes on how to read the figures of a student of several teachers."""
    student, several = plan.student, plan.taught_first.several
    if several is None:
        return
    known = several.how is not None and several.how.weights == "known"
    if known:
        yield (
            "combine.weights=known chooses the teacher by an image's label; this cannot be used on test "
            "images, so the teachers together have no figures"
        )
    reads_labels = any(not term.loss.needs.teacher for mix in student.mixes for term in mix.terms)
    if several.blocks and plan.controls and not (known or reads_labels):
        labels = plural(int((plan.ground.data.train.labels >= 0).sum()), "label")
        yield (
            f"the student learned from no label, its control from {labels} of all classes: an upper bound, "
            "which shows what the labels are worth"
        )


def reference_notes(plan: Plan) -> Iterator[str]:
    """What cannot be known, or looks wrong, of the model that the student is to replace."""
    reference, ours = plan.reference, plan.run.dataset
    if reference is None:
        return
    theirs = reference.dataset
    if theirs is None:
        yield "whether the reference was trained on our validation or test images cannot be known here"
        return
    own_test = ours["test"] is None and ours["source"] == "torchvision"  # which no split draws
    drawn = [(key, theirs.get(key), ours[key]) for key in ("source", "split", "test")]
    if not own_test and (changed := [f"{key} {a}, here {b}" for key, a, b in drawn if a != b]):
        yield (
            f"the reference learned from other images ({'; '.join(changed)}): test images may be among them, "
            "and its accuracy is then too high"
        )


def answer_notes(name: str, stands: Standing | None, classes: tuple[str, ...]) -> Iterator[str]:
    """A note if the answers of a model are no better than chance, or if its classes are in another order."""
    if stands is None:
        return
    if stands.permuted:
        moved = [(answer, true) for answer, true in enumerate(stands.exchanged) if answer != true]
        first = ", ".join(f"its {classes[answer]} is {classes[true]}" for answer, true in moved[:3])
        yield (
            f"the {name}'s classes seem to be in another order: reordered, it would have "
            f"{percent(stands.relabelled)} % right ({first}{' ...' if len(moved) > 3 else ''})"
        )
    elif stands.guesses:
        yield (
            f"the {name} only guesses ({percent(stands.top1)} % right): its head may be random, its images "
            "normalised otherwise, or it was hardly trained"
        )


def standing_on(ground: Ground, network: nn.Module, part: Part) -> Standing | None:
    """A model's standing on the labelled images of a part; None if there are none."""
    if not len(part.labels):
        return None
    image_bytes = bytes_per_image(network, ground.data.image_shape)
    batches = plain_batches(part, ground.data, ground.machine.device, image_bytes)
    with ground.machine.autocast()():
        logits = logits_of(network, batches())
    return standing(logits, part.labels)


def some_images(part: Part, data: ImageSet, most: int) -> Part:
    """At most `most` labelled images of a part, as a model sees them in validation."""
    side = data.image_shape[1]
    rows = torch.nonzero(part.labels >= 0).flatten()
    rows = rows[torch.linspace(0, len(rows) - 1, min(most, len(rows))).long()]
    images = part.images[rows]
    return Part(centre(images, side) if images.shape[2] != side else images, part.labels[rows])
