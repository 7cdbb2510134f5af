"""What was typed, sorted before Hydra sees it: options anywhere, a sweep's file, names and paths as text."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from kdrun.config.callers import refuse_listed
from kdrun.config.files import CHOSEN, refuse_endless, refuse_impossible_names, shipped, swept
from kdrun.config.options import FOLDER, OTHER_SPELLINGS, Options, own_folder, read_whole
from kdrun.config.overrides import readable, refuse_unreadable
from kdrun.errors import KdrunError

MANY = "-m"
MOST = "--max-jobs"
SHOWING = ("--cfg", "--package", "--resolve", "--info", "-sc")
"""Hydra's own, which show something instead of running."""

OPTIONS = Options(
    values={
        "--cfg": ("job", "hydra", "all"),
        "--package": (),
        "--info": ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
        FOLDER: (),
        MOST: (),
    },
    switches=("--help", "--version", MANY, "--resolve", "-sc"),
    aliases={
        "--multirun": MANY,
        "--shell-completion": "-sc",
        "-c": "--cfg",
        "-p": "--package",
        "-i": "--info",
        **OTHER_SPELLINGS,
    },
)

FEW = 1000
"""A sweep of more jobs must be asked for: its check alone takes minutes."""

PIECE = re.compile(r"[\w.]+:.*")
"""A piece of a mapping: `from:0`."""

RANGE = re.compile(r"(-?\d+):(-?\d+)")
"""A range as Python's slices have it."""


class Typed(NamedTuple):
    """overrides: `key=value`, `+key=value`, `~key`, as Hydra is to read them. options: by name.

    words: the overrides as they were typed. many: whether this is a sweep. params: by key, the values over
    which a file sweeps.
    """

    overrides: tuple[str, ...] = ()
    options: Mapping[str, str] = MappingProxyType({})
    words: tuple[str, ...] = ()
    many: bool = False
    params: Mapping[str, str] = MappingProxyType({})

    @property
    def every(self) -> tuple[str, ...]:
        """The overrides, those over which a file sweeps first."""
        return (*(f"{key}={values}" for key, values in self.params.items()), *self.overrides)

    @property
    def config_dir(self) -> Path | None:
        """The folder of the user's files."""
        return own_folder(self.options)

    @property
    def place(self) -> tuple[str, ...]:
        """The option for the user's files, for the record of the command."""
        return (FOLDER, str(self.config_dir)) if self.config_dir else ()

    def command(self, overrides: Iterable[str]) -> str:
        """What to type for these overrides with the same files."""
        return shlex.join(["kdrun", *self.place, *overrides])

    @property
    def shows(self) -> tuple[str, ...]:
        """The options by which something is only shown: a configuration, completions."""
        given = [(name, value) for name, value in self.options.items() if name in SHOWING]
        return tuple(word for pair in given for word in pair if word)

    @property
    def most(self) -> int:
        """How many jobs a sweep may have. Raises KdrunError."""
        return read_whole(self.options, MOST, FEW)


def parse(arguments: Sequence[str]) -> Typed:
    """Options may stand before, between and after overrides. Raises KdrunError for an unknown option, and for
    an override that cannot be read.
    """
    words, options = OPTIONS.parse(arguments)
    if "-sc" in options and not words:
        raise KdrunError("-sc", None, 'says what to do for completion: eval "$(kdrun -sc install=bash)"')
    _refuse_pieces(words)
    _refuse_slices(words)
    refuse_impossible_names(words)
    own = own_folder(options)
    folders = (shipped(), *([own] if own else []))
    if own:
        refuse_endless(own, words)
    plain = [_plain(word) for word in words]
    params = {key: text for word in plain for key, text in _swept(folders, word).items()}
    experiments = params.pop("experiment", None)
    typed = Typed((), options, tuple(words), MANY in options, params)
    if typed.shows and typed.many:
        raise KdrunError(typed.shows[0], None, f"shows one configuration, so without {MANY}")
    many = typed.many or (bool(params or experiments) and not typed.shows)
    overrides = tuple(readable(word, many) for word in _spread(plain, experiments))
    refuse_unreadable(overrides)
    return typed._replace(overrides=overrides, many=many)


def _plain(word: str) -> str:
    """`experiment=x` for `+experiment=x`, as Hydra's own examples have it: each run has one."""
    key = word.partition("=")[0]
    return word.lstrip("+") if key.lstrip("+") in CHOSEN else word


def _swept(folders: tuple[Path, ...], word: str) -> Mapping[str, str]:
    """The values over which the file of an experiment or a sweep sweeps."""
    group, _, name = word.partition("=")
    params = swept(folders, group, name) if group in ("experiment", "sweep") else {}
    refuse_listed(word, [f"{key}={values}" for key, values in params.items()])
    return params


def _spread(words: Sequence[str], experiments: str | None) -> Iterator[str]:
    """The words without `experiment=null`, and with the experiments that an experiment sweeps over."""
    for word in words:
        group, _, name = word.partition("=")
        if group == "experiment" and experiments is not None:
            yield f"experiment={experiments}"
        elif not (group in ("experiment", "sweep") and name == "null"):
            yield word


def _refuse_slices(words: Sequence[str]) -> None:
    """Raises KdrunError for `seed=0:3`: Hydra writes ranges in another way."""
    for word in words:
        key, _, value = word.partition("=")
        if slice := RANGE.fullmatch(value):
            first, end = slice.groups()
            problem = f"is no range: write '{key}=range({first},{end})', with -m; {end} is left out"
            raise KdrunError(key, value, problem)


def _refuse_pieces(words: Sequence[str]) -> None:
    """Raises KdrunError for a mapping or a list that the shell took apart.

    Without quotes, bash turns `weight={from:0,to:1}` into two words, and every shell splits at blanks.
    """
    for key, group in groupby(words, lambda word: word.partition("=")[0]):
        values = [word.partition("=")[2] for word in group]
        if len(values) > 1 and all(map(PIECE.fullmatch, values)):
            mapping = ", ".join(value.replace(":", ": ", 1) for value in values)
            problem = (
                f"looks like pieces of a mapping that the shell took apart; quote it: '{key}={{{mapping}}}'"
            )
            raise KdrunError(key, None, problem)
    for position, word in enumerate(words):
        key, equals, value = word.partition("=")
        if equals and _is_open(value) and not _is_open(_whole(words[position:])):
            raise KdrunError(
                key, value, f"the shell splits it at a blank; quote it: '{_whole(words[position:])}'"
            )


def _is_open(text: str) -> bool:
    return any(text.count(first) > text.count(last) for first, last in ("{}", "[]"))


def _whole(words: Sequence[str]) -> str:
    """The words up to the one that closes what the first one opens."""
    joined = words[0]
    for word in words[1:]:
        if not _is_open(joined):
            break
        joined += f" {word}"
    return joined
