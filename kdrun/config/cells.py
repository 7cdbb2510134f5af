"""The cells of a published table that were asked for: `pair=a-b method=kd,crd seed=0,1` and own overrides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from hydra.core.override_parser.types import Glob, IntervalSweep

from kdrun.config.arguments import Typed, parse
from kdrun.config.overrides import key_of, parsed, refuse_unreadable
from kdrun.config.ranges import require, whole
from kdrun.config.recipes import spelled_out
from kdrun.config.sweep import Job, plain, refuse_many, short_hash
from kdrun.config.table import Place, PublishedTable, changed
from kdrun.errors import KdrunError

CHOOSING = ("pair", "method", "seed")
"""Keys that choose cells; all others are overrides of every cell."""


class Cells(NamedTuple):
    """pairs, methods: as asked for; empty if all are. typed: the user's own overrides, which win."""

    table: PublishedTable
    pairs: tuple[str, ...]
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    typed: Typed

    @property
    def reduced(self) -> tuple[str, ...]:
        """The overrides that make them another experiment than the published one."""
        return changed(self.typed.overrides)

    @property
    def places(self) -> list[Place]:
        return self.table.places(self.pairs, self.methods)

    def jobs(self) -> Iterator[Job]:
        """A job for each cell and seed, pair by pair. Raises KdrunError."""
        for pair in dict.fromkeys(pair for pair, _ in self.places):
            for seed in self.seeds:
                yield from (self.job(pair, method, seed) for own, method in self.places if own == pair)

    def job(self, pair: str, method: str, seed: int) -> Job:
        """The run of a cell. Its name is the same whatever does not change the experiment."""
        overrides = tuple(self.table.cell(pair, method, seed, self.typed.overrides))
        telling = sorted(map(plain, changed(overrides)))
        name = f"{pair}-{method}-{seed}-{short_hash(telling)}".replace("/", "_")
        return Job(overrides, {"pair": pair, "method": method, "seed": seed}, name)

    @property
    def name(self) -> str:
        """The name of the folder: the table's, and a hash of what was reduced."""
        reduced = sorted(map(plain, self.reduced))
        return f"{self.table.name}-{short_hash(reduced)}" if reduced else self.table.name


def asked(table: PublishedTable, words: Sequence[str], place: Sequence[str] = ()) -> Cells:
    """The cells that the words of a command line choose. place: the option for the user's files.

    Raises KdrunError for what the table does not have and for a sweep.
    """
    chosen: Mapping[str, list[Any]] = {key: [] for key in CHOOSING}
    own = []
    for word in words:
        key = word.partition("=")[0]
        if key in CHOOSING:
            chosen[key][:] = _values(word)
        else:
            own.append(word)
    refuse_unreadable(own)
    typed = parse([*spelled_out(own), *place])
    if typed.many:
        raise KdrunError("kdrun table", None, "a sweep is kdrun -m; a table has cells: pair=, method=, seed=")
    for override in typed.overrides:
        fits = key_of(override).split(".")[0] not in ("quantise", "int8")
        require(fits, override, None, "a table has no figures of int8; a run or a sweep has them")
    for seed in chosen["seed"]:
        require(whole(seed, 0), "seed", seed, "a whole number from 0 is needed")
    seeds = tuple(chosen["seed"]) or table.seeds
    pairs, methods = (tuple(dict.fromkeys(map(str, chosen[key]))) for key in ("pair", "method"))
    cells = Cells(table, pairs, methods, tuple(dict.fromkeys(seeds)), typed)
    if not cells.places:
        raise KdrunError("kdrun table", table.name, "has no cell of these pairs and methods")
    return cells


def _values(word: str) -> list[Any]:
    override = parsed(word)
    if override is None or isinstance(override._value, Glob | IntervalSweep):
        raise KdrunError(word, None, "a name is needed, or several: a,b")
    if not override.is_sweep_override():
        return [override.value()]
    refuse_many(override.get_key_element(), override)
    return list(override.sweep_iterator())
