"""report.json, schema 1, and a row of metrics.jsonl: the shapes of what is kept about a run.

A figure that was not measured, or has no meaning, is absent: never 0, never null. So most keys are optional.
Evaluators may add figures of their own: `Scores` and `Model.figures` can have any name.

A row of metrics.jsonl, one per stage and epoch:
`{"stage": "student", "epoch": 3, "epochs": 80, "lr": 0.01, "loss": 1.2, "terms": {"hard": 0.8, "soft": 0.4},
"validation": {"top1": 88.1, "nll": 0.41}, "seconds": 0.1}`
With `diagnostics=gradients`, the student's rows also have
`"gradients": {"hard": {"norm": 0.3, "cosine": 1.0}}`.
"""

from __future__ import annotations

import re
from typing import Any, Literal, TypedDict

from kdrun.config.choices import CONTROLS, PLAIN, is_control, shown_role
from kdrun.evaluation.counts import AsGood, Verdict
from kdrun.figures import count

SCHEMA = 1

REFERENCE = "reference"
"""The role of the trained model that the student is to replace."""
ROLES = ("teacher", "student", "control", REFERENCE)
ONE_OF_SEVERAL = r"teacher_\w+"
"""Roles of several teachers; the role `teacher` is then their common answer."""
BETWEEN = r"(?:assistant|generation)\d*"
"""Roles between teacher and student: each learned from the one before, and taught the next."""

Headline = Literal["last", "val_best"]
"""The weights that the figures are of: the last epoch's, or those of the epoch best on validation."""


PartName = Literal["validation", "test"]


class Scores(TypedDict, total=False):
    """One model on one part: n images; top1, top5, ece, ece_calibrated in percent; nll in nats. For
    `ece_calibrated` the logits are divided by `temperature`, which is fitted on validation."""

    n: int
    top1: float
    top5: float
    nll: float
    ece: float
    temperature: float
    ece_calibrated: float


class Parts(TypedDict, total=False):
    """The figures of one headline, by part."""

    validation: Scores
    test: Scores


class Latency(TypedDict):
    """Milliseconds per batch on a device; images_per_s at the median; n samples."""

    device: str
    mode: Literal["eager", "graph", "compiled"]
    threads: int
    batch: int
    p50_ms: float
    p95_ms: float
    images_per_s: float
    n: int


class ModelReport(TypedDict, total=False):
    """One role: teacher, one of several teachers, student, control, reference, or one in between.

    fingerprint: of its weights. source: run: a model of another run. began_from: the pretrained weights or
    the file that it began from. `bytes` of its weights. train_seconds of the training that made it, in
    whichever run that was. waited: the share of them in which it waited for images. companions: folders of
    the models that were trained in the same loop, whose seconds are divided by all. figures: of evaluators,
    by name, those that are about no images of the report's data set. dataset: its own, if that is another.
    headline: its own, if that is another.
    """

    name: str
    fingerprint: str
    began_from: str
    params: int
    macs: int
    bytes: int
    source: Literal["trained", "cache", "checkpoint", "pretrained", "peer", "together", "run"]
    epochs: int
    train_seconds: float
    waited: float
    companions: list[str]
    last: Parts
    val_best: Parts
    latency: list[Latency]
    figures: dict[str, float]
    dataset: Dataset
    headline: Headline


class Dataset(TypedDict, total=False):
    """name; number of classes; images of each part; image_shape (C, H, W); labelled: training images with a
    label, absent if all have one; test_of: images of the whole test part if `test` are some of them only;
    most_frequent: percent of the test images that are of the largest class."""

    name: str
    classes: int
    train: int
    labelled: int
    validation: int
    test: int
    test_of: int
    image_shape: list[int]
    most_frequent: float


class Seeds(TypedDict, total=False):
    """run: student and control; teacher; label: which images carry labels; split: which image is in which
    part."""

    run: int
    teacher: int
    label: int
    split: int


class TeacherUse(TypedDict, total=False):
    """plan: how the teacher was asked: live, ahead, tabled (cached), or peer. forwards: images that it
    answered; forwards_saved: by a table. answers: what they were rounded to (fp16); absent if nothing."""

    plan: str
    forwards: int
    forwards_saved: int
    answers: str


class Gradients(TypedDict, total=False):
    """Of `diagnostics=gradients`. epochs: how many were measured. terms: for each term the medians of `norm`
    (of its weighted gradient on the student) and `cosine` (to the gradient of cross-entropy). dominant: for
    each term that dominated, in how many epochs.
    """

    epochs: int
    terms: dict[str, dict[str, float]]
    dominant: dict[str, int]


class PoolUse(TypedDict, total=False):
    """Unlabelled images beside the training part. images: that could be used; used: that the teacher chose.
    left_out: near-duplicates of validation and test images, as `a.png (test image 7)`. repeated: how many are
    in the training part already.
    """

    source: str
    fingerprint: str
    images: int
    used: int
    left_out: list[str]
    repeated: int


class Distillation(TypedDict, total=False):
    """terms: the weight of each term, a number or a schedule as text. unlabelled: how many images without a
    label the student learned from; absent if none. pool: those beside the training part; absent if none.
    gradients: with `diagnostics=gradients`. labels_unread: the labels of the training part, which a control
    learns from, if the student's loss reads none. taught_apart: if its teachers learned these one by one,
    each for some of the classes: the control is then an upper bound."""

    method: str
    temperature: float | str
    alpha: float | str
    terms: dict[str, float | str]
    teacher: TeacherUse
    unlabelled: int
    labels_unread: int
    taught_apart: bool
    pool: PoolUse
    gradients: Gradients


class Speedup(TypedDict, total=False):
    """Teacher's p50 over student's; see `kdrun.evaluation.latency.speedup` for what is significant."""

    device: str
    mode: str
    batch: int
    ratio: float
    significant: bool


class AgainstReference(TypedDict, total=False):
    """Student against the model that it is to replace, in points of top-1 on test: difference, the least and
    the most that it may be (95 % each), and the margin within which it is as good. speedup: as over the
    teacher.
    """

    difference: float
    at_least: float
    at_most: float
    margin: float
    verdict: AsGood
    speedup: list[Speedup]


class Against(TypedDict, total=False):
    """The student against one of several controls, as in `Comparison`; p and verdict by Holm's correction
    over all of them."""

    gain_top1: float
    gain_interval: list[float]
    mcnemar_p: float
    verdict: Verdict


class Comparison(Against, total=False):
    """Student against control (gain in points with its 95 % interval, McNemar's mid-p, verdict) and
    against teacher (agreement in percent, KL in nats, speed; compression: the teacher's parameters over
    the student's); gap_closed is (student - control) / (teacher - control), in percent if `units`
    says so, else a share, as in reports of earlier versions. learned_from: in a chain, the
    role of the one that taught the student, or peer; agreement and kl_teacher_student are then about that
    one. control: the role of the control, absent if it is the plain one and there is no other. chosen_by:
    of several the strongest on `validation`, or the first (`order`) without validation images. controls: each
    of several by its role. reference: against the model that the student is to replace."""

    control: str
    chosen_by: Literal["validation", "order"]
    controls: dict[str, Against]
    gap_closed: float
    learned_from: str
    agreement: float
    kl_teacher_student: float
    speedup: list[Speedup]
    compression: float
    reference: AgainstReference


class Int8Model(TypedDict, total=False):
    """Student or control in one form. top1 in percent, on the whole test part; validation: there. change:
    from its own fp32, in points, with its paired 95 % interval and verdict. Of a file: its name, `bytes`,
    layers, how many of them ran with integers (in_integers), and how far its answers on test are from those
    of the fake quantisation: differ, the largest difference of logits; other_class, images.
    """

    top1: float
    interval: list[float]
    validation: float
    change: float
    change_interval: list[float]
    verdict: Verdict
    file: str
    bytes: int
    layers: int
    in_integers: int
    differ: float
    other_class: int


class Int8(TypedDict, total=False):
    """Student and control in 8 bits. models: by role, then by form (FORMS of `kdrun.report.int8`).

    fingerprint: of the trainings and test images. bits: of weights. images: that gave the ranges. epochs: of
    the trainings for 8 bits. own_loss: whether the teacher taught them by the run's own loss. gains: student
    against control in each form. chosen: the form of each that `chosen` is about, by chosen_by (validation,
    or order). gain: student against control in these, with change from the gain in fp32 and its interval.
    """

    fingerprint: str
    bits: int
    images: int
    epochs: int
    own_loss: bool
    models: dict[str, dict[str, Int8Model]]
    gains: dict[str, Against]
    chosen: dict[str, str]
    chosen_by: Literal["validation", "order"]
    gain: Against
    change: float
    change_interval: list[float]


class _PerClass(TypedDict):
    names: list[str]
    images: list[int]
    right: dict[str, list[int]]


class PerClass(_PerClass, total=False):
    """For each class with test images: its name, its images, and how many of them each role has right.
    gained: images that the student has right and the control wrong; lost: the other way round."""

    gained: list[int]
    lost: list[int]


class Confused(TypedDict):
    """Test images of one class that the student takes for another."""

    truth: str
    answer: str
    images: int


class Environment(TypedDict, total=False):
    """Hardware and software of the run. numerics: precision of each figure, if training was not in fp32.
    peak_memory: the most bytes that the process has held when the figures were known."""

    python: str
    torch: str
    torchvision: str
    device: str
    cpu: str
    threads: int
    precision: str
    platform: str
    numerics: str
    peak_memory: int


class Look(TypedDict, total=False):
    """An earlier evaluation that the report keeps figures of. fingerprint, created, kdrun, environment: as in
    a report, but its own. evaluation: its settings. figures: the kept ones, such as `control/last/test/top1`,
    `student/latency/cpu/eager/1/32`, `comparison/gain_top1`."""

    fingerprint: str
    created: str
    kdrun: str
    environment: Environment
    evaluation: dict[str, Any]
    figures: list[str]


class Report(TypedDict, total=False):
    """The content of report.json. command: what was typed. created: a time in ISO 8601. equation: one line.
    folders: of the models that were trained, by role. units: of each figure of an evaluator, by name. notes:
    what could not be measured, and why. earlier: the looks that kept figures are from, the latest first."""

    schema: int
    kdrun: str
    label: str
    fingerprint: str
    created: str
    command: str
    config: dict[str, Any]
    equation: str
    dataset: Dataset
    seeds: Seeds
    headline: Headline
    models: dict[str, ModelReport]
    folders: dict[str, str]
    distillation: Distillation
    comparison: Comparison
    int8: Int8
    per_class: PerClass
    confused: list[Confused]
    environment: Environment
    units: dict[str, str]
    notes: list[str]
    earlier: list[Look]


def roles(report: Report) -> tuple[str, ...]:
    """The roles of a report: teacher, each of several, those in between, student, controls, reference."""
    between = [role for role in report["models"] if role not in ROLES and not is_control(role)]
    every = (ROLES[0], *between, ROLES[1], *controls(report), REFERENCE)
    return tuple(role for role in every if role in report["models"])


def controls(report: Report) -> tuple[str, ...]:
    """The roles of all controls, in the order of CONTROLS."""
    there = [role for role in report["models"] if is_control(role)]
    return tuple(sorted(there, key=lambda role: (*CONTROLS, named_control(role)).index(named_control(role))))


def named_control(role: str) -> str:
    """A control as it is asked for: `plain`, `smoothed`."""
    return "plain" if role == PLAIN else shown_role(role)


def strongest(report: Report) -> str:
    """The role of the control that gain and verdict are about."""
    return report.get("comparison", {}).get("control", PLAIN)


def is_bound(report: Report) -> bool:
    """Whether the control learned jointly from the labels that the student's teachers learned one by one."""
    return report.get("distillation", {}).get("taught_apart", False)


def compared(report: Report) -> set[str]:
    """The roles of all controls that the student was compared with; empty if it was with none."""
    comparison = report.get("comparison", {})
    if "gain_top1" not in comparison:
        return set()
    return set(comparison.get("controls", {})) or {strongest(report)}


def called(report: Report, role: str) -> str:
    """A role as a reader is told it: the teacher may be a peer, which learned from the student as well, or
    several teachers together; beside other controls, `control` is the plain one.
    """
    names = {"peer": "peer", "together": "teachers"}
    if is_control(role) and controls(report) != (PLAIN,):
        return named_control(role)
    return names.get(report["models"][role].get("source", ""), role.replace("teacher_", "teacher ", 1))


def teachers(report: Report) -> tuple[str, ...]:
    """The roles of several teachers; empty if there is one."""
    return tuple(role for role in report["models"] if re.fullmatch(ONE_OF_SEVERAL, role))


def parts(report: Report, role: str) -> Parts:
    """The figures of a role under the headline, by part; empty if there are none. A checkpoint, a pretrained
    model and a peer have only one state, which counts for both headlines."""
    model = report["models"].get(role, ModelReport())
    chosen = model.get(model.get("headline", report["headline"]))
    if chosen is None and model.get("source") in ("checkpoint", "pretrained", "peer", "together", "run"):
        chosen = model.get("last", model.get("val_best"))
    return chosen if chosen is not None else Parts()


def data_name(report: Report) -> str:
    """`mnist`, or `mnist (test 500 of 10,000)` if not all test images were used."""
    dataset = report["dataset"]
    whole = f" (test {count(dataset['test'])} of {count(dataset['test_of'])})" if "test_of" in dataset else ""
    return dataset.get("name", "") + whole


def top1(report: Report, role: str, part: PartName) -> float | None:
    """The top-1 of a role on a part under the headline, in percent; None if it was not measured."""
    return parts(report, role).get(part, Scores()).get("top1")


def gap_closed(report: Report) -> float | None:
    """Percent of the gap between control and teacher that the student closes; None if it closes nothing."""
    closed = report.get("comparison", {}).get("gap_closed", -1.0)
    if report.get("units", {}).get("gap_closed") != "%":
        closed *= 100
    return closed if closed >= 0 else None
