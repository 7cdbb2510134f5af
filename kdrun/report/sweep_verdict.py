"""The gains of a sweep on test over its seeds or splits, and its selection bias; docs/statistics.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from kdrun.config.choices import REPEATS
from kdrun.evaluation.counts import as_good
from kdrun.figures import percent, plural
from kdrun.nested import grouped, known
from kdrun.report import sweeps
from kdrun.report.choosing import Winner, winner, winner_of_means
from kdrun.report.replacing import Bounds, claim
from kdrun.report.schema import REFERENCE, Report, is_bound, strongest
from kdrun.report.statistics import GainEvidence, compare, holm_corrected, one_sided, overlapping_splits
from kdrun.report.sweeps import Choice, Setting, What
from kdrun.report.verdict import JOINT, TAUGHT

SPLIT = REPEATS.index("dataset.split")


def comparison(setting: Setting, what: What = "gain") -> GainEvidence | None:
    """A setting's students against their controls on test, paired by seed; None without a gain. what: gain,
    or int8 for that in 8 bits.
    """
    return over_repeats(setting, sweeps.by_repeat(setting, what, "test"))


def over_repeats(setting: Setting, gains: Mapping[tuple[str, ...], float]) -> GainEvidence | None:
    """The evidence for gains on test of a setting's jobs, in points by repeat; None without any.

    Several splits of one data set share images. Then the gain of a split is the mean over its seeds, and the
    interval is the corrected one.
    """
    if not gains:
        return None
    means = list(map(fmean, _by_split(gains)))
    if len(means) == 1:
        return compare(list(gains.values()))
    return overlapping_splits(means, _trained_on(setting), sweeps.images_of([setting], "test"))


def whom(settings: Sequence[Setting]) -> str:
    """`the control`, or what it is if in all runs it learned jointly what the teachers learned one by one."""
    reports = _compared(settings)
    return JOINT if reports and all(map(is_bound, reports)) else "the control"


def sees(settings: Sequence[Setting]) -> str:
    """What the control learned from and no student did, in parentheses; empty if there is nothing."""
    reports = _compared(settings)
    if whom(settings) == JOINT:
        return " (jointly trained on all labels: an upper bound)"
    unread = [report.get("distillation", {}).get("labels_unread") for report in reports]
    if not all(unread) or any(strongest(report) == TAUGHT for report in reports):
        return ""
    return " (it learned from labels, the student from none)" if reports else ""


def _compared(settings: Sequence[Setting]) -> list[Report]:
    reports = (report for setting in settings for report in setting.reports)
    return [report for report in reports if "gain_top1" in report.get("comparison", {})]


def replacement(setting: Setting) -> str:
    """Whether a setting's students are as good as the model that they are to replace, over its seeds or
    splits; empty without several students and one such model.
    """
    differences = sweeps.by_repeat(setting, "reference", "test")
    replacing = [report for report in setting.reports if "reference" in report.get("comparison", {})]
    margins = {report["comparison"]["reference"]["margin"] for report in replacing}
    names = {report["models"][REFERENCE]["name"] for report in replacing}
    values, varied, shared = list(differences.values()), "seed", 0.0
    if len(by_split := _by_split(differences)) > 1:
        values, varied = list(map(fmean, by_split)), "split"
        shared = sweeps.images_of([setting], "test") / _trained_on(setting)
    ends = one_sided(values, shared)
    if ends is None or len(names) > 1 or len(margins) > 1:
        return ""
    margin = margins.pop()
    said = claim(names.pop(), as_good(*ends, margin), margin, Bounds(fmean(values), *ends))
    return f"{said}, over {plural(len(values), varied)}"


def _by_split(values: Mapping[tuple[str, ...], float]) -> list[list[float]]:
    splits = grouped(values, lambda repeat: repeat[SPLIT]).values()
    return [[values[repeat] for repeat in own] for own in splits]


def comparisons(settings: Sequence[Setting]) -> list[GainEvidence | None]:
    """Each setting against its control, with Holm's correction over all of them."""
    corrected = holm_corrected(known({str(i): comparison(one) for i, one in enumerate(settings)}))
    return [corrected.get(str(i)) for i in range(len(settings))]


def flattered(settings: Sequence[Setting], chosen: Choice) -> Winner:
    """The selection bias of the chosen setting's validation figure, as the best of those compared.

    Estimated from the answers to each image if all runs have kept them; else from the accuracies.
    """
    accuracy = [sweeps.by_repeat(setting, "student", "validation") for setting in settings]
    best, noun = accuracy[chosen.best], sweeps.repeat(settings)
    compared = [i for i, values in enumerate(accuracy) if values.keys() == best.keys()]
    answers = [[sweeps.right(settings[i], repeat) for repeat in best] for i in compared]
    kept = [row for rows in answers for row in rows if row is not None]
    if len(kept) == len(compared) * len(best) and len(set(map(len, kept))) == 1:
        return winner(answers, splits=[repeat[SPLIT] for repeat in best], noun=noun)
    return flattered_means(accuracy, chosen, noun)


def flattered_means(accuracy: Sequence[Mapping[Any, float]], chosen: Choice, noun: str = "seed") -> Winner:
    """The same from accuracies on validation in %, by repeat, of each setting: an upper bound."""
    best = accuracy[chosen.best]
    rows = [[values[repeat] for repeat in best] for values in accuracy if values.keys() == best.keys()]
    return winner_of_means(rows, chosen.images, noun=noun)


def flattery(best: Winner) -> str:
    """`On validation it shows 91.5 %. The choice of the best makes that about 0.4 points too high (...)`."""
    return (
        f"On validation it shows {percent(best.shown)} %. The choice of the best makes that about "
        f"{percent(best.bias)} points too high ({best.holds})."
    )


def _trained_on(setting: Setting) -> int:
    """The images that a model learned from: the training part's."""
    return max(report["dataset"]["train"] for report in setting.reports)
