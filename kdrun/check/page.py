"""`kdrun check`: everything is built and the first step of each training is done on models that are thrown
away; then the plan with its figures is told. Nothing is trained, and nothing is written.
"""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from kdrun.check.measure import AtStart, FirstStep, first_step
from kdrun.config.schema import Run
from kdrun.data.batches import plain_batches
from kdrun.data.images import Part, centre
from kdrun.evaluation.accuracy import logits_of
from kdrun.evaluation.class_order import Standing, standing
from kdrun.evaluation.cost import macs, params
from kdrun.figures import count, file_size, percent, plural, short, three_digits
from kdrun.models.taps import probe
from kdrun.plan.answers import Plan, plan
from kdrun.plan.plan import Assembly, assemble
from kdrun.plan.training import Training
from kdrun.plan.words import header, models_of, steps, wanted
from kdrun.stages.evaluate import is_current
from kdrun.stages.pipeline import check_startable, loaded_teacher
from kdrun.stages.saved import Trained, finished, initial, load_trained
from kdrun.training.checkpoint import read_state

LABEL = 10
"""Columns of the words at the left."""

TRAINING_IMAGES = 1000
"""So many labelled training images at least tell how a loaded teacher does on what it may have seen."""

LOUD = 100.0
"""By which factor a term must pull the student harder than all others together to be called out: several
published methods begin with 30."""


@dataclass(frozen=True)
class Found:
    """What was found out about a run before it starts. teacher: None where its weights are yet to be made.
    told: whether those are there of whom the student learns from. measured: the first step of each training
    that is to be done, and of the one whose terms are shown.
    """

    assembly: Assembly
    teacher: Trained | None
    told: bool
    on_validation: Standing | None
    on_training: Standing | None
    measured: Mapping[str, FirstStep]
    asking: Plan | None

    @property
    def shown(self) -> str:
        """Whose terms are shown: the student's, where it is to be trained."""
        return "student" if "student" in self.assembly.run.stages else "teacher"


def check(run: Run, width: int) -> str:
    """What is known of a run before it starts, as lines of at most `width` columns. Raises KdrunError."""
    assembly = assemble(run)
    check_startable(assembly)
    teacher = _teacher(assembly.chain[0])
    on_validation = on_training = None
    if teacher is not None:
        network = load_trained(assembly, teacher, assembly.headline)
        on_validation = _standing(assembly, network, assembly.data.validation)
        if loaded_teacher(assembly):
            on_training = _standing(assembly, network, _some_training_images(assembly))
    asking = plan(assembly, assembly.teacher_needs) if "student" in run.stages else None
    told = not assembly.uses_teacher or assembly.mutual or _teacher(assembly) is not None
    found = Found(assembly, teacher, told, on_validation, on_training, _measured(assembly), asking)
    blocks = (
        [header(assembly), *steps(assembly)],
        [*_models(assembly), *_teacher_line(found)],
        list(_terms(found)),
        [*_memory(found), *_time(found), *_mind(found)],
    )
    ready = f"{'ready':{LABEL}}nothing was trained, nothing was written"
    lines = [line for block in blocks if block for line in (*block, "")][:-1]
    return "\n".join(part for line in (*lines, ready) for part in _folded(line, width))


def _teacher(pair: Assembly) -> Trained | None:
    """The weights of a pair's teacher, if they are there."""
    training = pair.teacher
    if training.loaded:
        return loaded_teacher(pair)
    record = finished(training, pair.run.fresh)
    if record is None:
        return None
    files = {name: training.folder / f"{name}.safetensors" for name in record["weights"]}
    return Trained(training.role, "cache", files, record, None)


def _standing(assembly: Assembly, network: nn.Module, part: Part) -> Standing | None:
    if not len(part.labels):
        return None
    with assembly.place.autocast()():
        said = logits_of(network, plain_batches(part, assembly.data, assembly.place.device)())
    return standing(said, part.labels)


def _some_training_images(assembly: Assembly) -> Part:
    """Labelled training images, as a model sees them in validation: as many as validate, or more."""
    part, side = assembly.data.train, assembly.image_shape[1]
    rows = torch.nonzero(part.labels >= 0).flatten()
    most = max(TRAINING_IMAGES, len(assembly.data.validation.labels))
    rows = rows[torch.linspace(0, len(rows) - 1, min(most, len(rows))).long()]
    images = part.images[rows]
    return Part(centre(images, side) if images.shape[2] != side else images, part.labels[rows])


def _measured(assembly: Assembly) -> dict[str, FirstStep]:
    """The first step of each training that is to be done; the student's also where it is done."""
    to_do = [t for t in wanted(assembly) if t.role == "student" or _left(assembly, t)]
    pairs = {pair.name: pair for pair in assembly.chain if pair.uses_teacher and not pair.mutual}
    found = {}
    for training in to_do:
        pair = pairs.get(training.role)
        found[training.role] = first_step(training, pair or assembly, _asked(pair) if pair else None)
    return found


def _asked(pair: Assembly) -> nn.Module:
    """Who is asked by the student of a pair: trained, or as its training begins."""
    teacher = _teacher(pair)
    if teacher is None:
        return initial(pair.teacher, pair, warm=True)
    return load_trained(pair, teacher, pair.headline)


def _left(assembly: Assembly, training: Training) -> float:
    """How many epochs of a training are still to be done."""
    if training.loaded:
        return 0
    if finished(training, assembly.run.fresh) is not None:
        return 0
    state = None if assembly.run.fresh else read_state(training.folder / "state.pt")
    return training.epochs - (state["position"][0] if state else 0)


def _models(assembly: Assembly) -> Iterator[str]:
    models, shape = models_of(assembly), assembly.image_shape
    names, roles = max(len(node.name) for node, _ in models.values()), max(LABEL, max(map(len, models)) + 1)
    for role, (node, built) in models.items():
        model = built.model
        shapes = probe(model, shape)
        stages = " ".join(str(_channels(shapes.layer(f"stage:{i}"))) for i in range(shapes.stages))
        parts = [f"{short(params(model)):>6}", f"{short(macs(model, shape)):>6} MACs", f"stages {stages}"]
        if "embedding" in shapes.layers:
            parts.append(f"embedding {shapes.layer('embedding')[0]}")
        yield f"{role:{roles}}{node.name:{names}}  {'  '.join(parts)}"
    yield f"{'tapped':{LABEL}}{_tapped(assembly)}"


def _channels(shape: tuple[int, ...]) -> int:
    """How many channels a feature map (C, H, W) or a row of tokens (T, D) has."""
    return shape[0] if len(shape) == 3 else shape[-1]


def _tapped(assembly: Assembly) -> str:
    student = " ".join(sorted(assembly.student_needs))
    teacher = " ".join(sorted(assembly.teacher_needs)) or "not asked"
    return f"student {student}; {assembly.teacher.role} {teacher}"


def _teacher_line(found: Found) -> Iterator[str]:
    teacher, standing = found.teacher, found.on_validation
    if teacher is None:
        return
    where = {
        "cache": "trained earlier",
        "checkpoint": f"from {found.assembly.run.teacher.checkpoint}",
        "pretrained": "pretrained",
    }[teacher.source]
    chance = percent(100 / len(found.assembly.data.classes))
    text = f"no validation images to try it on ({where})"
    if standing is not None:
        text = f"{percent(standing.top1)} % of {plural(standing.n, 'validation image')} right"
        text += f" (chance {chance}); {where}"
    yield f"{'teacher':{LABEL}}{text}"


def _terms(found: Found) -> Iterator[str]:
    step = found.measured.get(found.shown)
    if step is None:
        return
    heads = f"{'value at step 0':>15}  {'gradient on ' + found.shown:>19}  weighted"
    yield f"{'term':{LABEL}}{'weight':22}{heads}"
    for term in step.terms:
        figures = f"{three_digits(term.value):>15}  {three_digits(term.gradient):>19}  "
        yield f"{term.name:{LABEL}}{term.weight!s:22}{figures}{three_digits(_pull(term)):>8}"


def _pull(term: AtStart) -> float:
    """The term's gradient with its weight, at the weight's highest."""
    return max(term.weight.start, term.weight.end) * term.gradient


def _memory(found: Found) -> Iterator[str]:
    parts = []
    for role, step in found.measured.items():
        if role == "control" and "student" in found.measured:
            continue
        asked = f" and {file_size(step.told)} for asking the teacher" if step.told else ""
        parts.append(f"training the {role} {file_size(step.kept)}{asked}")
    if found.measured:
        parts.append(f"images {file_size(max(step.images for step in found.measured.values()))}")
    if found.asking is not None and found.asking.bytes:
        parts.append(f"the teacher's answers up to {file_size(found.asking.bytes)} on disk")
    if parts:
        yield f"{'memory':{LABEL}}about: {', '.join(parts)}"


def _time(found: Found) -> Iterator[str]:
    if not found.measured:
        return
    if "evaluate" in found.assembly.run.stages and is_current(found.assembly):
        yield f"{'time':{LABEL}}none: the run was finished earlier, and its report is there"
        return
    seconds = sum(_seconds(found, training) for training in wanted(found.assembly))
    seconds += _evaluation(found.assembly)
    took = ", ".join(f"{role} {three_digits(1000 * s.seconds)} ms" for role, s in found.measured.items())
    place = found.assembly.place.device
    yield f"{'time':{LABEL}}about {roughly(seconds)} on this machine's {place} (one step: {took})"


def _seconds(found: Found, training: Training) -> float:
    """What is left of a training takes; with a table the teacher is asked about each view once."""
    assembly, left = found.assembly, _left(found.assembly, training)
    step = found.measured.get(training.role)
    if step is None or not left:
        return 0.0
    rows = assembly.row_set(training)
    asking = left * rows.steps * step.asking
    if step.asking and found.asking is not None and found.asking.kind == "tabled":
        views = assembly.views.count or 1
        distinct = views * (1 - (1 - 1 / views) ** left)  # of each image, in so many draws
        asking = distinct * rows.steps * step.asking
    validating = left * len(assembly.data.validation.labels) / rows.batch * step.seconds / 3
    return left * rows.steps * (step.seconds - step.asking) + asking + validating


def _evaluation(assembly: Assembly) -> float:
    settings = assembly.run.evaluation
    if "evaluate" not in assembly.run.stages or not settings.latency:
        return 0.0
    devices = 1 + (assembly.place.device.type != "cpu")
    return devices * len(settings.batches) * settings.seconds


def roughly(seconds: float) -> str:
    """`8 s`, `12 min`, `1 h 50 min`, `3 days`: as exact as an estimate is."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(round(minutes, -1 if minutes > 100 else 0), 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{hours / 24:.0f} days"


def _mind(found: Found) -> Iterator[str]:
    """What looks wrong, or cannot be known."""
    if found.teacher is not None:
        for line in _about_teacher(found):
            yield f"{'mind':{LABEL}}{line}"
    if not found.told and "student" in found.measured:
        who = found.assembly.teacher.role
        text = f"the {who} is not trained yet: what its terms say here is of its first weights"
        yield f"{'mind':{LABEL}}{text}"
    step = found.measured.get(found.shown)
    for line in _about_terms(step.terms, found.shown, found.told) if step else ():
        yield f"{'mind':{LABEL}}{line}"


def _about_teacher(found: Found) -> Iterator[str]:
    standing = found.on_validation or found.on_training
    if standing is None:
        return
    if standing.permuted:
        moved = [(a, c) for a, c in enumerate(standing.exchanged) if a != c]
        names = found.assembly.data.classes
        first = ", ".join(f"its {names[a]} is {names[c]}" for a, c in moved[:3])
        yield (
            f"the teacher's classes seem to be in another order: exchanged one to one it would have "
            f"{percent(standing.relabelled)} % right ({first}{' ...' if len(moved) > 3 else ''})"
        )
    elif standing.guesses:
        yield (
            "the teacher only guesses: its head may be random, its images normalised otherwise, or it was "
            "hardly trained"
        )
    if found.on_training is not None:
        yield _seen(found)


def _seen(found: Found) -> str:
    """A loaded teacher may have been trained on any of our images; what its accuracies tell of that."""
    here, there = found.on_validation, found.on_training
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


def _about_terms(terms: tuple[AtStart, ...], role: str, told: bool) -> Iterator[str]:
    """told: whether the teacher is trained; before that, how hard its terms pull says nothing."""
    for term in terms:
        others = sum(_pull(other) for other in terms if other is not term)
        if not math.isfinite(term.value) or not math.isfinite(term.gradient):
            yield f"loss.{term.name} is not finite at step 0"
        elif term.gradient == 0 and term.claims:
            yield f"loss.{term.name} sends no gradient to the {role} at step 0"
        elif told and others > 0 and _pull(term) > LOUD * others:
            yield (
                f"loss.{term.name} pulls the {role} {count(_pull(term) / others)} times as hard as all other "
                f"terms together: are the weights as they are meant?"
            )


def _folded(text: str, width: int) -> Iterator[str]:
    """Lines that are too long continue below their own words."""
    for line in text.split("\n"):
        words = re.match(r"\S*\s{2,}", line)
        indent = " " * (words.end() if words and words.end() <= LABEL else 0)
        yield from textwrap.wrap(line, width, subsequent_indent=indent, break_on_hyphens=False) or [""]
