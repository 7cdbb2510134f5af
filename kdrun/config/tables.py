"""The files of published tables, `conf/table/NAME.yaml`, read and checked: one line for a mistake."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from kdrun.config.callers import refuse_listed
from kdrun.config.files import Entry, content_of, entries, shipped
from kdrun.config.ranges import one_of, whole
from kdrun.config.table import (
    BASELINES,
    EPOCHS,
    FIGURES,
    STATISTICS,
    CitedSource,
    Convention,
    Method,
    ModelPair,
    Paper,
    Place,
    PublishedTable,
    StatedNumber,
)
from kdrun.errors import KdrunError

CELL = re.compile(r"(-?\d+(?:\.\d+)?)(?: \+- (\d+(?:\.\d+)?))?")
"""`75.51` or `75.51 +- 0.22`."""

WORK = re.compile(r"^# work (\d\.\de\+?\d+) ", re.MULTILINE)
"""The line `# work 1.2e17 multiply-accumulates ...` of a file's head."""

REQUIRED = (
    *("title", "paper", "figure", "dataset", "convention", "seeds"),
    *("run", "pairs", "methods", "sources", "published"),
)
OPTIONAL = ("others", "differences", "notes")


def tables(own: Path | None = None) -> Iterator[Entry]:
    """The files of all tables, shipped and a user's. Raises KdrunError if one hides a shipped one."""
    yield from (ours := list(entries(shipped(), "table")))
    for entry in entries(own, "table") if own else ():
        if entry.name in {one.name for one in ours}:
            raise KdrunError(str(entry.path), None, "kdrun has a table of this name; give yours another")
        yield entry


def read(name: str, own: Path | None = None) -> PublishedTable:
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


def parsed(content: Any, name: str, file: str) -> PublishedTable:
    """The table that a file's content says. Raises KdrunError, which names the file and the key."""
    node = FileNode(content, file).mapping(REQUIRED, **{key: [] for key in OPTIONAL})
    pairs = {key: _pair(key, own) for key, own in node["pairs"].named()}
    methods = {key: Method(key) for key in BASELINES}
    methods |= {key: _method(key, own, pairs) for key, own in node["methods"].named()}
    with_runs = [method.name for method in methods.values() if method.run]
    for method in methods.values():
        if method.of:
            FileNode(method.of, file, f"methods.{method.name}.of").one_of(with_runs)
    sources = {key: _source(key, own) for key, own in node["sources"].named()}
    convention = _convention(node["convention"])
    reading = _Reading(pairs, methods, sources, convention)
    published, unverified = _published(node["published"], reading)
    return PublishedTable(
        name=name,
        title=node["title"].text(),
        paper=Paper(**{key: own.text() for key, own in node["paper"].mapping(Paper._fields).items()}),
        figure=node["figure"].one_of(FIGURES),
        dataset=node["dataset"].text(),
        convention=convention,
        seeds=tuple(FileNode(seed, file, "seeds").whole() for seed in node["seeds"].items()),
        run=node["run"].overrides(),
        pairs=pairs,
        methods=methods,
        published=published,
        unverified=unverified,
        others=_others(node["others"], reading),
        differences=node["differences"].texts(),
        notes=node["notes"].texts(),
    )


class FileNode(NamedTuple):
    """A part of a file, with the key at which it stands. Its methods return it as what it must be, and raise
    KdrunError if it is something else.
    """

    content: Any
    file: str
    key: str = ""

    @property
    def where(self) -> str:
        return f"{self.file}: {self.key}" if self.key else self.file

    def at(self, key: Any, content: Any) -> FileNode:
        """A part below this one."""
        return FileNode(content, self.file, f"{self.key}.{key}" if self.key else str(key))

    def named(self) -> Iterator[tuple[str, FileNode]]:
        """The parts of a mapping with any keys."""
        if not isinstance(self.content, Mapping):
            raise KdrunError(self.where, None, "a mapping (key: value) is needed")
        yield from ((str(key), self.at(key, value)) for key, value in self.content.items())

    def mapping(self, required: Collection[str] = (), **optional: Any) -> dict[str, FileNode]:
        """The parts of a mapping with known keys. optional: keys that may be missing, with their defaults."""
        parts = dict(self.named())
        for key in parts:
            if key not in (*required, *optional):
                raise KdrunError(f"{self.where}.{key}", None, "no such key", (*required, *optional))
        for key in required:
            if key not in parts or parts[key].content is None:
                raise KdrunError(f"{self.where}.{key}", None, "is missing")
        return {key: self.at(key, value) for key, value in optional.items()} | parts

    def items(self) -> list[Any]:
        if not isinstance(self.content, list):
            raise KdrunError(self.where, None, "a list is needed")
        return self.content

    def texts(self) -> tuple[str, ...]:
        return tuple(FileNode(item, self.file, self.key).text() for item in self.items())

    def overrides(self) -> tuple[str, ...]:
        overrides = self.texts()
        for override in overrides:
            if "=" not in override and not override.startswith("~"):
                raise KdrunError(self.where, override, "an override is key=value, +key=value or ~key")
        refuse_listed(self.where, overrides)
        return overrides

    def text(self) -> str:
        if not isinstance(self.content, str) or not self.content.strip():
            raise KdrunError(self.where, self.content, "a text is needed")
        return " ".join(self.content.split())

    def whole(self) -> int:
        if not whole(self.content, 0):
            raise KdrunError(self.where, self.content, "a whole number from 0 is needed")
        return int(self.content)

    def one_of(self, choices: Collection[str]) -> str:
        one_of(self.where, self.content, choices)
        return str(self.content)

    def number(self) -> tuple[float, float | None]:
        """A number and its deviation."""
        match = CELL.fullmatch(str(self.content))
        if match is None or isinstance(self.content, bool):
            raise KdrunError(self.where, self.content, "a number is needed, or NUMBER +- DEVIATION")
        return float(match[1]), float(match[2]) if match[2] else None


class _Reading(NamedTuple):
    """What groups of numbers refer to."""

    pairs: Mapping[str, ModelPair]
    methods: Mapping[str, Method]
    sources: Mapping[str, CitedSource]
    convention: Convention


def _pair(name: str, node: FileNode) -> ModelPair:
    own = node._replace(content=node.content or {}).mapping(run=[], lacks=None, differences=[])
    if not all(name.partition("-")):
        raise KdrunError(node.where, None, "a pair is called TEACHER-STUDENT")
    return ModelPair(name, own["run"].overrides(), _optional(own["lacks"]), own["differences"].texts())


def _method(name: str, node: FileNode, pairs: Mapping[str, ModelPair]) -> Method:
    own = node.mapping(run=[], of=None, figure=None, by_pair={}, lacks=None, differences=[])
    if sum(key in node.content for key in ("run", "of", "lacks")) != 1:
        problem = (
            "run (its overrides), of (the method whose runs it shows) or lacks (why there are none) is needed"
        )
        raise KdrunError(node.where, None, problem)
    for pair in dict(own["by_pair"].named()):
        own["by_pair"]._replace(content=pair).one_of(pairs)
    return Method(
        name,
        run=own["run"].overrides(),
        by_pair={pair: run.overrides() for pair, run in own["by_pair"].named()},
        lacks=_optional(own["lacks"]),
        differences=own["differences"].texts(),
        figure=_optional(own["figure"]),
        of=_optional(own["of"]),
    )


def _optional(node: FileNode) -> str:
    """A text that may be missing."""
    return "" if node.content is None else node.text()


def _source(name: str, node: FileNode) -> CitedSource:
    own = node.mapping(("where",), quoted=False)
    return CitedSource(name, own["where"].text(), bool(own["quoted"].content))


def _convention(node: FileNode) -> Convention:
    own = node.mapping(("epoch", "sure", "statistic", "evidence"), runs=None)
    return Convention(
        own["epoch"].one_of(EPOCHS),
        bool(own["sure"].content),
        _runs(own["runs"]),
        own["statistic"].one_of(STATISTICS),
        own["evidence"].text(),
    )


def _runs(node: FileNode) -> int | None:
    """null: not stated."""
    return None if node.content is None else node.whole()


def _published(
    node: FileNode, reading: _Reading
) -> tuple[dict[Place, StatedNumber], dict[Place, StatedNumber]]:
    """The numbers of the table that were read in a source, and those that were not."""
    values_by_state: dict[bool, dict[Place, StatedNumber]] = {True: {}, False: {}}
    for position, content in enumerate(node.items()):
        group = node.at(position, content)
        usual = {"std_source": None, "runs": reading.convention.runs, "verified": True, "about": ""}
        own = group.mapping(("source", "cells"), **usual)
        for place, value in _cells(own, reading):
            if any(place in values for values in values_by_state.values()):
                raise KdrunError(f"{group.where}.cells.{place[1]}.{place[0]}", None, "is there twice")
            values_by_state[own["verified"].content is True][place] = value
    return values_by_state[True], values_by_state[False]


def _others(node: FileNode, reading: _Reading) -> dict[Place, tuple[StatedNumber, ...]]:
    values_of: dict[Place, tuple[StatedNumber, ...]] = {}
    for position, content in enumerate(node.items()):
        usual = {"std_source": None, "runs": None, "about": ""}
        own = node.at(position, content).mapping(("who", "source", "cells"), **usual)
        for place, value in _cells(own, reading):
            values_of[place] = (*values_of.get(place, ()), value)
    return values_of


def _cells(own: Mapping[str, FileNode], reading: _Reading) -> Iterator[tuple[Place, StatedNumber]]:
    """The numbers of a group, each with the group's source. A teacher is one model, whatever `runs` says."""
    source = reading.sources[own["source"].one_of(reading.sources)]
    std_source = None
    if own["std_source"].content is not None:
        std_source = reading.sources[own["std_source"].one_of(reading.sources)]
    runs = _runs(own["runs"])
    about = [" ".join(str(own[key].content).split()) if key in own else "" for key in ("who", "about")]
    for method, row in own["cells"].named():
        row._replace(content=method).one_of(reading.methods)
        for pair, cell in row.named():
            cell._replace(content=pair).one_of(reading.pairs)
            value, std = cell.number()
            many, spread_source = None if method == "teacher" else runs, None if std is None else std_source
            yield (pair, method), StatedNumber(value, std, many, source, spread_source, *about)
