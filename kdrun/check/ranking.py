"""`kdrun check -m teacher=a,b,c`: teachers beside each other on validation, before any student is trained."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from kdrun.check.duration import Paces, of_each
from kdrun.config.schema import recorded
from kdrun.errors import KdrunError
from kdrun.evaluation.accuracy import correct
from kdrun.evaluation.calibration import ece
from kdrun.evaluation.compare import mcnemar_p, pairs
from kdrun.evaluation.cost import macs, params
from kdrun.evaluation.counts import LEVEL, share_interval
from kdrun.figures import percent, plural, roughly, short, three_digits
from kdrun.machine import exact
from kdrun.plan.plan import Plan
from kdrun.plan.training import Training
from kdrun.report import soft
from kdrun.report.statistics import holm
from kdrun.report.tables import columns, grid
from kdrun.stages.ready import refuse_unstartable
from kdrun.stages.saved import saved
from kdrun.stages.subject import logits_on, network_of

HEAD = ("", "teacher", "params", "MACs", "top-1 %", "95 %", "ECE %", "entropy", "1st/2nd")
PROMISE = (
    "These ranks promise little: a more accurate or a better calibrated teacher need not teach better "
    "(capacity gap, label smoothing). Only students show that, on validation: docs/which_teacher.md"
)


class LabelledAnswers(NamedTuple):
    """What a teacher says of the labelled validation images: logits (N, K), labels (N,)."""

    logits: Tensor
    labels: Tensor

    @property
    def right(self) -> int:
        """How many it has right."""
        return int(correct(self.logits, self.labels).sum())


class Candidate(NamedTuple):
    """A teacher. overrides: what it is chosen by. command: trains it. answered: None if it is not trained
    yet; then seconds: how long its training takes here.
    """

    overrides: str
    command: str
    training: Training
    answered: LabelledAnswers | None
    seconds: float = 0.0

    @property
    def name(self) -> str:
        """As it is shown: `resnet56`, or `resnet56 seed=1`."""
        return re.sub(r"(^|(?<= ))(teacher=|teacher\.|recipe\.teacher\.)", "", self.overrides)


def ranking(plans: Mapping[str, Plan], commands: Mapping[str, str], width: int) -> str:
    """The teachers of some plans that differ in them alone, as lines of at most `width` columns.

    plans, and the commands that train their teachers: by the overrides of each. Raises KdrunError for a plan
    without one teacher, or without validation images.
    """
    for plan in plans.values():
        _refuse(plan)
    candidates = _candidates(plans, commands)
    known = [each for each in candidates if each.answered is not None]
    first = next(iter(plans.values()))
    temperature = soft.temperature_of(recorded(first.run)) or 1.0
    return "\n".join(
        [
            _head(first, temperature),
            *([_table(known, temperature, width)] if known else []),
            *_folded(_untrained(candidates), width),
            *_folded(_meaning(known, first, temperature), width),
        ]
    )


def _refuse(plan: Plan) -> None:
    refuse_unstartable(plan)
    if plan.student.peer is not None:
        raise KdrunError("peer", "true", "a peer is trained with the student; there is no teacher to rank")
    if len(plan.teachers) > 1:
        raise KdrunError("teachers", None, "check -m ranks teachers one by one: teacher=a,b,c")
    if not (plan.ground.data.validation.labels >= 0).any():
        problem = "teachers are ranked on validation images, and there are none; never on test images"
        raise KdrunError("dataset.validation", len(plan.ground.data.validation.labels), problem)


def _candidates(plans: Mapping[str, Plan], commands: Mapping[str, str]) -> list[Candidate]:
    """Each teacher once; those with weights first, the most accurate before the others."""
    by_folder: dict[Path, Candidate] = {}
    for name, plan in plans.items():
        if plan.teacher.folder not in by_folder:
            answered = _answered(plan)
            left = of_each([plan.teacher], Paces()) if answered is None else {}
            seconds = left.get(plan.teacher.folder, 0.0)
            candidate = Candidate(name, commands[name], plan.teacher, answered, seconds)
            by_folder[plan.teacher.folder] = candidate
    return sorted(by_folder.values(), key=lambda each: -each.answered.right if each.answered else 1)


def _answered(plan: Plan) -> LabelledAnswers | None:
    """What a teacher with weights answers, with those of its weights and in the numerics of a report."""
    weights, part = saved(plan.teacher, plan.run.fresh), plan.ground.data.validation
    if weights is None:
        return None
    with exact():
        logits = logits_on(plan.ground, network_of(plan.student, weights), part, plan.teacher.threads)
    known = part.labels >= 0
    return LabelledAnswers(logits[known], part.labels[known])


def _head(plan: Plan, temperature: float) -> str:
    data = plan.ground.data
    images = plural(int((data.validation.labels >= 0).sum()), "labelled validation image")
    task = f"{data.name}   student {plan.student.model.name}   {plan.run.method}, T = {temperature:g}"
    return f"teachers for {task}\non {images}; no test image is used\n"


def _table(known: Sequence[Candidate], temperature: float, width: int) -> str:
    body, tied = [], _tied(known)
    for place, each in enumerate(known):
        assert each.answered is not None
        logits, labels = each.answered
        low, high = share_interval(each.answered.right, len(labels))
        row = [
            "*" if place in tied else "",
            each.name,
            *_size(each.training),
            percent(100 * each.answered.right / len(labels)),
            f"{percent(low)}-{percent(high)}",
            percent(ece(logits, labels)),
            three_digits(float(soft.entropy(soft.softened(logits.numpy(), temperature)).mean())),
            three_digits(soft.first_to_second(logits.numpy(), temperature)),
        ]
        body.append(row)
    return grid(columns(HEAD, body, left=(0, 1)), width)


def _size(training: Training) -> tuple[str, str]:
    model = training.built.model
    return short(params(model)), short(macs(model, training.ground.data.image_shape))


def _tied(known: Sequence[Candidate]) -> set[int]:
    """The first, and those that these images do not tell apart from it: McNemar's mid-p, by Holm."""
    answers = [each.answered for each in known if each.answered is not None]
    best = answers[0]
    p = holm([mcnemar_p(pairs(best.logits, other.logits, best.labels)) for other in answers[1:]])
    return {0, *(place for place, value in enumerate(p, 1) if value >= LEVEL)}


def _untrained(candidates: Sequence[Candidate]) -> Iterator[str]:
    for each in candidates:
        if each.answered is None:
            size, work = _size(each.training)
            yield (
                f"not trained yet: {each.name} ({size} parameters, {work} MACs): about "
                f"{roughly(each.seconds)} to train here: {each.command}"
            )


def _meaning(known: Sequence[Candidate], plan: Plan, temperature: float) -> Iterator[str]:
    if known:
        classes = len(plan.ground.data.classes)
        yield "* the most accurate, and those that these images do not tell apart from it (McNemar, Holm)"
        yield (
            f"entropy: of the soft targets at T = {temperature:g}, in nats, mean over images (equal shares "
            f"of {classes} classes: {math.log(classes):.2f})"
        )
        yield (
            "1st/2nd: how many times the largest of the soft targets is the second largest, geometric mean "
            "over images"
        )
        if any(each.training.loaded for each in known):
            yield "A teacher from a file may have been trained on these images; its figures are then too good"
    yield PROMISE


def _folded(lines: Iterator[str], width: int) -> Iterator[str]:
    for line in lines:
        yield from textwrap.wrap(line, width, subsequent_indent="  ", break_on_hyphens=False)
