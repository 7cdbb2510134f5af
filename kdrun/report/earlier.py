"""Figures of an earlier evaluation of the same models: a later one with other settings keeps them.

A look is one evaluation. A report is the latest look. Its `earlier` lists the looks that kept figures are
from, each with its own time, machine and settings.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any, cast

from kdrun.config.choices import UNSAID
from kdrun.report.content import MODEL
from kdrun.report.rows import place_of
from kdrun.report.schema import REFERENCE, Comparison, Look, Report, compared

Path = tuple[Any, ...]
"""Where a figure stands: `("control", "last", "test", "top1")`, `("student", "latency", place)`,
`("comparison", "gain_top1")`."""

WEIGHTS = ("last", "val_best")
FIGURES = (*MODEL, *WEIGHTS, "latency", "figures")
"""Keys of a model that hold figures; the others describe the model."""

GAIN = tuple(f"comparison/{name}" for name in ("gain", "mcnemar", "verdict"))

AGAINST = ("control", "chosen_by", "controls", "gap_closed")
"""Keys of `comparison` that belong to the controls of one evaluation."""

RELATED = ("learned_from", "speedup")
"""Keys of `comparison` that follow from the models and from other figures."""


def with_earlier(new: Report, old: Report) -> Report:
    """The new report with the figures and the models that only the old one has.

    The new report is unchanged if a role has another model in the old one, or if the headlines or the test
    images differ.
    """
    if _fingerprint(new, REFERENCE) not in (None, _fingerprint(old, REFERENCE)):
        old = _without_reference(old)
    if not _same_models(new, old):
        return new
    merged = cast(dict[str, Any], copy.deepcopy(new))
    for role in (role for role in old["models"] if role not in new["models"]):
        model = cast(dict[str, Any], old["models"][role])
        merged["models"][role] = {key: value for key, value in model.items() if key not in FIGURES}
        if folder := old.get("folders", {}).get(role):
            merged.setdefault("folders", {})[role] = folder
    present = dict(_figures(new))
    others = bool(compared(new)) and compared(new) != compared(old)
    places = {path[2] for path in present if path[1] == "latency"}
    kept = {
        path: value
        for path, value in _figures(old)
        if path not in present
        and path[-1] not in places
        # those of other controls than the new gain is over
        and not (others and path[0] == "comparison" and path[1] in AGAINST)
    }
    for path, value in kept.items():
        _put(merged, path, value)
    if "int8" in old and "int8" not in new:
        merged["int8"] = copy.deepcopy(old["int8"])
    merged["units"] = {**old.get("units", {}), **new.get("units", {})}
    merged["earlier"] = list(_kept_looks(old, [_name(path) for path in kept]))
    return cast(
        Report, {key: value for key, value in merged.items() if value or key not in ("units", "earlier")}
    )


def _same_models(new: Report, old: Report) -> bool:
    """Whether each role in both reports has the same model, and both have one headline and one test part."""
    both = new["models"].keys() & old["models"].keys()
    marks = ((_fingerprint(new, role), _fingerprint(old, role)) for role in both)
    if any(new["dataset"].get(key) != old["dataset"].get(key) for key in ("test", "test_of")):
        return False
    return new["headline"] == old["headline"] and all(one and one == other for one, other in marks)


def looks(report: Report) -> list[Look]:
    """The latest look, without `figures`, then the earlier ones that kept figures are from."""
    settings = dict(report.get("config", {}).get("evaluation", {}))
    if settings.get("figures") == list(UNSAID):
        del settings["figures"]  # fingerprints leave out the default too
    facts = {key: report[key] for key in ("fingerprint", "created", "kdrun", "environment") if key in report}
    return [cast(Look, facts | {"evaluation": settings}), *report.get("earlier", [])]


def covers(looks: list[Look], asked: Mapping[str, Any]) -> bool:
    """Whether these looks measured all that is asked for: every evaluator, and latencies with as much care.

    asked: the keys of `evaluation`.
    """
    done = [look["evaluation"] for look in looks]
    names = {name for settings in done for name in settings.get("figures", UNSAID)}
    if not done or not names >= set(asked.get("figures", UNSAID)):
        return False
    return not asked["latency"] or any(_as_careful(settings, asked) for settings in done)


def _as_careful(done: Mapping[str, Any], asked: Mapping[str, Any]) -> bool:
    return (
        bool(done["latency"])
        and done["samples"] >= asked["samples"]
        and done["seconds"] >= asked["seconds"]
        and set(done["batches"]) >= set(asked["batches"])
    )


def _without_reference(report: Report) -> Report:
    """The report without the model that another one takes the place of."""
    rest = copy.deepcopy(report)
    rest["models"].pop(REFERENCE, None)
    rest.get("comparison", Comparison()).pop("reference", None)
    return rest


def _fingerprint(report: Report, role: str) -> str | None:
    """Of the weights of a model; older reports have it in the name of its folder only. None without it."""
    if role not in report["models"]:
        return None
    folder = report.get("folders", {}).get(role, "")
    return report["models"][role].get("fingerprint") or folder.rpartition("-")[2]


def _figures(report: Report) -> Iterator[tuple[Path, Any]]:
    for role, model in report["models"].items():
        own = cast(dict[str, Any], model)
        yield from (((role, name), own[name]) for name in MODEL if name in own)
        yield from (((role, "figures", name), value) for name, value in own.get("figures", {}).items())
        yield from (((role, "latency", place_of(row)), row) for row in own.get("latency", []))
        for weights in WEIGHTS:
            for part, scores in own.get(weights, {}).items():
                yield from (((role, weights, part, name), value) for name, value in scores.items())
    for name, value in report.get("comparison", {}).items():
        if name not in RELATED:
            yield ("comparison", name), value


def _put(report: dict[str, Any], path: Path, value: Any) -> None:
    *above, last = path
    holder = report if above[0] == "comparison" else report["models"]
    if "latency" in above:
        holder[above[0]].setdefault("latency", []).append(value)
        return
    for key in above:
        holder = holder.setdefault(key, {})
    holder[last] = value


def _kept_looks(old: Report, names: list[str]) -> Iterator[Look]:
    """The looks that these figures are from, the latest first."""
    latest, *before = looks(old)
    known = {name for look in before for name in look["figures"]}
    new = [name for name in names if name not in known]
    for look, own in ((latest, new), *((look, look["figures"]) for look in before)):
        kept = [name for name in own if name in names]
        if kept:
            yield cast(Look, {**look, "figures": kept})


def kept_from(report: Report, look: Look) -> list[str]:
    """What a report keeps of an earlier look, in words: `latency`, `the control`, `entropy`."""
    left, words = list(look["figures"]), []
    for role in report["models"]:
        own = [_name(path) for path, _ in _figures(report) if path[0] == role]
        if own and set(own) <= set(left):
            words.append(f"the {role}")
            left = [name for name in left if name not in own]
    return list(dict.fromkeys([*map(_word, left), *words]))


def _name(path: Path) -> str:
    parts = (each for part in path for each in (part if isinstance(part, tuple) else (part,)))
    return "/".join(map(str, parts))


def _word(name: str) -> str:
    """`latency` for `student/latency/cpu/eager/1/32`, `gain` for `comparison/gain_top1`."""
    parts = name.split("/")
    if parts[1] == "latency":
        return "latency"
    return "gain" if name.startswith(GAIN) else parts[-1].replace("_", " ")
