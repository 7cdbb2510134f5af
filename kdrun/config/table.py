"""A published table: its pairs and methods, what was published, and the ordinary run that fills a cell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from kdrun.config.choices import APART
from kdrun.config.overrides import key_of
from kdrun.errors import KdrunError

BASELINES = ("teacher", "student")
"""Rows that come with the runs of every method: its teacher, and the student without one (the control)."""

FIGURES = {"accuracy": "top-1 accuracy, %", "error": "top-1 error, %", "errors": "test errors"}
EPOCHS = ("last", "best", "unknown")
STATISTICS = ("mean", "median", "single", "unknown")

OF_THE_CELL = ("teacher", "student", "method", "seed", "experiment")
"""Keys that a cell itself sets."""

OF_THE_CONTROL = ("recipe", "phase_one", "transfer_classes", "transfer_without")
"""Keys (with all below them) that change how a control is trained."""

SAME = (*APART, "logger", "runtime", "checkpoint", "evaluation", "diagnostics", "control", "controls")
"""Keys (with all below them) that leave a cell the experiment that it is."""


class Paper(NamedTuple):
    """What a table is from. address: of the text."""

    title: str
    authors: str
    venue: str
    address: str


class CitedSource(NamedTuple):
    """Where numbers were read. quoted: not by those who measured them."""

    name: str
    where: str
    quoted: bool = False


class StatedNumber(NamedTuple):
    """A number of somebody's. std: over `runs` runs, each None where it is not stated. who: who measured it,
    empty for the table's authors. about: under which conditions, if not the table's."""

    value: float
    std: float | None
    runs: int | None
    source: CitedSource
    std_source: CitedSource | None = None
    who: str = ""
    about: str = ""


class Convention(NamedTuple):
    """How runs became a number. epoch: `last`, `best` (on the very images that are reported) or `unknown`.
    sure: whether the authors say so; else it is inferred, see evidence."""

    epoch: str
    sure: bool
    runs: int | None
    statistic: str
    evidence: str


@dataclass(frozen=True)
class ModelPair:
    """A teacher and a student, by the names of models. lacks: why kdrun cannot run it; empty: it can."""

    name: str
    run: tuple[str, ...] = ()
    lacks: str = ""
    differences: tuple[str, ...] = ()

    @property
    def teacher(self) -> str:
        return self.name.partition("-")[0]

    @property
    def student(self) -> str:
        return self.name.partition("-")[2]


@dataclass(frozen=True)
class Method:
    """A row of a table. run: its overrides, by_pair: more of them for some pairs. lacks: as of a pair.

    figure: the name of an evaluator's figure of the student, which the row shows; empty: top-1.
    of: the method whose runs it shows; empty: its own.
    """

    name: str
    run: tuple[str, ...] = ()
    by_pair: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    lacks: str = ""
    differences: tuple[str, ...] = ()
    figure: str = ""
    of: str = ""


Place = tuple[str, str]
"""Pair and method."""


@dataclass(frozen=True)
class PublishedTable:
    """A published table.

    run: the overrides of all cells. seeds: as many as the table's figures are means of, if that is known.
    published, unverified: by pair and method; what was not checked against a source is in the second only.
    others: what others got when they ran it again. differences: between the paper's protocol and what is run
    here. notes: what to know before comparing.
    """

    name: str
    title: str
    paper: Paper
    figure: str
    dataset: str
    convention: Convention
    seeds: tuple[int, ...]
    run: tuple[str, ...]
    pairs: Mapping[str, ModelPair]
    methods: Mapping[str, Method]
    published: Mapping[Place, StatedNumber]
    unverified: Mapping[Place, StatedNumber]
    others: Mapping[Place, tuple[StatedNumber, ...]]
    differences: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def places(self, pairs: Sequence[str] = (), methods: Sequence[str] = ()) -> list[Place]:
        """The cells that kdrun can run, in the table's order: all, or of these pairs and methods.

        Raises KdrunError for a name that the table does not have, for a baseline, which comes with the other
        methods, and for a pair or method that was asked for and that kdrun lacks.
        """
        for group, names in (("pair", pairs), ("method", methods)):
            self._refuse(group, names)
        asked = [(p, m) for p in pairs or self.pairs for m in methods or self.own_runs]
        return [place for place in asked if not self.lacks(*place) and (methods or self._has(place))]

    @property
    def own_runs(self) -> list[str]:
        """The methods that have runs of their own: neither baselines nor other figures of another's runs."""
        return [name for name, method in self.methods.items() if name not in BASELINES and not method.of]

    def rows(self, methods: Sequence[str] = ()) -> list[str]:
        """The rows that the runs of these methods fill, or of all; baselines are first."""
        return [
            name
            for name, method in self.methods.items()
            if name in BASELINES or not methods or (method.of or name) in methods
        ]

    def lacks(self, pair: str, method: str) -> str:
        """Why a cell cannot be run; empty: it can."""
        return self.pairs[pair].lacks or self.methods[self.methods[method].of or method].lacks

    def cell(self, pair: str, method: str, seed: int, typed: Sequence[str] = ()) -> list[str]:
        """The overrides of the run that fills a cell. typed: the user's own, which win.

        Raises KdrunError for names that `places` refuses, and for typed keys that the cell itself sets.
        """
        self._refuse("pair", [pair])
        self._refuse("method", [method])
        for override in typed:
            if key_of(override) in OF_THE_CELL:
                raise KdrunError(
                    override, None, f"a cell of table {self.name} sets it: pair=, method=, seed="
                )
        whom, how = self.pairs[pair], self.methods[method]
        models = (f"teacher={whom.teacher}", f"student={whom.student}")
        own = (*self.run, *models, *whom.run, *how.run, *how.by_pair.get(pair, ()), f"seed={seed}")
        return list({key_of(override): override for override in (*own, *typed)}.values())

    def baseline(self, pair: str, method: str) -> bool:
        """Whether the control of a cell is the table's student without a teacher: trained by its recipe."""
        own = (*self.methods[method].run, *self.methods[method].by_pair.get(pair, ()))
        return not any(key_of(override).split(".")[0] in OF_THE_CONTROL for override in own)

    def _has(self, place: Place) -> bool:
        return any(place in values for values in (self.published, self.unverified, self.others))

    def _refuse(self, group: str, names: Iterable[str]) -> None:
        known: Mapping[str, ModelPair | Method] = self.pairs if group == "pair" else self.methods
        for name in names:
            if name not in known:
                raise KdrunError(group, name, f"table {self.name} has no such {group}", known)
            if name in BASELINES:
                raise KdrunError(
                    group, name, "comes with every other method; choose one of these", self.own_runs
                )
            if group == "method" and (runs := self.methods[name].of):
                raise KdrunError(group, name, "another figure of the runs of a method; choose that", [runs])
            if known[name].lacks:
                raise KdrunError(group, name, f"kdrun lacks {known[name].lacks}")


def changed(typed: Sequence[str]) -> tuple[str, ...]:
    """Of a user's overrides those that make a cell another experiment than the table's: a reduced budget."""
    return tuple(override for override in typed if key_of(override).split(".")[0] not in SAME)
