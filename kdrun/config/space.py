"""What a search may choose from, in Hydra's grammar: `interval(...)`, `range(...)`, `choice(...)`, `a,b`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep

from kdrun.config.arguments import Typed
from kdrun.config.choices import REPEATS
from kdrun.config.files import CHOSEN, LISTED
from kdrun.config.overrides import INTERVALS, given, key_of
from kdrun.config.ranges import require
from kdrun.config.sweep import named_by, plain, refuse_many, value_of
from kdrun.config.table import SAME
from kdrun.errors import KdrunError
from kdrun.figures import as_typed

EXAMPLE = "temperature='interval(1,16)'"
OF_TRAINING = ("views", "headline", "labelled", "train", "mean", "std", "white", "resize", "temperature")
"""Keys of a data set that leave the validation images what they are."""

LENGTHS = ("recipe", "recipe.student.epochs", "recipe.student.stop_at")
"""Keys by which students are trained for different numbers of epochs."""

FINENESS = 3
"""Of an interval are tried: numbers a thousandth of it apart; of a logarithmic one, three digits of each."""

Value = float | int | str
"""A number, or a choice as it is typed."""

Setting = Mapping[str, Value]
"""A value for each searched key."""


class Interval(NamedTuple):
    """Numbers from low to high, both included. log: whether each decade is tried as often as any other.
    step: between whole numbers, or other numbers of a range; None: any number.
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False
    step: float | None = None

    def rounded(self, number: float) -> float | int:
        """A number of the interval, as short as it is tried."""
        if self.whole:
            return round(number)
        digits = math.ceil(FINENESS - math.log10(self.high - self.low))
        short = float(f"{number:.{FINENESS}g}") if self.log else round(number, max(0, digits))
        return min(max(short, self.low), self.high)

    def has(self, number: Any) -> bool:
        """Whether a value is one of its numbers."""
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            return False
        steps = 0.0 if self.step is None else (number - self.low) / self.step
        return self.low <= number <= self.high and math.isclose(steps, round(steps), abs_tol=1e-9)

    @property
    def size(self) -> float:
        """How many numbers it has."""
        if self.step is None:
            return math.inf
        return round((self.high - self.low) / self.step) + 1


class Choices(NamedTuple):
    """Values as they are typed: `kd`, `0.5`, `[1,2]`."""

    texts: tuple[str, ...]

    @property
    def size(self) -> float:
        return len(self.texts)


class SearchedKey(NamedTuple):
    """A searched key, with the `+` before it if it was typed with one. given: its space, as it was typed."""

    key: str
    given: str
    values: Interval | Choices

    @property
    def name(self) -> str:
        return self.key.lstrip("+")

    def ends(self) -> list[Value]:
        """The values of which all must be possible: both ends of an interval, each choice."""
        if isinstance(self.values, Choices):
            return list(self.values.texts)
        return [self.values.rounded(end) for end in (self.values.low, self.values.high)]

    def like(self, value: Any) -> Value | None:
        """A value of a configuration as one of this key's; None if it is none of them."""
        if isinstance(self.values, Choices):
            texts = {as_typed(value_of(f"key={text}")): text for text in self.values.texts}
            return texts.get(as_typed(value))
        if not self.values.has(value):
            return None
        return int(value) if self.values.whole else float(value)


class Space(NamedTuple):
    """keys: those that are searched. repeats: overrides of the runs whose mean a trial is, `seed=0`; one
    empty one if nothing is repeated. fixed: the other overrides.
    """

    keys: tuple[SearchedKey, ...]
    repeats: tuple[tuple[str, ...], ...]
    fixed: tuple[str, ...]

    def overrides(self, setting: Setting) -> tuple[str, ...]:
        """What to type for a setting, besides what is fixed."""
        return tuple(f"{key.key}={as_typed(setting[key.name])}" for key in self.keys)

    @property
    def size(self) -> float:
        """How many settings there are."""
        return math.prod(key.values.size for key in self.keys)

    @property
    def described(self) -> dict[str, Any]:
        """What makes it another search than others, as plain values."""
        fixed = sorted(plain(word) for word in self.fixed if key_of(word).split(".")[0] not in SAME)
        keys = {key.name: as_json(key.values) for key in self.keys}
        return {"keys": keys, "fixed": fixed, "repeats": [list(map(plain, words)) for words in self.repeats]}

    @property
    def short_name(self) -> str:
        """`temperature-alpha`, as the name of a folder."""
        return named_by(key.name for key in self.keys)

    @property
    def lengths_differ(self) -> bool:
        """Whether settings are trained for different numbers of epochs."""
        return any(key.name in LENGTHS for key in self.keys)


def as_json(values: Interval | Choices) -> list[Any]:
    """A space as plain values."""
    return [list(part) if isinstance(part, tuple) else part for part in values]


def space(typed: Typed, groups: ConfigLoader | None = None) -> Space:
    """The space that was typed. groups: knows the files that `glob(...)` may match.

    Raises KdrunError for a key that cannot be searched, and if there is none.
    """
    by_key: dict[str, Override] = {}
    for word in typed.every:
        (override,) = OverridesParser.create(groups).parse_overrides([word])
        by_key[override.get_key_element()] = override
    repeated = {key: word for key, word in by_key.items() if key in REPEATS and word.is_sweep_override()}
    searched = {k: w for k, w in by_key.items() if w.is_sweep_override() and k not in repeated}
    repeats = tuple(_repeats(repeated))
    keys = tuple(_key(key, override) for key, override in searched.items())
    if not keys:
        problem = f"no key is searched: at least one is a list a,b or an interval, {EXAMPLE}"
        raise KdrunError("kdrun tune", None, problem)
    fixed = [str(w.input_line) for k, w in by_key.items() if k not in searched and k not in repeated]
    return Space(keys, repeats, tuple(fixed))


def _repeats(repeated: Mapping[str, Override]) -> Iterator[tuple[str, ...]]:
    """All combinations of what is repeated."""
    combinations: list[tuple[str, ...]] = [()]
    for key, override in repeated.items():
        if not override.is_discrete_sweep():
            problem = "is repeated within each trial, so a list is needed: 0,1,2"
            raise KdrunError(key, given(override), problem)
        refuse_many(key, override)
        texts = [f"{key}={text}" for text in dict.fromkeys(override.sweep_string_iterator())]
        combinations = [(*before, text) for before in combinations for text in texts]
    yield from combinations


def _key(key: str, override: Override) -> SearchedKey:
    typed = given(override)
    _refuse_senseless(key.lstrip("+"), typed)
    value = override.value()
    tags = set(getattr(value, "tags", ()))
    if tags - {"log"}:
        raise KdrunError(key, typed, f"no such tag as {sorted(tags - {'log'})[0]}", ["log"])
    if isinstance(value, IntervalSweep):
        return SearchedKey(key, typed, _interval(key, typed, value))
    if isinstance(value, RangeSweep) and not value.shuffle:
        return SearchedKey(key, typed, _range(key, typed, value))
    if tags:
        raise KdrunError(key, typed, "choices have no order, so log has no meaning: it is for intervals")
    refuse_many(key, override)
    texts = tuple(dict.fromkeys(override.sweep_string_iterator()))
    if len(texts) == 1:
        raise KdrunError(key, typed, "one value leaves nothing to choose")
    return SearchedKey(key, typed, Choices(texts))


def _refuse_senseless(name: str, given: str) -> None:
    """Raises KdrunError for keys by whose values validation figures cannot be compared, or do not differ."""
    first, *rest = name.split(".")
    require(first != "stages", name, given, "kdrun tune sets the stages itself")
    require(first not in SAME, name, given, "changes no result, so there is nothing to choose")
    problem = "trials are compared without int8; the best one is measured in int8 too"
    require(first not in ("quantise", "int8"), name, given, problem)
    problem = "may change the images too; search the keys that differ"
    require(first not in ("experiment", "sweep"), name, given, problem)
    problem = "changes the images, and with others no setting can be compared"
    require(first != "dataset" or (rest and rest[0] in OF_TRAINING), name, given, problem)
    if name in CHOSEN:
        problem, more = f"names are needed, not an interval: {name}=NAME,NAME", f"kdrun list {LISTED[name]}"
        require("interval" not in given, name, given, problem, more=more)


def _interval(key: str, given: str, sweep: IntervalSweep) -> Interval:
    low, high = sweep.start, sweep.end
    assert low is not None and high is not None
    whole, log = isinstance(low, int) and isinstance(high, int), "log" in sweep.tags
    finite = math.isfinite(low) and math.isfinite(high)
    require(finite, key, given, "both ends must be finite numbers")
    require(low < high, key, given, "the first number must be below the second")
    require(low > 0 or not log, key, given, "a logarithmic interval begins above 0")
    return Interval(low, high, log, whole, 1 if whole else None)


def _range(key: str, given: str, sweep: RangeSweep) -> Interval:
    """The numbers of `range(start, stop, step)`, without the stop itself."""
    start, stop, step = sweep.start or 0, sweep.stop or 0, sweep.step
    problem = f"a range has steps, so it cannot be logarithmic: {INTERVALS}"
    require("log" not in sweep.tags, key, given, problem)
    finite = all(map(math.isfinite, (start, stop, step)))
    require(finite and step, key, given, "needs finite numbers, and a step that is not 0")
    count = math.ceil(round((stop - start) / step, 9))
    problem = "fewer than two numbers are in it, which leaves nothing to choose"
    require(count >= 2, key, given, problem)
    low, high = sorted((start, start + (count - 1) * step))
    return Interval(low, high, False, all(isinstance(n, int) for n in (start, stop, step)), abs(step))


def swept(space: Space, setting: Setting, repeat: Sequence[str] = ()) -> dict[str, Any]:
    """The values of a setting and a repeat as the configuration has them, by key."""
    words = [f"{key.name}={as_typed(setting[key.name])}" for key in space.keys]
    return {key_of(word): value_of(word) for word in (*words, *repeat)}
