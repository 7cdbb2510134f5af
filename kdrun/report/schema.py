"""report.json, schema 1, and a row of metrics.jsonl: the shapes of what is kept about a run.

A figure that was not measured, or has no meaning, is absent: never 0, never null. That is why most keys are
optional. Evaluators may add figures of their own: `Scores` and `Model.figures` hold any name.

A row of metrics.jsonl, one per stage and epoch:
`{"stage": "student", "epoch": 3, "epochs": 80, "lr": 0.01, "loss": 1.2, "terms": {"hard": 0.8, "soft": 0.4},
"validation": {"top1": 88.1, "nll": 0.41}, "seconds": 0.1}`
With `diagnostics=gradients`, the student's rows also have
`"gradients": {"hard": {"norm": 0.3, "cosine": 1.0}}`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypedDict, cast

SCHEMA = 1

ROLES = ("teacher", "student", "control")
ONE_OF_SEVERAL = r"teacher_\w+"
"""Roles of several teachers; `teacher` is then what they answer together."""
BETWEEN = r"(?:assistant|generation)\d*"
"""Roles between teacher and student: each was taught by the one before, and taught the next."""

Headline = Literal["last", "val_best"]
"""Whose weights the figures are about: of the last epoch, or of the epoch best on validation."""


class Scores(TypedDict, total=False):
    """One model on one part: n images; top1, top5, ece, ece_calibrated in percent; nll in nats;
    `temperature`, fitted on validation, is what `ece_calibrated` divides the logits by."""

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


class Model(TypedDict, total=False):
    """One role: teacher, one of several teachers, student, control, or one in between.

    fingerprint: of its weights. began_from: the pretrained weights or the file that it began from. `bytes` of
    its weights. train_seconds of the training that made it, in whichever run that was. waited: the share of
    them in which it waited for images. companions: folders of the models that were trained in the same loop,
    whose seconds are divided by all. figures: of evaluators, by name, those that are about no images of the
    report's data set. dataset: its own, if that is another. headline: its own, if that is another.
    """

    name: str
    fingerprint: str
    began_from: str
    params: int
    macs: int
    bytes: int
    source: Literal["trained", "cache", "checkpoint", "pretrained", "peer", "together"]
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
    label, absent if all have one; most_frequent: percent of the test images that are of the largest class."""

    name: str
    classes: int
    train: int
    labelled: int
    validation: int
    test: int
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
    """How the teacher was asked: live, ahead, tabled, or peer; images answered, and saved by a table;
    answers: to what they were rounded (fp16), absent where they were not."""

    plan: str
    forwards: int
    forwards_saved: int
    answers: str


class Gradients(TypedDict, total=False):
    """Of `diagnostics=gradients`: epochs measured; of each term the medians of `norm` (of its weighted
    gradient on the student) and `cosine` (to cross-entropy's); dominant: terms that were, in how many epochs.
    """

    epochs: int
    terms: dict[str, dict[str, float]]
    dominant: dict[str, int]


class PoolUse(TypedDict, total=False):
    """Images without labels beside the training part. images: that could be used; used: that the teacher
    chose; left_out: `a.png (test image 7)`, near-duplicates of validation and test images; repeated: how many
    were there already.
    """

    source: str
    fingerprint: str
    images: int
    used: int
    left_out: list[str]
    repeated: int


class Distillation(TypedDict, total=False):
    """terms: the weight of each term, a number or a schedule as text. unlabelled: images without a label that
    the student learned from, absent where there were none. pool: those beside the training part, likewise.
    gradients: where they were asked for."""

    method: str
    temperature: float | str
    alpha: float | str
    terms: dict[str, float | str]
    teacher: TeacherUse
    unlabelled: int
    pool: PoolUse
    gradients: Gradients


class Speedup(TypedDict, total=False):
    """Teacher's p50 over student's; see `kdrun.evaluation.latency.speedup` for what is significant."""

    device: str
    mode: str
    batch: int
    ratio: float
    significant: bool


class Comparison(TypedDict, total=False):
    """Student against control (gain in points with its 95 % interval, McNemar's mid-p, verdict) and
    against teacher (agreement in percent, KL in nats, speed; compression: the teacher's parameters over
    the student's); gap_closed is (student - control) / (teacher - control), in percent if `units`
    says so, else a share, as in reports of earlier versions. learned_from: in a chain, the
    role of the one that taught the student, or peer; agreement and kl_teacher_student are then about that
    one."""

    gain_top1: float
    gain_interval: list[float]
    mcnemar_p: float
    verdict: Literal["better", "worse", "no measurable difference"]
    gap_closed: float
    learned_from: str
    agreement: float
    kl_teacher_student: float
    speedup: list[Speedup]
    compression: float


class _PerClass(TypedDict):
    names: list[str]
    images: list[int]
    right: dict[str, list[int]]


class PerClass(_PerClass, total=False):
    """Of each class with test images: its name, how many there are, how many each role has right. gained:
    those that the student has right and the control wrong; lost: the other way round."""

    gained: list[int]
    lost: list[int]


class Confused(TypedDict):
    """Test images of one class that the student takes for another."""

    truth: str
    answer: str
    images: int


class Environment(TypedDict, total=False):
    """What the run ran on. numerics: how which figures were computed, if training was not in fp32."""

    python: str
    torch: str
    torchvision: str
    device: str
    cpu: str
    threads: int
    precision: str
    platform: str
    numerics: str


class Look(TypedDict, total=False):
    """An earlier evaluation of which the report keeps figures. fingerprint, created, kdrun, environment: as
    in a report, but its own. evaluation: its settings. figures: the figures that are kept, as
    `control/last/test/top1`, `student/latency/cpu/eager/1/32`, `comparison/gain_top1`."""

    fingerprint: str
    created: str
    kdrun: str
    environment: Environment
    evaluation: dict[str, Any]
    figures: list[str]


class Report(TypedDict, total=False):
    """The content of report.json. `command` is what was typed, `created` a time in ISO 8601, `equation`
    one line. folders: of the models that were trained, by role. units: of each figure of an evaluator, by
    name. notes: what could not be measured, and why. earlier: looks that some figures are from, the latest
    first."""

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
    models: dict[str, Model]
    folders: dict[str, str]
    distillation: Distillation
    comparison: Comparison
    per_class: PerClass
    confused: list[Confused]
    environment: Environment
    units: dict[str, str]
    notes: list[str]
    earlier: list[Look]


REQUIRED = ("schema", "kdrun", "label", "headline", "dataset", "seeds", "models")
"""Without these nothing can be drawn."""


def build(**fields: Any) -> Report:
    """A report from its fields (the keys of `Report`, `schema` apart), ready to be written as JSON.

    At any depth, what is None, NaN or infinite and what is an empty dict or list is left out, so that a
    caller may pass on what it does not have; only `config` stays as it is. Raises ValueError for what
    `problems` finds.
    """
    config = {"config": fields.pop("config")} if "config" in fields else {}
    report = {"schema": SCHEMA} | _present(fields) | config
    wrong = problems(report)
    if wrong:
        raise ValueError("; ".join(wrong))
    return cast(Report, report)


PERCENTS = frozenset(("top1", "top5", "ece", "ece_calibrated", "agreement"))
COUNTS = frozenset(("p50_ms", "p95_ms", "params", "n"))
"""Names of figures from 0 to 100, and of those from 0."""


def problems(report: object) -> list[str]:
    """What is wrong with a report as read from JSON, one phrase each; nothing where it can be drawn.

    Unknown keys are allowed: a newer version may add some without changing the schema.
    """
    if not isinstance(report, Mapping):
        return ["is not an object"]
    if report.get("schema") != SCHEMA:
        return [f"has schema {report.get('schema')}, not {SCHEMA}"]
    found = [f"lacks {key}" for key in REQUIRED if key not in report]
    found += [
        f"{key} is not an object" for key in ("dataset", "seeds", "models") if not _is_object(report, key)
    ]
    if found:
        return found
    if report["headline"] not in ("last", "val_best"):
        found.append(f"headline is {report['headline']!r}, not 'last' or 'val_best'")
    models = report["models"]
    known = rf"{'|'.join(ROLES)}|{BETWEEN}|{ONE_OF_SEVERAL}"
    found += [f"models.{role} is no role" for role in models if not re.fullmatch(known, role)]
    found += [] if "student" in models else ["lacks models.student"]
    return found + list(_wrong_figures(report))


def roles(report: Report) -> tuple[str, ...]:
    """The roles of a report: teacher, each of several, those in between, student, control."""
    between = [role for role in report["models"] if role not in ROLES]
    return tuple(role for role in (ROLES[0], *between, *ROLES[1:]) if role in report["models"])


def called(report: Report, role: str) -> str:
    """A role as a reader is told it: the teacher may be a peer, which learned from the student as well, or
    several teachers together.
    """
    names = {"peer": "peer", "together": "teachers"}
    return names.get(report["models"][role].get("source", ""), role.replace("teacher_", "teacher ", 1))


def teachers(report: Report) -> tuple[str, ...]:
    """The roles of several teachers; none if there is one."""
    return tuple(role for role in report["models"] if re.fullmatch(ONE_OF_SEVERAL, role))


def parts(report: Report, role: str) -> Parts:
    """The figures of a role under the headline, by part; a checkpoint, a pretrained model and a peer have one
    state only, which then counts whatever the headline is. Empty where there are none."""
    model = report["models"].get(role, Model())
    chosen = model.get(model.get("headline", report["headline"]))
    if chosen is None and model.get("source") in ("checkpoint", "pretrained", "peer", "together"):
        chosen = model.get("last", model.get("val_best"))
    return chosen if chosen is not None else Parts()


def top1(report: Report, role: str, part: Literal["validation", "test"]) -> float | None:
    """Percent right of a role on a part under the headline, None where it was not measured."""
    return parts(report, role).get(part, Scores()).get("top1")


def gap_closed(report: Report) -> float | None:
    """Percent of the gap between control and teacher that the student closes; None if it closes nothing."""
    closed = report.get("comparison", {}).get("gap_closed", -1.0)
    if report.get("units", {}).get("gap_closed") != "%":
        closed *= 100
    return closed if closed >= 0 else None


def _is_object(report: Mapping[str, Any], key: str) -> bool:
    return isinstance(report.get(key, {}), Mapping)


def _wrong_figures(report: Mapping[str, Any]) -> Iterator[str]:
    """Figures outside of what they can be: a fraction that was taken for a percentage is the likeliest
    mistake."""
    content = {key: value for key, value in report.items() if key != "config"}
    if _is_possible("", content):
        return
    for path, value in _numbers(content):
        name = path.rpartition(".")[2]
        if problem := _problem(name, value):
            yield f"{path} is {value}{problem}".rstrip()


def _is_possible(name: str, value: Any) -> bool:
    """Whether all figures below a key can be. Quick: thousands of reports are read at once."""
    kind = type(value)
    if kind is float or kind is int:
        return not _problem(name, value)
    if kind is dict:
        return all(map(_is_possible, value, value.values()))
    return kind is not list or all(_is_possible("", inner) for inner in value)


def _problem(name: str, value: float) -> str:
    """What is wrong with a figure, besides its value; empty if it can be."""
    if not math.isfinite(value):
        return " "
    if name in PERCENTS:
        return "" if 0 <= value <= 100 else ", not a percentage"
    return " " if value < 0 and name in COUNTS else ""


def _numbers(value: Any, path: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        yield path, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _numbers(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for position, inner in enumerate(value):
            yield from _numbers(inner, f"{path}[{position}]")


def _present(value: Any) -> Any:
    """The same without what is absent; containers that become empty go too."""
    if isinstance(value, Mapping):
        kept = {key: _present(inner) for key, inner in value.items()}
        return {key: inner for key, inner in kept.items() if not _absent(inner)}
    if isinstance(value, (list, tuple)):
        return [inner for inner in map(_present, value) if not _absent(inner)]
    return value


def _absent(value: Any) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    return value is None or (isinstance(value, (Mapping, list)) and not value)
