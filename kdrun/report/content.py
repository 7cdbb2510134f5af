"""Builds the content of report.json from figures and facts, and checks what was read from it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from math import inf
from typing import Any, cast, get_args, get_origin, get_type_hints, is_typeddict

from kdrun.config.choices import PLAIN
from kdrun.evaluation.figure import Figure
from kdrun.report.schema import BETWEEN, ONE_OF_SEVERAL, ROLES, SCHEMA, Report

REQUIRED = ("schema", "kdrun", "label", "headline", "dataset", "seeds", "models")
"""Keys that every report has."""

MODEL = ("params", "macs", "bytes")
"""Figures that are keys of a model, not of its `figures`."""

COMPARISON = ("agreement", "kl_teacher_student", "gap_closed", "compression")
"""Figures of the student that are keys of `comparison`."""


def build(**fields: Any) -> Report:
    """A report from its fields (the keys of `Report`, `schema` apart), ready to be written as JSON.

    Values that are None, NaN, infinite, or an empty dict or list are left out at any depth, so callers can
    pass what they do not have. Only `config` stays as it is. Raises ValueError for what `problems` returns.
    """
    config = {"config": fields.pop("config")} if "config" in fields else {}
    report = {"schema": SCHEMA} | _present(fields) | config
    wrong = problems(report)
    if wrong:
        raise ValueError("; ".join(wrong))
    return cast(Report, report)


def placed(figures: Iterable[Figure]) -> dict[str, Any]:
    """The figures in the fields `models`, `comparison` and `units` of a report.

    A figure of some weights and part is at `models.WHOSE.WEIGHTS.PART.NAME`, any other at
    `models.WHOSE.figures.NAME`, unless it is one of MODEL or COMPARISON.
    """
    models: dict[str, Any] = {}
    comparison: dict[str, Any] = {}
    units: dict[str, str] = {}
    for name, value, unit, whose, part, weights in figures:
        units[name] = unit
        own = models.setdefault(whose, {})
        if part:
            own.setdefault(weights, {}).setdefault(part, {})[name] = value
        elif name in COMPARISON:
            comparison[name] = value
        elif name in MODEL:
            own[name] = value
        else:
            own.setdefault("figures", {})[name] = value
    return {"models": models, "comparison": comparison, "units": units}


PERCENTS = frozenset(("top1", "top5", "ece", "ece_calibrated", "agreement"))
COUNTS = frozenset(("p50_ms", "p95_ms", "params", "n"))
"""Names of figures from 0 to 100, and of those from 0."""

LIMITED = PERCENTS | COUNTS


def problems(report: object) -> list[str]:
    """What is wrong with a report as read from JSON, a phrase each; empty if it can be shown.

    Unknown keys are allowed: a newer version may add some without changing the schema.
    """
    if not isinstance(report, dict):
        return ["is not an object"]
    if report.get("schema") != SCHEMA:
        return [f"has schema {report.get('schema')}, not {SCHEMA}"]
    wrong = [f"lacks {key}" for key in REQUIRED if key not in report]
    if wrong or (wrong := list(_wrong_kinds(report, Report))):
        return wrong
    config = report.get("config", {})
    there = [key for key in SECTIONS if key in config]
    if wrong := [f"config.{key} is not an object" for key in there if type(config[key]) is not dict]:
        return wrong
    if report["headline"] not in ("last", "val_best"):
        wrong.append(f"headline is {report['headline']!r}, not 'last' or 'val_best'")
    models = report["models"]
    known = rf"{'|'.join(ROLES)}|{BETWEEN}|{ONE_OF_SEVERAL}|{PLAIN}_\w+"
    wrong += [f"models.{role} is no role" for role in models if not re.fullmatch(known, role)]
    wrong += [] if "student" in models else ["lacks models.student"]
    return wrong + list(_wrong_figures({key: value for key, value in report.items() if key != "config"}))


SECTIONS = ("dataset", "evaluation", "recipe", "student", "teacher")
"""Sections of a configuration that are read from reports."""

CALLED: dict[type, str] = {dict: "an object", list: "a list", str: "text"}
"""What a value must be, by the kind of its field, and how an error calls it."""


def _wrong_kinds(value: Mapping[str, Any], fields: Any, path: str = "") -> Iterator[str]:
    """A phrase for each object, list or text of a TypedDict that is something else, at any depth to which
    objects have fields. Numbers are not looked at: `_wrong_figures` does this.
    """
    for name, kind, inner, of_each in _kinds(fields):
        if name not in value:
            continue
        own = value[name]
        fits = type(own) is kind
        if not fits:
            yield f"{path}{name} is not {CALLED[kind]}"
        elif own and inner is not None:
            for key, part in own.items() if of_each else [("", own)]:
                place = f"{path}{name}.{key}." if of_each else f"{path}{name}."
                if type(part) is dict:
                    yield from _wrong_kinds(part, inner, place)
                else:
                    yield f"{place[:-1]} is not an object"


@cache
def _kinds(fields: Any) -> list[tuple[str, type, Any, bool]]:
    """The fields of a TypedDict that are objects, lists or texts: name, kind, the TypedDict of the object or,
    if the last is true, of each of its values.
    """
    kinds = []
    for name, hint in get_type_hints(fields).items():
        kind, of_each = dict if is_typeddict(hint) else get_origin(hint) or hint, get_origin(hint) is dict
        inner = get_args(hint)[1] if of_each else hint
        if kind in CALLED:
            kinds.append((name, kind, inner if is_typeddict(inner) else None, of_each))
    return kinds


def _wrong_figures(content: Any) -> Iterator[str]:
    """A phrase for each impossible figure, such as a percentage above 100. Fast, since thousands of reports
    are read at once; without recursion, since a damaged one may be nested to any depth.
    """
    left: list[tuple[tuple[Any, ...], Any]] = [((), content)]
    while left:
        path, content = left.pop()
        inside = []
        for name, value in content.items() if type(content) is dict else enumerate(content):
            kind = type(value)
            if kind is dict or kind is list:
                inside.append(((*path, name), value))
            elif kind is not float and kind is not int:
                continue
            elif (not -inf < value < inf or name in LIMITED) and (problem := _problem(name, value)):
                yield f"{_place((*path, name))} is {value}{problem}".rstrip()
        left += reversed(inside)


def _place(path: Iterable[Any]) -> str:
    """`models.student.curve[3]`, from its keys and positions."""
    return "".join(f"[{part}]" if type(part) is int else f".{part}" for part in path).removeprefix(".")


def _problem(name: object, value: float) -> str:
    """What is wrong with a figure, for behind its value; empty if it is possible."""
    if not math.isfinite(value):
        return " "
    if name in PERCENTS:
        return "" if 0 <= value <= 100 else ", not a percentage"
    return " " if value < 0 and name in COUNTS else ""


def _present(value: Any) -> Any:
    """The value without absent parts, and without containers that become empty."""
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
