"""The means of finished runs that differ in their repeats alone: seeds, splits, subsets of labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kdrun.config.choices import REPEATS
from kdrun.report.statistics import spread
from kdrun.report.sweeps import value_name

Record = dict[str, Any]

WHO = ("dataset", "method", "teacher", "student")
FIGURES = ("teacher_top1", "student_top1", "control_top1", "gain_top1")
STD = "_std"
"""What the name of a figure's standard deviation ends with."""


def means(records: Sequence[Record], values: Sequence[Record]) -> tuple[list[Record], list[str]]:
    """A record for each setting, by the values of its keys: n runs, the mean and (of several) the standard
    deviation of each figure. Also the names of the keys that tell settings apart.

    values: by run, those of all keys that tell runs apart.
    """
    keys = [key for key in dict.fromkeys(key for own in values for key in own) if key not in REPEATS]
    settings: dict[tuple[str, ...], list[int]] = {}
    for place, (run, own) in enumerate(zip(records, values, strict=True)):
        setting = *(run.get(name) for name in WHO), *(own.get(key) for key in keys)
        settings.setdefault(tuple(map(value_name, setting)), []).append(place)
    first = [values[own[0]] for own in settings.values()]
    told = [key for key in keys if len({value_name(each.get(key)) for each in first}) > 1]
    means = [_mean([records[i] for i in own], values[own[0]], told) for own in settings.values()]
    return sorted(means, key=lambda mean: [_size(mean.get(key)) for key in told]), told


def _size(value: Any) -> tuple[bool, float, str]:
    """By what the values of a key are sorted: numbers by size, then words."""
    is_number = isinstance(value, (int, float))
    return not is_number, float(value) if is_number else 0.0, value_name(value)


def _mean(runs: Sequence[Record], values: Record, keys: Sequence[str]) -> Record:
    first = runs[0]
    mean: Record = {name: first[name] for name in WHO if name in first}
    mean |= {key: values[key] for key in keys if values.get(key) is not None}
    mean |= {"n": len(runs)} | {name: first[name] for name in ("params",) if name in first}
    for name in FIGURES:
        if own := [run[name] for run in runs if name in run]:
            one = spread(own)
            shared = name == "teacher_top1" and len(set(own)) == 1  # one teacher has no spread
            mean |= {name: one.mean} | ({} if one.std is None or shared else {name + STD: one.std})
    return mean
