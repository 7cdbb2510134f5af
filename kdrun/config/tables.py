"""The files of published tables, `conf/table/NAME.yaml`, read and checked: one line for a mistake."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from kdrun.config.callers import refuse_listed
from kdrun.config.files import Entry, content_of, entries, shipped
from kdrun.config.table import (
    BASELINES,
    EPOCHS,
    FIGURES,
    STATISTICS,
    Convention,
    Method,
    Pair,
    Paper,
    Place,
    Source,
    Table,
    Value,
)
from kdrun.errors import KdrunError

CELL = re.compile(r"(-?\d+(?:\.\d+)?)(?: \+- (\d+(?:\.\d+)?))?")
"""`75.51` or `75.51 +- 0.22`."""

WORK = re.compile(r"^# work (\d\.\de\+?\d+) ", re.MULTILINE)
"""The line `# work 1.2e17 multiply-accumulates ...` of a file's head."""

REQUIRED = (
    "title",
    "paper",
    "figure",
    "dataset",
    "convention",
    "seeds",
    "run",
    "pairs",
    "methods",
    "sources",
    "published",
)
OPTIONAL = ("others", "differences", "notes")


def tables(own: Path | None = None) -> Iterator[Entry]:
    """The files of all tables, shipped and a user's. Raises KdrunError if one hides a shipped one."""
    yield from (ours := list(entries(shipped(), "table")))
    for entry in entries(own, "table") if own else ():
        if entry.name in {one.name for one in ours}:
            raise KdrunError(str(entry.path), None, "kdrun has a table of this name; give yours another")
        yield entry


def read(name: str, own: Path | None = None) -> Table:
    """The table of a name. Raises KdrunError for one that is none, and for mistakes in its file."""
    paths = {entry.name: entry.path for entry in tables(own)}
    if name not in paths:
        raise KdrunError("table", name, "no such table", paths, "kdrun table")
    try:
        content = content_of(paths[name])
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise KdrunError(str(paths[name]), None, f"not valid YAML ({' '.join(str(error).split())})") from None
    return parsed(content, name, str(paths[name]))


def work_of(path: Path) -> float | None:
    """Multiply-accumulates of all trainings of a table, as the head of its file says; None if it does not."""
    line = WORK.search(path.read_text(encoding="utf-8", errors="replace"))
    return float(line[1]) if line else None


def parsed(content: Any, name: str, file: str) -> Table:
    """The table that a file's content says. Raises KdrunError, which names the file and the key."""
    node = _mapping(content, file, REQUIRED, OPTIONAL)
    pairs = {p: _pair(p, n, f"{file}: pairs.{p}") for p, n in _named(node["pairs"], f"{file}: pairs")}
    methods = {
        m: _method(m, n, pairs, f"{file}: methods.{m}")
        for m, n in _named(node["methods"], f"{file}: methods")
    }
    methods = {**{name: Method(name) for name in BASELINES}, **methods}
    with_runs = [method.name for method in methods.values() if method.run]
    for method in methods.values():
        if method.of:
            _one_of(method.of, with_runs, f"{file}: methods.{method.name}.of")
    sources = {
        s: _source(s, n, f"{file}: sources.{s}") for s, n in _named(node["sources"], f"{file}: sources")
    }
    convention = _convention(node["convention"], f"{file}: convention")
    reading = _Reading(pairs, methods, sources, convention)
    published, unverified = _published(node["published"], reading, f"{file}: published")
    return Table(
        name=name,
        title=_text(node["title"], f"{file}: title"),
        paper=_paper(node["paper"], f"{file}: paper"),
        figure=_one_of(node["figure"], FIGURES, f"{file}: figure"),
        dataset=_text(node["dataset"], f"{file}: dataset"),
        convention=convention,
        seeds=tuple(_whole(seed, f"{file}: seeds") for seed in _items(node["seeds"], f"{file}: seeds")),
        run=_overrides(node["run"], f"{file}: run"),
        pairs=pairs,
        methods=methods,
        published=published,
        unverified=unverified,
        others=_others(node.get("others", []), reading, f"{file}: others"),
        differences=_texts(node.get("differences", []), f"{file}: differences"),
        notes=_texts(node.get("notes", []), f"{file}: notes"),
    )


class _Reading(NamedTuple):
    """What groups of numbers refer to."""

    pairs: Mapping[str, Pair]
    methods: Mapping[str, Method]
    sources: Mapping[str, Source]
    convention: Convention


def _pair(name: str, content: Any, where: str) -> Pair:
    node = _mapping(content or {}, where, (), ("run", "lacks", "differences"))
    if not all(name.partition("-")):
        raise KdrunError(where, None, "a pair is called TEACHER-STUDENT")
    return Pair(name, **_common(node, where))


def _method(name: str, content: Any, pairs: Mapping[str, Pair], where: str) -> Method:
    node = _mapping(content, where, (), ("run", "of", "figure", "by_pair", "lacks", "differences"))
    if sum(key in node for key in ("run", "of", "lacks")) != 1:
        problem = (
            "run (its overrides), of (the method whose runs it shows) or lacks (why there are none) is needed"
        )
        raise KdrunError(where, None, problem)
    by_pair = {
        _one_of(pair, pairs, f"{where}.by_pair"): _overrides(run, f"{where}.by_pair.{pair}")
        for pair, run in _named(node.get("by_pair", {}), f"{where}.by_pair")
    }
    of, figure = (_text(node[key], f"{where}.{key}") if key in node else "" for key in ("of", "figure"))
    return Method(name, by_pair=by_pair, of=of, figure=figure, **_common(node, where))


def _common(node: Mapping[str, Any], where: str) -> dict[str, Any]:
    return {
        "run": _overrides(node.get("run", []), f"{where}.run"),
        "lacks": _text(node["lacks"], f"{where}.lacks") if "lacks" in node else "",
        "differences": _texts(node.get("differences", []), f"{where}.differences"),
    }


def _paper(content: Any, where: str) -> Paper:
    node = _mapping(content, where, Paper._fields, ())
    return Paper(**{key: _text(value, f"{where}.{key}") for key, value in node.items()})


def _source(name: str, content: Any, where: str) -> Source:
    node = _mapping(content, where, ("where",), ("quoted",))
    return Source(name, _text(node["where"], f"{where}.where"), bool(node.get("quoted", False)))


def _convention(content: Any, where: str) -> Convention:
    node = _mapping(content, where, ("epoch", "sure", "statistic", "evidence"), ("runs",))
    return Convention(
        _one_of(node["epoch"], EPOCHS, f"{where}.epoch"),
        bool(node["sure"]),
        _runs(node.get("runs"), f"{where}.runs"),
        _one_of(node["statistic"], STATISTICS, f"{where}.statistic"),
        _text(node["evidence"], f"{where}.evidence"),
    )


def _published(content: Any, reading: _Reading, where: str) -> tuple[dict[Place, Value], dict[Place, Value]]:
    """The numbers of the table that were read in a source, and those that were not."""
    values_by_state: dict[bool, dict[Place, Value]] = {True: {}, False: {}}
    for position, group in enumerate(_items(content, where)):
        here = f"{where}.{position}"
        node = _mapping(group, here, ("source", "cells"), ("std_source", "runs", "verified", "about"))
        for place, value in _cells(node, reading, here, reading.convention.runs):
            if any(place in values for values in values_by_state.values()):
                raise KdrunError(f"{here}.cells.{place[1]}.{place[0]}", None, "is there twice")
            values_by_state[node.get("verified", True) is True][place] = value
    return values_by_state[True], values_by_state[False]


def _others(content: Any, reading: _Reading, where: str) -> dict[Place, tuple[Value, ...]]:
    values_of: dict[Place, tuple[Value, ...]] = {}
    for position, group in enumerate(_items(content, where)):
        here = f"{where}.{position}"
        node = _mapping(group, here, ("who", "source", "cells"), ("std_source", "runs", "about"))
        for place, value in _cells(node, reading, here, None):
            values_of[place] = (*values_of.get(place, ()), value)
    return values_of


def _cells(
    node: Mapping[str, Any], reading: _Reading, where: str, runs: int | None
) -> Iterator[tuple[Place, Value]]:
    """The numbers of a group, each with the group's source. runs: of groups that do not say it; a teacher is
    one model, whatever they say."""
    source = reading.sources[_one_of(node["source"], reading.sources, f"{where}.source")]
    known = reading.sources, f"{where}.std_source"
    std_source = reading.sources[_one_of(node["std_source"], *known)] if "std_source" in node else None
    runs = _runs(node["runs"], f"{where}.runs") if "runs" in node else runs
    about = " ".join(str(node.get("who", "")).split()), " ".join(str(node.get("about", "")).split())
    for method, row in _named(node["cells"], f"{where}.cells"):
        here = f"{where}.cells.{method}"
        _one_of(method, reading.methods, here)
        for pair, text in _named(row, here):
            _one_of(pair, reading.pairs, f"{here}.{pair}")
            value, std = _number(text, f"{here}.{pair}")
            many, spread_source = None if method == "teacher" else runs, None if std is None else std_source
            yield (pair, method), Value(value, std, many, source, spread_source, *about)


def _number(content: Any, where: str) -> tuple[float, float | None]:
    match = CELL.fullmatch(str(content))
    if match is None or isinstance(content, bool):
        raise KdrunError(where, content, "a number is needed, or NUMBER +- DEVIATION")
    return float(match[1]), float(match[2]) if match[2] else None


def _mapping(
    content: Any, where: str, required: Collection[str], optional: Collection[str]
) -> Mapping[str, Any]:
    node = dict(_named(content, where))
    for key in node:
        if key not in (*required, *optional):
            raise KdrunError(f"{where}.{key}", None, "no such key", (*required, *optional))
    for key in required:
        if node.get(key) is None:
            raise KdrunError(f"{where}.{key}", None, "is missing")
    return node


def _named(content: Any, where: str) -> Iterator[tuple[str, Any]]:
    if not isinstance(content, Mapping):
        raise KdrunError(where, None, "a mapping (key: value) is needed")
    yield from ((str(key), value) for key, value in content.items())


def _items(content: Any, where: str) -> list[Any]:
    if not isinstance(content, list):
        raise KdrunError(where, None, "a list is needed")
    return content


def _overrides(content: Any, where: str) -> tuple[str, ...]:
    overrides = _texts(content, where)
    for override in overrides:
        if "=" not in override and not override.startswith("~"):
            raise KdrunError(where, override, "an override is key=value, +key=value or ~key")
    refuse_listed(where, overrides)
    return overrides


def _texts(content: Any, where: str) -> tuple[str, ...]:
    return tuple(_text(item, where) for item in _items(content, where))


def _text(content: Any, where: str) -> str:
    if not isinstance(content, str) or not content.strip():
        raise KdrunError(where, content, "a text is needed")
    return " ".join(content.split())


def _runs(content: Any, where: str) -> int | None:
    """null: not stated."""
    return None if content is None else _whole(content, where)


def _whole(content: Any, where: str) -> int:
    if isinstance(content, bool) or not isinstance(content, int) or content < 0:
        raise KdrunError(where, content, "a whole number from 0 is needed")
    return content


def _one_of(content: Any, choices: Collection[str], where: str) -> str:
    if content not in choices:
        raise KdrunError(where, content, "no such choice", choices)
    return str(content)
