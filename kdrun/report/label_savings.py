"""How many labels distillation saves, from a sweep over `dataset.labelled`: with how many labels student and
control have the same accuracy.

Formulas: docs/statistics.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kdrun.config.choices import REPEATS
from kdrun.figures import plural
from kdrun.report import sweeps
from kdrun.report.sweeps import JobRecord, Setting

KEY = "dataset.labelled"
DRAWS = 2_000
"""Bootstrap draws for an interval."""

SPLIT = REPEATS.index("dataset.split")

Figures = NDArray[np.float64]


class Curves(NamedTuple):
    """Accuracies on test over the number of labels.

    labels: (P,), rising. images: of the training part, 100 % of the labels. student, control: (P, R) in
    percent, a column for each repeat that all points have. units: (R,) what is resampled: the split of each
    repeat, or its own number if there is one split. varied: what a unit is called.
    """

    labels: Figures
    images: int
    student: Figures
    control: Figures
    units: NDArray[np.int64]
    varied: str

    @property
    def number(self) -> int:
        """How many units there are."""
        return len(np.unique(self.units))


class LabelSaving(NamedTuple):
    """With `labels` labels the student is as accurate as the control with `alone` labels.

    side: 0; or, if the student's accuracy is out of the control's range, 1 (above) or -1 (below), and then
    `alone` is that end of the range. interval: 95 %, of the share of labels saved; None for one repeat.
    outside: the share of the draws that leave the range.
    """

    labels: float
    alone: float
    side: int
    interval: tuple[float, float] | None = None
    outside: float = 0.0

    @property
    def saved(self) -> float:
        """The share of the labels that is saved; below 0 if the student needs more than the control."""
        return 1 - self.labels / self.alone


def curves(jobs: Sequence[JobRecord]) -> Curves | None:
    """The curves of a sweep over the labels alone; None for other sweeps, or with fewer than two points."""
    settings = sweeps.settings(jobs)
    if sweeps.swept(jobs) != (KEY,):
        return None
    there = sorted((point for setting in settings if (point := _counted(setting))), key=lambda p: p[0])
    both = [[sweeps.by_repeat(s, what, "test") for what in ("student", "control")] for *_, s in there]
    common = [r for r in (both[0][0] if both else ()) if all(r in one for two in both for one in two)]
    if len(there) < 2 or not common or len({labels for labels, *_ in there}) < len(there):
        return None
    student, control = (np.array([[two[i][r] for r in common] for two in both]) for i in (0, 1))
    splits = [repeat[SPLIT] for repeat in common]
    several = len(set(splits)) > 1
    units = np.unique(splits, return_inverse=True)[1] if several else np.arange(len(common))
    labels = np.array([float(labels) for labels, *_ in there])
    images = max(images for _, images, _ in there)
    return Curves(labels, images, student, control, units, "split" if several else "seed")


def savings(measured: Curves) -> list[LabelSaving]:
    """One for each number of labels, with its interval: the percentile bootstrap over the units (Efron 1979).

    A drawn unit counts in all points of both curves.
    """
    means = [_savings(measured.labels, measured.student.mean(1), measured.control.mean(1))]
    if measured.number == 1:
        return means[0]
    random = np.random.default_rng(0)
    members = [np.flatnonzero(measured.units == unit) for unit in np.unique(measured.units)]
    drawn = []
    for _ in range(DRAWS):
        columns = np.concatenate([members[i] for i in random.integers(len(members), size=len(members))])
        student, control = measured.student[:, columns].mean(1), measured.control[:, columns].mean(1)
        drawn.append(_savings(measured.labels, student, control))
    return [
        _with_interval(saving, draws)
        for saving, draws in zip(means[0], zip(*drawn, strict=True), strict=True)
    ]


def labels_for(accuracy: float, labels: Figures, control: Figures) -> tuple[float, int]:
    """How many labels the control needs for an accuracy, and the side if that is out of its range.

    labels, control: (P,). The control's curve is made non-decreasing (`rising`). Between two points it is
    linear in the logarithm of the labels. Where it is flat, the fewest labels count.
    """
    levels, logs = rising(control), np.log(labels)
    if accuracy < levels[0]:
        return float(labels[0]), -1
    if accuracy > levels[-1]:
        return float(labels[-1]), 1
    after = int(np.argmax(levels >= accuracy))
    if levels[after] == accuracy:
        return float(labels[after]), 0
    share = (accuracy - levels[after - 1]) / (levels[after] - levels[after - 1])
    return float(np.exp(logs[after - 1] + share * (logs[after] - logs[after - 1]))), 0


def rising(values: Figures) -> Figures:
    """The non-decreasing values nearest in squares: pool adjacent violators (Ayer et al. 1955)."""
    pools: list[tuple[float, int]] = []
    for value in values:
        mean, size = float(value), 1
        while pools and pools[-1][0] > mean:
            before, count = pools.pop()
            mean, size = (before * count + mean * size) / (count + size), count + size
        pools.append((mean, size))
    return np.array([mean for mean, size in pools for _ in range(size)])


def sentences(jobs: Sequence[JobRecord]) -> list[str]:
    """The labels saved: first for the fewest labels whose accuracy is in the control's range, then for the
    others. Empty for other sweeps.
    """
    measured = curves(jobs)
    if measured is None:
        return []
    every = savings(measured)
    first = next((saving for saving in every if saving.side == 0), None)
    if first is None:
        low, high = (_share(measured, labels) for labels in (measured.labels[0], measured.labels[-1]))
        sides = {1: "better", -1: "worse"}
        side = " or ".join(word for number, word in sides.items() if any(s.side == number for s in every))
        return [
            f"no number of labels saved: the distilled students are {side} than every control with {low} to "
            f"{high} % of the labels, on test."
        ]
    others = [_likewise(measured, saving) for saving in every if saving is not first]
    return [_sentence(measured, first), *([f"Likewise {', '.join(others)}."] if others else [])]


def _counted(setting: Setting) -> tuple[int, int, Setting] | None:
    """(labels, training images, setting); None if no job has finished, or if the jobs differ in them."""
    datasets = [report["dataset"] for report in setting.reports]
    numbers = {(data.get("labelled") or data["train"], data["train"]) for data in datasets}
    return (*numbers.pop(), setting) if len(numbers) == 1 else None


def _savings(labels: Figures, student: Figures, control: Figures) -> list[LabelSaving]:
    each = [labels_for(float(accuracy), labels, control) for accuracy in student]
    return [LabelSaving(float(own), *alone) for own, alone in zip(labels, each, strict=True)]


def _with_interval(saving: LabelSaving, draws: Sequence[LabelSaving]) -> LabelSaving:
    low, high = np.percentile([draw.saved for draw in draws], [2.5, 97.5])
    outside = sum(draw.side != 0 for draw in draws) / len(draws)
    return saving._replace(interval=(float(low), float(high)), outside=outside)


def _sentence(measured: Curves, saving: LabelSaving) -> str:
    own, alone = _share(measured, saving.labels), _share(measured, saving.alone)
    equal = f"distilled with {own} % of the labels equals trained alone with {alone} %"
    saved = f"{100 * saving.saved:.0f} % of the labels saved"
    if round(100 * saving.saved) < 0:
        saved = f"no label saved, {100 * (1 / (1 - saving.saved) - 1):.0f} % as many would do alone"
    if saving.interval is None:
        return f"{equal}: {saved} (on test, no interval: one {measured.varied})."
    low, high = (f"{100 * edge:.0f}" for edge in saving.interval)
    over = f"bootstrap over {plural(measured.number, measured.varied)}, on test"
    cut = f"; {100 * saving.outside:.0f} % of the draws leave the range" if saving.outside else ""
    return f"{equal}: {saved} (95 % interval {low} to {high} %, {over}{cut})."


def _likewise(measured: Curves, saving: LabelSaving) -> str:
    sign = {0: "=", 1: "= more than", -1: "= fewer than"}[saving.side]
    return f"{_share(measured, saving.labels)} % {sign} {_share(measured, saving.alone)} %"


def _share(measured: Curves, labels: float) -> str:
    share = 100 * labels / measured.images
    return f"{share:.2g}" if share < 10 else f"{share:.0f}"
