"""`kdrun check`: the lines of a dry run. Nothing is trained, and nothing is written."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from kdrun.check.duration import first_steps, seconds_left
from kdrun.check.measure import AtStart, FirstStep
from kdrun.config.choices import is_control, shown_role
from kdrun.config.schema import Run
from kdrun.data.batches import batch_size
from kdrun.data.pixel_cache import decoded
from kdrun.evaluation.class_order import Standing
from kdrun.evaluation.cost import bytes_per_image, macs, params
from kdrun.figures import count, file_size, percent, plural, roughly, short, three_digits
from kdrun.models.taps import probe
from kdrun.plan.answers import AnswersPlan, answers_plan
from kdrun.plan.plan import Plan, make_plan
from kdrun.plan.words import header, steps
from kdrun.report.schema import REFERENCE
from kdrun.stages.engines.engine import refuse_unusable
from kdrun.stages.evaluate import is_current
from kdrun.stages.groups import evaluation_seconds
from kdrun.stages.ready import refuse_full_disk, refuse_unstartable, refuse_unwritable
from kdrun.stages.saved import Saved, load_model, saved, status
from kdrun.stages.teacher_notes import (
    answer_notes,
    model_notes,
    reference_notes,
    some_images,
    standing_on,
)
from kdrun.terminal import LABEL, folded, padded, widest

TRAINING_IMAGES = 1000
"""A loaded teacher is tried on at least this many training images, which it may have been trained on."""

LOUD = 100.0
"""A note appears if a term's weighted gradient is this many times as large as all others together. Several
published methods begin at 30.
"""


class Tried(NamedTuple):
    """A teacher that has weights, and its standing on images of its own classes."""

    weights: Saved
    on_validation: Standing | None
    on_training: Standing | None


@dataclass(frozen=True)
class Measured:
    """What is known of a run before it starts.

    teachers: those that have weights. knows: whether all of the student's own teachers have weights. steps:
    the first step of each unfinished training, by name, and of the student's in any case.
    """

    plan: Plan
    teachers: tuple[Tried, ...]
    knows: bool
    steps: Mapping[str, FirstStep]
    answers: AnswersPlan | None

    @property
    def shown(self) -> str:
        """The role whose terms are shown: the student, unless only the teacher is trained."""
        return "student" if "student" in self.plan.run.stages else "teacher"


def check(run: Run, width: int) -> Iterator[str]:
    """What is known of a run before it starts, as lines of at most `width` columns, each as soon as it is
    known. Raises KdrunError.
    """
    before = set(decoded(Path(run.data_dir)))
    refuse_unusable(run)
    plan = make_plan(run)
    refuse_unstartable(plan)
    refuse_unwritable(plan)
    refuse_full_disk([plan])
    yield from (header(plan, width), *steps(plan, status, width), "")
    for line in _looked_at(plan):
        yield folded(line, width)
    kept = [place for place in decoded(Path(run.data_dir)) if place not in before]
    but = f" but the decoded pictures, which the run reads: {kept[0].parent}" if kept else ""
    yield folded(f"{'ready':{LABEL}}check passed; nothing was trained or written{but}", width)


def _looked_at(plan: Plan) -> Iterator[str]:
    yield from _models(plan)
    measured = _measured(plan)
    yield from map(_teacher_line, measured.teachers)
    for block in (_terms(measured), (*_memory(measured), *_time(measured), *_notes(measured))):
        if lines := list(block):
            yield from ("", *lines)


def _measured(plan: Plan) -> Measured:
    run, student = plan.run, plan.student
    weights = [] if student.peer else [saved(teacher, run.fresh) for teacher in plan.teachers]
    teachers = tuple(_tried(teacher) for teacher in weights if teacher is not None)
    knows = all(saved(each, run.fresh) is not None for each in student.teachers)
    answers = answers_plan(student) if "student" in run.stages else None
    return Measured(plan, teachers, knows, first_steps(plan), answers)


def _tried(teacher: Saved) -> Tried:
    """A teacher on the images of its own classes."""
    ground = teacher.training.ground
    if teacher.training.headless:
        return Tried(teacher, None, None)
    network, on_training = load_model(teacher, ground.headline), None
    on_validation = standing_on(ground, network, ground.data.validation)
    if teacher.training.loaded:
        most = max(TRAINING_IMAGES, len(ground.data.validation.labels))
        on_training = standing_on(ground, network, some_images(ground.data.train, ground.data, most))
    return Tried(teacher, on_validation, on_training)


def _models(plan: Plan) -> Iterator[str]:
    chain = plan.chain
    names = widest(training.model.name for training in chain)
    roles = max(LABEL, *(len(training.name) + 1 for training in chain))
    for training in chain:
        model, shape = training.built.model, training.ground.data.image_shape
        shapes = probe(model, shape)
        stages = " ".join(str(_channels(shapes.layer(f"stage:{i}"))) for i in range(shapes.stages))
        parts = [f"{short(params(model)):>6}", f"{short(macs(model, shape)):>6} MACs", f"stages {stages}"]
        if "embedding" in shapes.layers:
            parts.append(f"embedding {shapes.layer('embedding')[0]}")
        yield f"{training.name:{roles}}{padded(training.model.name, names)}  {'  '.join(parts)}"
    if (other := plan.reference) is not None:
        model = other.load()
        size = f"{short(params(model)):>6}  {short(macs(model, other.sight.shape)):>6} MACs"
        yield f"{REFERENCE:{roles}}{padded(other.name, names)}  {size}  {other.origin}"
    yield f"{'layers':{LABEL}}{_tapped(plan)}"


def _channels(shape: tuple[int, ...]) -> int:
    """How many channels a feature map (C, H, W) or a row of tokens (T, D) has."""
    return shape[0] if len(shape) == 3 else shape[-1]


def _tapped(plan: Plan) -> str:
    student = " ".join(sorted(frozenset().union(*(mix.needs.student for mix in plan.student.mixes))))
    teacher = " ".join(sorted(plan.student.teacher_needs)) or "not read"
    return f"student {student}; {_whom(plan)} {teacher}"


def _teacher_line(tried: Tried) -> str:
    teacher, standing = tried.weights, tried.on_validation
    where = {
        "cache": "trained earlier",
        "checkpoint": f"from {teacher.training.model.checkpoint}",
        "pretrained": "pretrained",
    }[teacher.source]
    chance = percent(100 / len(teacher.training.ground.data.classes))
    text = f"no validation images to try it on ({where})"
    if teacher.training.headless:
        text = f"no classes, so nothing to be right about; {where}"
    elif standing is not None:
        text = f"{percent(standing.top1)} % of {plural(standing.n, 'validation image')} right"
        text += f" (chance {chance}); {where}"
    return f"{teacher.name:{max(LABEL, len(teacher.name) + 1)}}{text}"


def _whom(plan: Plan) -> str:
    return " and ".join(teacher.name for teacher in plan.student.teachers) or plan.teacher.name


def _terms(measured: Measured) -> Iterator[str]:
    step = measured.steps.get(measured.shown)
    if step is None:
        return
    heads = f"{'value at step 0':>15}  {'gradient on ' + measured.shown:>19}  weighted"
    yield f"{'term':{LABEL}}{'weight':22}{heads}"
    for term in step.terms:
        figures = f"{three_digits(term.value):>15}  {three_digits(term.gradient):>19}  "
        yield f"{padded(term.name, LABEL)}{term.weight!s:22}{figures}{three_digits(_pull(term)):>8}"


def _pull(term: AtStart) -> float:
    """The term's gradient times its weight; of a scheduled weight, its maximum."""
    return max(term.weight.start, term.weight.end) * term.gradient


def _memory(measured: Measured) -> Iterator[str]:
    parts = []
    for role, step in measured.steps.items():
        if is_control(role) and "student" in measured.steps:
            continue
        asked = f" and {file_size(step.told)} for the teacher" if step.told else ""
        parts.append(f"training the {role} {file_size(step.kept)}{asked}")
    if measured.steps:
        parts.append(f"images {file_size(max(step.images for step in measured.steps.values()))}")
    if evaluating := _evaluating(measured.plan):
        parts.append(f"evaluating {file_size(evaluating)}")
    if measured.answers is not None and measured.answers.bytes:
        parts.append(f"cached answers up to {file_size(measured.answers.bytes)} on disk")
    if parts:
        yield f"{'memory':{LABEL}}about: {', '.join(parts)}"


def _evaluating(plan: Plan) -> int:
    """Bytes of images and activations of the largest batch that is evaluated, weights not included."""
    count, kind = len(plan.ground.data.test.labels), plan.ground.machine.device.type
    largest = 0
    for training in {id(each.built.model): each for each in plan.trainings if not each.headless}.values():
        shape = training.ground.data.image_shape
        size = bytes_per_image(training.built.model, shape)
        largest = max(largest, size * min(count, batch_size(math.prod(shape), size, kind)))
    return largest


def _time(measured: Measured) -> Iterator[str]:
    if not measured.steps:
        return
    if "evaluate" in measured.plan.run.stages and is_current(measured.plan):
        yield f"{'time':{LABEL}}none: the run was finished earlier, and its report is there"
        return
    left = {
        training.name: seconds_left(training, measured.steps[training.name].pace, measured.answers)
        for training in measured.plan.concerned
        if training.name in measured.steps
    }
    seconds = sum(left.values()) + evaluation_seconds(measured.plan)
    each = ((shown_role(role), 1000 * step.pace.seconds) for role, step in measured.steps.items())
    took = ", ".join(f"{role} {three_digits(one)} ms" for role, one in each)
    place = measured.plan.ground.machine.device
    yield f"{'time':{LABEL}}about {roughly(seconds)} on this machine's {place} (one step: {took})"
    controls = [f"{shown_role(name)} {roughly(left[name])}" for name in left if is_control(name)]
    if len(controls) > 1:
        yield f"{'':{LABEL}}of these {', '.join(controls)}"


def _notes(measured: Measured) -> Iterator[str]:
    for line in (*model_notes(measured.plan), *reference_notes(measured.plan)):
        yield f"{'note':{LABEL}}{line}"
    for line in (line for tried in measured.teachers for line in _about_teacher(tried)):
        yield f"{'note':{LABEL}}{line}"
    if not measured.knows and "student" in measured.steps:
        who = _whom(measured.plan)
        verb, whose = ("are", "their") if len(measured.plan.student.teachers) > 1 else ("is", "its")
        text = f"the {who} {verb} untrained, so {whose} loss terms are not meaningful yet"
        yield f"{'note':{LABEL}}{text}"
    step = measured.steps.get(measured.shown)
    for line in _about_terms(step.terms, measured.shown, measured.knows) if step else ():
        yield f"{'note':{LABEL}}{line}"


def _about_teacher(tried: Tried) -> Iterator[str]:
    if tried.weights.training.headless:
        yield _seen(None, None)
        return
    stands = tried.on_validation or tried.on_training
    yield from answer_notes(tried.weights.name, stands, tried.weights.training.ground.data.classes)
    if tried.on_training is not None:
        yield _seen(tried.on_validation, tried.on_training)


def _seen(here: Standing | None, there: Standing | None) -> str:
    """A loaded teacher may have been trained on any of our images: what its accuracies say about that."""
    doubt = "whether it was trained on our validation or test images cannot be known here"
    if here is None or there is None:
        return f"the teacher is loaded: {doubt}"
    pair = f"{percent(here.top1)} % of validation and {percent(there.top1)} % of training images right"
    share = there.top1 / 100
    noise = 200 * math.sqrt(max(share * (1 - share), 1 / there.n) * (1 / here.n + 1 / there.n))
    if here.top1 >= there.top1 - noise and not (here.guesses or here.permuted):
        return (
            f"the teacher is loaded and has {pair}: as good on both, so it may have been trained on both "
            "(or on neither). If it was, its figures and the student's are too good"
        )
    return f"the teacher is loaded and has {pair}; {doubt}"


def _about_terms(terms: tuple[AtStart, ...], role: str, is_trained: bool) -> Iterator[str]:
    """Notes on terms. is_trained: whether the teacher is; before that, its gradients mean nothing."""
    for term in terms:
        others = sum(_pull(other) for other in terms if other is not term)
        if not math.isfinite(term.value) or not math.isfinite(term.gradient):
            yield f"loss.{term.name} is not finite at step 0"
        elif term.gradient == 0 and term.claims:
            yield f"loss.{term.name} sends no gradient to the {role} at step 0"
        elif is_trained and others > 0 and _pull(term) > LOUD * others:
            yield (
                f"loss.{term.name} has {count(_pull(term) / others)} times the weighted gradient on the "
                f"{role} of all other terms: are the weights right?"
            )
