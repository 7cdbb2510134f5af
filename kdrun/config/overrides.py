"""Single overrides, `key=value`: what each may be, and quotes around names and paths, which are text."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, Quote, QuotedString
from hydra.errors import HydraException

from kdrun.config.files import CHOSEN, LISTED
from kdrun.errors import KdrunError

TEXTS = re.compile(
    r"outputs_dir|data_dir|name|note|reference(\.(run|model|checkpoint))?|(teacher|student|teachers\.\w+)\.(name|checkpoint)"
    r"|engine\.(name|partition|account|address|executor)"
    r"|dataset\.(name|path|unlabelled|\w+_(path|dir|file))"
)
"""Keys whose values are names or paths."""

DATA = re.compile(r"dataset\.\w+")
"""Keys that may also hold a path: numbers, lists and mappings stay what they are."""

LISTS = re.compile(
    r"stages|packages|logger|diagnostics|tags|evaluation\.(figures|batches)|engine\.setup|recipe\.\w+\.(betas|milestones)"
)
"""Keys whose values are lists; one value stands for a list of it."""

INTERVALS = (
    "an interval is interval(LOW,HIGH), of whole numbers int(interval(LOW,HIGH)), tag(log, ...) of either"
)

HINTS = {
    "model": "as which? teacher={0} or student={0}",
    "loss": "as which term? +loss@loss.TERM={0}, or choose a method",
    "table": "is a command: kdrun table {0}",
}
"""Groups that are only chosen for a role or a term, or by a command."""

SINGLE = ("dataset", "teacher", "student", "method", "recipe", "engine")


def key_of(override: str) -> str:
    """The key of `+loss.hard.weight=1`: `loss.hard.weight`."""
    return override.partition("=")[0].lstrip("+~")


def given(override: Override) -> str:
    """The value as it was typed."""
    return (override.input_line or "").partition("=")[2]


def refuse_impossible(overrides: Sequence[str]) -> None:
    """Raises KdrunError for what Hydra would misread: `student=[a,b]`, `teacher=null`, `teacher=5`."""
    for override in overrides:
        key, equals, value = override.lstrip("+").partition("=")
        name = key.lstrip("~")
        if not name or not (equals or key.startswith("~")):
            raise KdrunError(override, None, "an override is key=value, +key=value or ~key")
        if name.startswith("assistant."):
            example = f"assistant={{name: NAME, {name.partition('.')[2]}: {value or '...'}}}"
            raise KdrunError(key, value, f"is written with the assistant's name: {example}")
        if name in HINTS and key == name:
            raise KdrunError(key, value, HINTS[name].format(value))
        if name not in LISTED:
            continue
        more = f"kdrun list {LISTED[name]}"
        if name in SINGLE and value.startswith("[") and name != "teacher":
            inside = value.strip("[]").replace(" ", "")
            each = f". To run each: kdrun -m {name}={inside}" if inside else ""
            raise KdrunError(key, value, f"one {name} is meant{each}", more="" if inside else more)
        if name in SINGLE and (value == "null" or key.startswith("~")):
            article = "an" if name == "engine" else "a"
            raise KdrunError(override, None, f"a run needs {article} {name}", more=more)
        if re.fullmatch(r"[-+.\d]+|true|false|\{.*", value):
            noun = "model" if name in ("teacher", "student") else name
            raise KdrunError(key, value, f"no such {noun}", more=more)


def readable(override: str, several: bool = False) -> str:
    """The override, with quotes around a name or a path that Hydra would not read as it was typed, and with
    brackets around one value where a list is meant.

    several: whether commas separate the values of a sweep.
    """
    key, equals, value = override.partition("=")
    if equals and LISTS.fullmatch(key.lstrip("+")):
        return f"{key}={_listed(value, several)}"
    name = key.lstrip("+").partition("@")[0]
    is_text = bool(TEXTS.fullmatch(name)) or name in (*CHOSEN, "loss")
    is_data = bool(DATA.fullmatch(name)) and not value.startswith(("[", "{"))
    if not equals or not (is_text or is_data):
        return override
    parts = value.split(",") if several and not _is_read(value, is_text) else [value]
    return f"{key}={','.join(part if _is_read(part, is_text) else quoted(part) for part in parts)}"


def _listed(value: str, several: bool) -> str:
    """`[a]` for `a`, and `[a],[b]` for `a,b` in a sweep; anything else as it is."""
    override = parsed(f"key={value}")
    read = override._value if override else None
    if isinstance(read, ChoiceSweep) and several and not value.startswith("choice"):
        return ",".join(_listed(part, False) for part in value.split(",")) if "[" not in value else value
    is_one = isinstance(read, (str, int, float, QuotedString)) and value not in ("", "null")
    return f"[{value}]" if is_one else value


def quoted(text: str) -> str:
    """The text as Hydra reads it back."""
    return QuotedString(text, Quote.single).with_quotes()


def shell_text(key: str, value: str) -> str:
    """What to type in a shell for a value that is text: `'key="value"'`."""
    return shlex.quote(f"{key}={QuotedString(value, Quote.double).with_quotes()}")


def parsed(override: str) -> Override | None:
    """What Hydra's grammar makes of an override; None for what it cannot read."""
    try:
        return OverridesParser.create().parse_override(override)
    except (HydraException, ValueError):  # ValueError: a number of thousands of digits
        return None


def refuse_unreadable(overrides: Iterable[str]) -> None:
    """Raises KdrunError for an override that Hydra's grammar cannot read."""
    for override in overrides:
        if ("=" in override or override.startswith("~")) and parsed(override) is None:
            raise unreadable(override)


def unreadable(override: str) -> KdrunError:
    """The mistake in an override that Hydra's grammar cannot read: in its key, or in its value."""
    key, equals, value = override.partition("=")
    if parsed(f"{key}=1" if equals else key) is None:
        problem = "cannot be read: a key is names with dots between them, such as recipe.student.lr"
        return KdrunError(key, value if equals else None, problem)
    if re.search(r"\d{4000}", value):
        return KdrunError(key, value, "has a number with more digits than can be read")
    if "interval(" in value:
        return KdrunError(key, value, f"cannot be read: {INTERVALS}")
    problem = "cannot be read. Lists [a,b] and mappings {a: 1} need quotes in a shell; as a text: "
    return KdrunError(key, value, problem + shell_text(key, value))


def _is_read(value: str, numbers_too: bool) -> bool:
    """Whether Hydra reads a value as it is meant. numbers_too: whether a number is meant as text."""
    override = parsed(f"key={value}")
    if override is None or (numbers_too and value != value.strip()):
        return False
    read = override._value.list if isinstance(override._value, ChoiceSweep) else [override._value]
    return not (numbers_too and any(isinstance(each, (bool, int, float)) for each in read))
