"""Finished runs as records: settings and figures by name; what tells runs apart, their means, their order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from kdrun.config.choices import REPEATS
from kdrun.errors import KdrunError
from kdrun.nested import grouped, known, leaves
from kdrun.report.content import MODEL
from kdrun.report.naming import said_of, short_id
from kdrun.report.schema import ModelReport, Report, data_name, is_bound, parts, roles, strongest, top1
from kdrun.report.statistics import spread
from kdrun.report.sweeps import value_name
from kdrun.report.verdict import at_chance

Run = tuple[Path, Report]
Record = dict[str, Any]

DIFFERENCES = 3
"""The most keys that are shown to tell runs apart."""

UNTOLD = (
    "outputs_dir",
    "data_dir",
    "fresh",
    "name",
    "note",
    "tags",
    "stages",
    "device",
    "threads",
    "logger",
    "engine",
    "runtime",
    "packages",
    "diagnostics",
    "evaluation",
)
"""Keys (with all below them) that do not tell experiments apart."""

WHO = ("dataset", "method", "teacher", "student")
FIGURES = ("teacher_top1", "student_top1", "control_top1", "gain_top1")
STD = "_std"
"""What the name of a figure's standard deviation ends with."""

SORTS = {
    "student": "student_top1",
    "teacher": "teacher_top1",
    "control": "control_top1",
    "gain": "gain_top1",
    "parameters": "params",
}
"""Words to sort by, and the names of their figures in a record."""


def record(folder: Path, report: Report) -> Record:
    """A run's settings and figures by name; what was not measured is absent."""
    comparison = report.get("comparison", {})
    names = {role: report["models"].get(role, ModelReport()).get("name") for role in ("teacher", "student")}
    shown = {"teacher": "teacher", "student": "student", "control": strongest(report)}
    scores = {f"{name}_top1": top1(report, role, "test") for name, role in shown.items()}
    low, high = comparison.get("gain_interval", (None, None))
    every = {
        "label": report["label"],
        "folder": str(folder),
        "id": short_id(folder) or None,
        "name": said_of(folder).get("name"),
        "created": report.get("created"),
        "dataset": data_name(report) or None,
        "method": report.get("distillation", {}).get("method"),
        "seed": report["seeds"].get("run"),
        **names,
        "params": report["models"]["student"].get("params"),
        "headline": report["headline"],
        **scores,
        "gain_over": comparison.get("control"),
        "gain_top1": comparison.get("gain_top1"),
        "gain_low": low,
        "gain_high": high,
        "mcnemar_p": comparison.get("mcnemar_p"),
        "verdict": comparison.get("verdict"),
        "at_chance": at_chance(report) or None,
        "upper_bound": is_bound(report) or None,
    }
    every |= {name: value for name, value in _figures(report) if name not in every}
    return known(every)


def _figures(report: Report) -> Iterator[tuple[str, float]]:
    """Every figure of a role on test under the headline (`student_nll`), and those that do not depend on
    images (`student_macs`).
    """
    for role in roles(report):
        model = report["models"][role]
        kept = {name: model[name] for name in MODEL if name in model}  # type: ignore[literal-required]
        scores = parts(report, role).get("test", {})
        for name, value in {**scores, **kept, **model.get("figures", {})}.items():
            yield f"{role}_{name}", value


def told(
    records: Sequence[Record], configs: Sequence[Record], most: int | None = DIFFERENCES
) -> tuple[list[Record], list[str]]:
    """The records with the values of the keys that tell them apart (`differing`), and these keys."""
    values = differing(records, configs, most)
    return [_with(*both) for both in zip(records, values, strict=True)], list(values[0]) if values else []


def _with(record: Record, values: Record) -> Record:
    """The record, with values of the configuration after the fields that say which run it is."""
    names = list(record)
    first = {name: record[name] for name in names[: names.index("headline") + 1]}
    return first | known(values) | record


def differing(
    records: Sequence[Record], configs: Sequence[Record], most: int | None = DIFFERENCES
) -> list[Record]:
    """For each run, the values of the keys that tell the runs apart and that no column shows.

    At most `most` keys, the shortest first. Of keys that change together (alpha, and the weights that follow
    from it) only the first is shown. A key of a model or a method (arguments, recipe, terms) is left out if
    its value follows from the name, or is that of the run's key of the same word (a term's temperature).
    """
    every = [key for key in dict.fromkeys(chain(*configs)) if key not in UNTOLD]
    parts = [key for key in every if any(own.get(key) != configs[0].get(key) for own in configs)]
    values = [dict(leaves({key: own[key] for key in parts if key in own})) for own in configs]
    shown = {name: _pattern([run.get(name) for run in records]) for name in (*WHO, "seed")}
    patterns, telling = set(shown.values()), list[str]()
    for key in sorted(dict.fromkeys(chain(*values)), key=lambda key: key.count(".")):
        pattern = _pattern([own.get(key) for own in values])
        source = shown.get(_chosen_by(key), ())
        follows = bool(source) and len({*zip(source, pattern, strict=True)}) == len({*source})
        if max(pattern) > 0 and pattern not in patterns and not follows and not _repeated(key, values):
            patterns.add(pattern)
            telling.append(key)
    return [{key: own.get(key) for key in telling[:most]} for own in values]


def _pattern(values: Sequence[Any]) -> tuple[int, ...]:
    """Which of the values are equal: (0, 1, 0) for the first and the last. `2` and `2.0` are equal."""
    seen: dict[str, int] = {}
    return tuple(seen.setdefault(value_name(value), len(seen)) for value in values)


def _repeated(key: str, values: Sequence[Record]) -> bool:
    """Whether a nested key has the value of the run's key of the same word wherever it has one."""
    above, _, word = key.rpartition(".")
    return bool(above) and all(own.get(key) in (None, own.get(word)) for own in values)


def _chosen_by(key: str) -> str:
    """The column whose value usually decides a nested key: `student` for student.args.depth and
    recipe.student.lr, `method` for loss.soft.weight; empty for other keys.
    """
    first, *rest = key.removeprefix("recipe.").split(".")
    return {"loss": "method", "phase_one": "method"}.get(first, first) if rest else ""


def repeats(config: Record) -> Record:
    """The values of the keys that repeat a run, by key."""
    values = dict(leaves(config))
    return {key: values[key] for key in REPEATS[1:] if key in values}


def means(records: Sequence[Record], configs: Sequence[Record]) -> tuple[list[Record], list[str]]:
    """A record for each setting (runs that differ in REPEATS alone), with the values of its keys:
    n runs, the mean and (of several) the standard deviation of each figure. Also the names of the keys that
    tell settings apart.
    """
    values = differing(records, configs, None)
    keys = [key for key in dict.fromkeys(chain(*values)) if key not in REPEATS]

    def setting(place: int) -> tuple[str, ...]:
        own = *map(records[place].get, WHO), *map(values[place].get, keys)
        return tuple(map(value_name, own))

    settings = grouped(range(len(records)), setting)
    first = [values[own[0]] for own in settings.values()]
    telling = [key for key in keys if len({value_name(each.get(key)) for each in first}) > 1]
    means = [_mean([records[i] for i in own], values[own[0]], telling) for own in settings.values()]
    return sorted(means, key=lambda mean: [_size(mean.get(key)) for key in telling]), telling


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


def latest(runs: Sequence[Run], number: str) -> list[Run]:
    """The runs with the latest reports, in the given order.

    number: as it was typed. Raises KdrunError unless it is a whole number from 1.
    """
    if not number.isdecimal() or int(number) < 1:
        raise KdrunError("--last", number, "must be a whole number from 1")
    newest = sorted(runs, key=lambda run: run[1].get("created", ""), reverse=True)[: int(number)]
    kept = {folder for folder, _ in newest}
    return [run for run in runs if run[0] in kept]


def by_key(records: Sequence[Mapping[str, Any]], key: str) -> list[int]:
    """The order of records by a figure, the largest first, or by a text; records without it come last.

    key: a word of SORTS, or the name of any field. Raises KdrunError if no record has it.
    """
    name = SORTS.get(key, key)
    known = [i for i, record in enumerate(records) if name in record]
    if not known:
        names = sorted({name for record in records for name in record})
        raise KdrunError("--sort", key, "no run has it", [*SORTS, *names])
    figures = all(isinstance(records[i][name], (int, float)) for i in known)
    order = sorted(known, key=lambda i: -records[i][name] if figures else str(records[i][name]))
    return order + [i for i in range(len(records)) if i not in known]
