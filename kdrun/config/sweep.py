"""The jobs of a sweep: all combinations of the values that were typed or that a file lists, each composed."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from functools import cache
from typing import Any, NamedTuple

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override, RangeSweep

from kdrun.config.arguments import FEW, MOST, Typed
from kdrun.config.choices import APART
from kdrun.config.compose import Composer, composing, loader
from kdrun.config.load import Loaded
from kdrun.config.overrides import given, key_of, parsed
from kdrun.errors import KdrunError
from kdrun.figures import as_typed, count, plural

WHOLE = re.compile(r"[a-z_.]+=(-?[1-9]\d{0,8}|0)")
"""An override with a whole number, as it is written here and in Hydra's grammar."""

INTERVAL = "holds no end of values: list some a,b,c or a range(...), or search in it: kdrun tune"

OF_ONE_RUN = {"control": "One run can have several: control=[plain,smoothed]"}
"""Instead of a sweep over a key."""


class Job(NamedTuple):
    """One combination. swept: the swept keys with this job's values. file: its name, if it is given one."""

    overrides: tuple[str, ...]
    swept: dict[str, Any]
    file: str = ""

    @property
    def name(self) -> str:
        """The job's file in the sweep's folder: the same for `temperature=2` and `temperature=2.0`."""
        return self.file or short_hash(sorted(map(plain, self._telling(self.swept))), 12)

    @property
    def fixed(self) -> list[str]:
        """The overrides that all jobs of the sweep share, without those that change no result."""
        telling = self._telling(())
        return sorted(plain(override) for override in telling if key_of(override) not in self.swept)

    def _telling(self, swept: Any) -> list[str]:
        return [o for o in self.overrides if _apart(o) not in APART or key_of(o) in swept]

    def __str__(self) -> str:
        return " ".join(f"{key}={as_typed(value)}" for key, value in self.swept.items())


class Refused(Exception):
    """Jobs that cannot run; nothing was trained. lines: what is wrong, each once."""

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__(tuple(lines))
        self.lines = tuple(lines)


def composed_jobs(typed: Typed) -> tuple[list[Job], list[Loaded | KdrunError]]:
    """All jobs, and for each the run that it is or what is wrong with it. Raises KdrunError for a sweep that
    cannot be listed.
    """
    with composing(typed):
        made = jobs(typed.every, typed.most, loader())
        print(f"checking {plural(len(made), 'job')}", flush=True)
        composer = Composer()
        return made, [composed_job(composer, job, job.swept) for job in made]


def swept_keys(typed: Typed) -> dict[str, str]:
    """The keys that have several values, with these as they were typed."""
    read = filter(None, map(parsed, typed.every))
    return {key_of(str(each.input_line)): given(each) for each in read if each.is_sweep_override()}


def composed_job(composer: Composer, job: Job, swept: Mapping[str, Any]) -> Loaded | KdrunError:
    """The run of a job, or what is wrong with it. swept: keys of which other jobs have other values."""
    try:
        return composer(job.overrides, swept)
    except KdrunError as error:
        return error


def jobs(overrides: Sequence[str], most: int = FEW, groups: ConfigLoader | None = None) -> list[Job]:
    """All combinations, each once. A later override replaces an earlier one of the same key.

    most: how many there may be. groups: knows the files that `glob(...)` may match. Raises KdrunError.
    """
    parsed = OverridesParser.create(groups).parse_overrides(list(overrides))
    by_key = {override.get_key_element(): override for override in parsed}
    number = math.prod(how_many(key, override) for key, override in by_key.items())
    if number > most:
        problem = f"{count(number)} jobs are more than {count(most)}. To run them all: {MOST} {number}"
        raise KdrunError("-m", None, problem)
    values = {key: list(_values(key, override)) for key, override in by_key.items()}
    swept = [key for key, override in by_key.items() if override.is_sweep_override()]
    for key in swept:
        if re.fullmatch(r"\+*engine(\..+)?", key):
            raise KdrunError(key, given(by_key[key]), "one for all jobs, whose trainings are made together")
        if re.fullmatch(r"\+*(reference|controls?|quantise|int8)(\..+)?", key):
            instead = OF_ONE_RUN.get(key.lstrip("+"), "One sweep after the other")
            problem = f"one for all jobs: they would share their runs' reports. {instead}"
            raise KdrunError(key, given(by_key[key]), problem)
    by_name: dict[str, Job] = {}
    for combination in itertools.product(*values.values()):
        chosen = dict(zip(values, combination, strict=True))
        own = {key.lstrip("+"): value_of(chosen[key]) for key in swept}
        job = Job(combination, own)
        by_name.setdefault(job.name, job)
    return list(by_name.values())


def how_many(key: str, override: Override) -> int:
    """How many values an override has. Raises KdrunError if there are none, or no end of them."""
    if not override.is_sweep_override():
        return 1
    if not override.is_discrete_sweep():
        raise KdrunError(key, given(override), INTERVAL)
    values = override.value()
    ranged = isinstance(values, RangeSweep)
    number = _length(key, override) if ranged else len([*override.sweep_iterator()])
    if not number:
        why = "there is no number in it: from the first, up to but without the second"
        raise KdrunError(key, given(override), "no name matches it" if isinstance(values, Glob) else why)
    return number


def refuse_many(key: str, override: Override) -> None:
    """Raises KdrunError unless a list, or a range, has at least one value and at most FEW."""
    if how_many(key, override) > FEW:
        raise KdrunError(key, given(override), f"has more than {count(FEW)} values")


def _length(key: str, override: Override) -> int:
    values: Any = override.value()
    numbers = [values.start or 0, values.stop or 0, values.step]
    if not all(map(math.isfinite, numbers)) or not values.step:
        raise KdrunError(key, given(override), "needs finite numbers, and a step that is not 0")
    start, stop, step = map(Fraction, numbers)
    return max(0, math.ceil((stop - start) / step))


def _values(key: str, override: Override) -> Iterator[str]:
    if not override.is_sweep_override():
        yield str(override.input_line)
        return
    for value in override.sweep_string_iterator():
        yield f"{key}={value}"


def folder_name(job: Job) -> str:
    """`temperature-alpha-a01f3c`: the swept keys and a hash of the fixed ones, so that it can be extended."""
    return f"{named_by(job.swept) or 'job'}-{short_hash([job.fixed, sorted(job.swept)])}"


def named_by(keys: Iterable[str]) -> str:
    """`temperature-alpha`: the last parts of keys, for the name of a folder."""
    short = "-".join(key.rpartition(".")[2] for key in keys)
    return re.sub(r"[^\w-]", "_", short)[:80]


@cache
def plain(override: str) -> str:
    """An override with its value as numbers, words and lists are written here: `lr=0.5` for `lr=5e-1`."""
    if WHOLE.fullmatch(override):
        return override
    parsed = _parsed(override)
    return f"{parsed.get_key_element()}={'' if parsed.is_delete() else as_typed(parsed.value())}"


def value_of(override: str) -> Any:
    """What an override sets its key to. Whole numbers are read here: Hydra's grammar takes a millisecond."""
    whole = WHOLE.fullmatch(override)
    return int(whole[1]) if whole else _parsed(override).value()


@cache
def _parsed(override: str) -> Override:
    return OverridesParser.create().parse_override(override)


def _apart(override: str) -> str:
    """The key of an override; of `engine.gpus=1` the first part."""
    key = key_of(override)
    return "engine" if key.startswith("engine.") else key


def short_hash(content: Any, digits: int = 6) -> str:
    """Hexadecimal digits of plain values. Six are too few for thousands: some would share theirs."""
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:digits]
