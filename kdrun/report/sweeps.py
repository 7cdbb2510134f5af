"""The jobs of a sweep, grouped into settings: means over seeds, and which setting is best.

A job is `{"overrides": {key: value}, "report": report or None, "error": message or None, "folder": run
folder, "right": whether the student is right, for each validation image, or None}`. Jobs that differ only in
REPEATS are one setting. The best setting is chosen on validation, never on test.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any, Literal, NamedTuple

from kdrun.config.choices import REPEATS
from kdrun.figures import ABSENT, as_typed, percent, signed
from kdrun.nested import grouped, known
from kdrun.report.schema import PartName, Report, Scores, parts, strongest, top1
from kdrun.report.statistics import Spread
from kdrun.report.statistics import spread as spread_over

JobRecord = Mapping[str, Any]
PARTS: tuple[PartName, ...] = ("validation", "test")
What = Literal["gain", "student", "control", "teacher", "reference", "int8"]


TEACHER_SEEDS = ("teacher", "label", "split")
"""The seeds that tell the teachers of a setting apart."""


class Setting(NamedTuple):
    """values: of the swept keys, the same in all jobs. jobs: finished or failed."""

    values: dict[str, Any]
    jobs: tuple[JobRecord, ...]

    @property
    def reports(self) -> list[Report]:
        """Of the finished jobs."""
        return reports(self.jobs)

    def those(self, has: Callable[[Report], bool]) -> Setting:
        """The setting with those of the finished jobs of which this is true."""
        return self._replace(jobs=tuple(job for job in self.jobs if job["report"] and has(job["report"])))


class Choice(NamedTuple):
    """Positions among the settings: the best on validation, and all within the noise of it, with the best.

    images: of the validation part.
    """

    best: int
    within: frozenset[int]
    images: int


def reports(jobs: Iterable[JobRecord]) -> list[Report]:
    """The reports of the finished jobs."""
    return [job["report"] for job in jobs if job["report"] is not None]


def swept(jobs: Sequence[JobRecord]) -> tuple[str, ...]:
    """The keys with more than one value among the jobs, without REPEATS."""
    keys = dict.fromkeys(key for job in jobs for key in job["overrides"] if key not in REPEATS)
    return tuple(key for key in keys if len({_name(job, key) for job in jobs}) > 1)


def settings(jobs: Sequence[JobRecord]) -> list[Setting]:
    """The settings, ordered by the swept keys: numbers by size, words in order of appearance."""
    keys = swept(jobs)
    groups = grouped(jobs, lambda job: tuple(_name(job, key) for key in keys)).values()
    unordered = [Setting({key: own[0]["overrides"].get(key) for key in keys}, tuple(own)) for own in groups]
    order = {key: values_of(unordered, key) for key in keys}
    return sorted(unordered, key=lambda s: [order[key].index(value_name(s.values[key])) for key in keys])


def values_of(settings: Sequence[Setting], key: str) -> list[str]:
    """The values of a swept key as text, each once: by size if all are numbers, else in order of
    appearance."""
    values = {value_name(setting.values[key]): setting.values[key] for setting in settings}
    sizes = {name: number(value) for name, value in values.items()}
    if any(size is None for size in sizes.values()):
        return list(values)
    return sorted(values, key=lambda name: sizes[name] or 0.0)


def number(value: Any) -> float | None:
    """A swept value as a number, also from text such as `0.5`; None for words, booleans, lists and dicts."""
    if isinstance(value, (bool, list, dict)) or value is None:
        return None
    try:
        size = float(value)
    except ValueError:
        return None
    return size if math.isfinite(size) else None


def value_name(value: Any) -> str:
    """A swept value as text; `2`, `2.0` and `"2"` are one value; lists as they are typed."""
    if isinstance(value, list):
        return f"[{','.join(map(value_name, value))}]"
    size = number(value) if isinstance(value, str) else None
    return as_typed(value if size is None else size)


def key_name(key: str) -> str:
    """A key as it heads a column: its last two parts, `student.lr` for `recipe.student.lr`."""
    return ".".join(key.split(".")[-2:])


def figure(report: Report, what: What, part: PartName) -> float | None:
    """Top-1 of a role on a part in percent, or the student's gain over the control in points. On test alone:
    its difference to the model that it is to replace (reference), and its gain in 8 bits (int8). None if it
    was not measured. Of several controls the strongest of each run counts."""
    if what == "reference":
        return report.get("comparison", {}).get("reference", {}).get("difference")
    if what == "int8":
        return report.get("int8", {}).get("gain", {}).get("gain_top1")
    if what != "gain":
        return top1(report, strongest(report) if what == "control" else what, part)
    student, control = top1(report, "student", part), top1(report, strongest(report), part)
    return None if student is None or control is None else student - control


def figures(report: Report, whats: Iterable[What], part: PartName) -> dict[str, float]:
    """Those of some figures that were measured."""
    return known({what: figure(report, what, part) for what in whats})


def spread(setting: Setting, what: What, part: PartName) -> Spread | None:
    """The figure of a setting over its finished jobs; None if no job has it."""
    values = [value for report in setting.reports if (value := figure(report, what, part)) is not None]
    return spread_over(values) if values else None


def spread_text(value: Spread | None, what: What) -> str:
    """`+3.9 +- 0.4` for a gain, `90.6 +- 0.3` for an accuracy, without the second half for a single value."""
    if value is None:
        return ABSENT
    mean = signed(value.mean) if what == "gain" else percent(value.mean)
    return mean if value.std is None else f"{mean} +- {percent(value.std)}"


def none_finished(settings: Sequence[Setting]) -> str:
    """`No job finished: 1 failed`; empty if some did."""
    jobs = [job for setting in settings for job in setting.jobs]
    some = any(job["report"] is not None for job in jobs)
    return "" if some else f"No job finished: {f'all {len(jobs)}' if len(jobs) > 1 else '1'} failed"


def shown_part(jobs: Sequence[JobRecord]) -> PartName:
    """Validation if some student was measured on it, else test."""
    on_validation = (top1(report, "student", "validation") for report in reports(jobs))
    return "validation" if any(value is not None for value in on_validation) else "test"


def shown_figure(jobs: Sequence[JobRecord], part: PartName) -> What:
    """The gain over the control if there are controls, else the student's accuracy."""
    gains = (figure(report, "gain", part) for report in reports(jobs))
    return "gain" if any(value is not None for value in gains) else "student"


def choice(settings: Sequence[Setting]) -> Choice | None:
    """The best setting by the student's mean accuracy on validation, and those within the noise of it.

    Within the noise: its mean is lower by at most one standard error of the difference (the
    one-standard-error rule of Breiman et al. 1984). That error has two parts, added as squares: std / sqrt(n)
    of the differences to the best, paired by seed; and sqrt(p (1 - p) / images) of the best, for the choice
    of validation images. Only the settings with the most finished jobs are compared. None without a
    validation part, or with fewer than two settings.
    """
    accuracy = [by_repeat(setting, "student", "validation") for setting in settings]
    return choice_among(accuracy, images_of(settings, "validation"))


def choice_among(accuracy: Sequence[Mapping[Any, float]], images: int) -> Choice | None:
    """The same from accuracies on validation in %, by repeat, of each setting; the first of equals is best.

    images: of the validation part.
    """
    most = max(map(len, accuracy), default=0)
    complete = [i for i, values in enumerate(accuracy) if len(values) == most]
    if not most or len(accuracy) < 2 or not images:
        return None
    best = max(complete, key=lambda i: fmean(accuracy[i].values()))
    share = fmean(accuracy[best].values()) / 100
    sampling = 100 * math.sqrt(share * (1 - share) / images)
    within = frozenset(i for i in complete if _behind(accuracy[best], accuracy[i], sampling))
    return Choice(best, within | {best}, images)


def shared_control(settings: Sequence[Setting], part: PartName) -> Spread | None:
    """The control's accuracy over seeds if all settings share the control of a seed; else None."""
    controls: dict[tuple[str, ...], float] = {}
    for setting in settings:
        for repeat, value in by_repeat(setting, "control", part).items():
            if controls.setdefault(repeat, value) != value:
                return None
    return spread_over(list(controls.values())) if controls else None


def one_teacher(settings: Sequence[Setting]) -> bool:
    """Whether some settings have several finished jobs, and each of these has one teacher for all jobs."""
    several = [setting.reports for setting in settings if len(setting.reports) > 1]
    teachers = [{tuple(map(report["seeds"].get, TEACHER_SEEDS)) for report in own} for own in several]
    return bool(several) and all(len(own) == 1 for own in teachers)


def means(settings: Sequence[Setting]) -> str:
    """`mean +- std of 3 seeds`, `... of up to 3 splits`, `... of 6 repeats (seed, dataset.split)`, or `one
    seed`."""
    counts = [len(setting.reports) for setting in settings]
    most = max(counts, default=0)
    if most <= 1:
        return "one seed"
    noun = repeat(settings)
    keys = f" ({', '.join(_repeated(settings))})" if noun == "repeat" else ""
    return f"mean +- std of {'up to ' if min(counts) < most else ''}{most} {noun}s{keys}"


def repeat(settings: Sequence[Setting]) -> str:
    """The name of a repeat: `seed`, `split`, or `repeat` for several or other keys of REPEATS."""
    keys = _repeated(settings)
    if not any(key.startswith("dataset") for key in keys):
        return "seed"
    return "split" if keys == ["dataset.split"] else "repeat"


def _repeated(settings: Sequence[Setting]) -> list[str]:
    """Those of REPEATS that have several values."""
    jobs = [job for setting in settings for job in setting.jobs]
    return [key for key in REPEATS if len({_name(job, key) for job in jobs}) > 1]


def _behind(best: Mapping[Any, float], other: Mapping[Any, float], sampling: float) -> bool:
    """Whether `other` is at most one standard error below the best; accuracies by repeat."""
    differences = [best[key] - other[key] for key in best if key in other]
    if not differences:
        return False
    seeds = stdev(differences) / math.sqrt(len(differences)) if len(differences) > 1 else 0.0
    return fmean(differences) <= math.hypot(seeds, sampling)


def by_repeat(setting: Setting, what: What, part: PartName) -> dict[tuple[str, ...], float]:
    """The figure of each finished job that has it, by the job's values of REPEATS."""
    return values_by_repeat(setting, lambda report: figure(report, what, part))


def values_by_repeat(
    setting: Setting, value_of: Callable[[Report], float | None]
) -> dict[tuple[str, ...], float]:
    """A value of each finished job that has it, by the job's values of REPEATS."""
    return known({_repeat(job): value_of(job["report"]) for job in setting.jobs if job["report"] is not None})


def right(setting: Setting, repeat: tuple[str, ...]) -> Any:
    """(N,) whether the student of a repeat is right, for each validation image; None if it is not kept."""
    return next((job.get("right") for job in setting.jobs if job["report"] and _repeat(job) == repeat), None)


def _repeat(job: JobRecord) -> tuple[str, ...]:
    return tuple(_name(job, key) for key in REPEATS)


def _name(job: JobRecord, key: str) -> str:
    return value_name(job["overrides"].get(key))


def images_of(settings: Sequence[Setting], part: PartName) -> int:
    """How many images a part has; 0 if no student was measured on it."""
    own = (parts(report, "student") for setting in settings for report in setting.reports)
    return max((scores.get(part, Scores()).get("n", 0) for scores in own), default=0)
