"""What Hydra and OmegaConf raise, as the one line that a user can act on."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import yaml
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException, ValidationError

from kdrun.config.files import LISTED
from kdrun.config.keys import known
from kdrun.config.overrides import key_of, quoted, unreadable
from kdrun.config.words import no_such_key
from kdrun.errors import KdrunError

PICTURES = re.compile(r"(my_?)?(photos?|pictures?|images?|folder|image_?folder)", re.IGNORECASE)
"""Names that people give to a folder of pictures."""

NOUNS = {"dataset": "data set"}
KINDS = {
    "Integer": "must be a whole number",
    "Float": "must be a number",
    "Boolean": "must be true or false",
    "String": "must be a text",
}


def explain(error: BaseException, overrides: Sequence[str]) -> KdrunError | None:
    """The mistake behind an exception that composing raised; None if the exception is a bug.

    overrides: as typed. Hydra names the file or the group; the user knows the override.
    """
    for cause in _chain(error):
        if isinstance(cause, KdrunError):
            return cause
        mistake = _explained(cause, overrides)
        if mistake is not None:
            return mistake
    if isinstance(error, RecursionError):
        problem = "a defaults list leads back to its own file, at once or through others"
        return KdrunError(_of_file(overrides), None, problem)
    if isinstance(error, HydraException) or _raised_by_hydra(error):
        return KdrunError(_file(error) or _of_file(overrides), None, _flat(str(error)))
    return None


def _raised_by_hydra(error: BaseException) -> bool:
    """Whether a plain exception comes from inside Hydra, whose parsers raise them for bad input."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = trace.tb_frame.f_globals.get("__name__", "") if trace else ""
    return where.partition(".")[0] in ("hydra", "omegaconf", "yaml")


def _explained(cause: BaseException, overrides: Sequence[str]) -> KdrunError | None:
    if isinstance(cause, OverrideParseException):
        return unreadable(cause.override)
    if isinstance(cause, MissingConfigException):
        return _missing(cause, overrides)
    if isinstance(cause, yaml.MarkedYAMLError):
        mark = cause.problem_mark or cause.context_mark
        where = f"{mark.name}, line {mark.line + 1}" if mark else "a YAML file"
        return KdrunError(where, None, f"is not YAML: {cause.problem}")
    if isinstance(cause, UnicodeDecodeError):
        return KdrunError(_of_file(overrides), None, "is not a text in UTF-8")
    if isinstance(cause, OmegaConfBaseException):
        return _wrong_value(cause, overrides)
    if isinstance(cause, ConfigCompositionException):
        return _composition(cause, overrides)
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The exception and what led to it, the earliest last; a missing file's own words come first."""
    seen: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in seen:
        seen.append(current)
        current = current.__cause__ or current.__context__
    telling = (KdrunError, MissingConfigException, OmegaConfBaseException, yaml.MarkedYAMLError)
    yield from sorted(seen, key=lambda each: not isinstance(each, telling))


def _missing(error: MissingConfigException, overrides: Sequence[str]) -> KdrunError:
    group, _, name = (error.missing_cfg_file or "").rpartition("/")
    overrides = [override.replace(quoted(name), name) for override in overrides]
    key = _typed_for(group, name, overrides)
    noun = NOUNS.get(group, group.rpartition("/")[2]) or "file"
    inside = _file(error) if f"{key}={name}" not in overrides else ""
    problem = f"no such {noun}" + (f" (wanted by {inside})" if inside else "")
    more = f"kdrun list {LISTED[group]}" if group in LISTED else ""
    if group == "dataset" and PICTURES.fullmatch(name):
        problem += ". A folder of pictures is dataset=imagefolder dataset.path=FOLDER"
    return KdrunError(key, name, problem, error.options or (), more)


def _typed_for(group: str, name: str, overrides: Sequence[str]) -> str:
    """The key under which a name was typed: `teacher` if Hydra misses `model/x`."""
    for override in overrides:
        key, _, value = override.partition("=")
        if value == name or (not value and key == name):
            return key.lstrip("+")
    return group or "configuration"


def _file(error: BaseException) -> str:
    """The file that Hydra names at the start of its message."""
    named = re.match(r"In '([^']+)'", str(error))
    return f"{named[1]}.yaml" if named and named[1] != "config" else ""


def _of_file(overrides: Sequence[str]) -> str:
    """The files that a mistake without a key can be in: those of the user's experiment or sweep."""
    named = [o.lstrip("+") for o in overrides if key_of(o) in ("experiment", "sweep")]
    return " ".join(named) or "configuration"


def _wrong_value(error: OmegaConfBaseException, overrides: Sequence[str]) -> KdrunError:
    key = str(getattr(error, "full_key", None) or _of_file(overrides))
    below = [key_of(o) for o in overrides if key_of(o).endswith(f".{key}")]
    key = below[0] if len(below) == 1 else key  # OmegaConf leaves out what stands above a key of a mapping
    value = next((o.partition("=")[2] for o in overrides if key_of(o) == key), None)
    message = str(getattr(error, "msg", None) or error).splitlines()[0]
    if " is not a subclass of " in message and (
        below := [own for own in known() if own.startswith(f"{key}.")]
    ):
        problem = f"has no value of its own, but keys such as {below[0]}"
        return KdrunError(key, value, problem, more=f"kdrun explain {key}")
    if re.search(r"Cannot merge \w+ with |Cannot assign \w+ to Dict|Merge error: list is not", message):
        problem = "has a list or a value where a mapping {key: value} is needed, or the other way round"
        return KdrunError(key, value, problem)
    if "'DictConfig' to string" in message and key in ("experiment", "sweep"):
        problem = "the first line of this file must be: # @package _global_   (without a mark of byte order)"
        return KdrunError(key, value or "", problem)
    if isinstance(error, ValidationError):
        shown = re.match(r"Value '(.*)' of type", message)
        kind = re.search(r"could not be converted to (\w+)", message)
        value = value if value is not None else (shown[1] if shown else None)
        if "is not Optional" in message or "not nullable" in message:
            drop = f"must not be null. To drop a term: ~{key}"
            return KdrunError(key, "null", drop if re.fullmatch(r"loss\.\w+", key) else "must not be null")
        if "is not a ListConfig" in message:
            return KdrunError(key, value, f"a list is needed: {key}=[{value}]")
        kind_name = "Boolean" if "not a valid bool" in message else (kind[1] if kind else "")
        return KdrunError(key, value, KINDS.get(kind_name, _flat(message)))
    if isinstance(error, InterpolationResolutionError):
        return KdrunError(key, value, f"refers to what is not there: {_flat(message)}")
    if "not in struct" in message or "not in '" in message or "not found" in message:
        return no_such_key(key, value, _siblings(error, key), _every(error))
    return KdrunError(key, value, _flat(message))


def _every(error: OmegaConfBaseException) -> list[str]:
    """All keys of the terms of the run that was composed so far."""
    parent: Any = getattr(error, "parent_node", None)
    try:
        terms = parent._get_root().get("loss") or {}
        return [f"loss.{term}.{key}" for term in terms for key in terms[term]]
    except (AttributeError, TypeError, OmegaConfBaseException):
        return []


def _siblings(error: OmegaConfBaseException, key: str) -> list[str]:
    parent: Any = getattr(error, "parent_node", None)
    prefix = f"{key.rpartition('.')[0]}." if "." in key else ""
    try:
        return [f"{prefix}{name}" for name in parent if name != "hydra"]
    except (TypeError, OmegaConfBaseException):
        return []


def _composition(error: ConfigCompositionException, overrides: Sequence[str]) -> KdrunError | None:
    message = str(error)
    sweep = re.search(r"Ambiguous value for argument '([^']*)'|Sweep parameters '([^']*)'", message)
    if sweep:
        key, _, value = (sweep[1] or sweep[2]).partition("=")
        if "interval(" in value:
            return KdrunError(key, value, "an interval is searched: kdrun tune; a run has one value")
        return KdrunError(key, value, "several values: to run each, add -m; for a list, [brackets]")
    deleted = re.search(r"Could not delete from config. '([^']+)' does not exist", message)
    if deleted:
        return KdrunError(f"~{deleted[1]}", None, "no such key, so there is nothing to drop")
    if not message:
        return None
    word = re.search(r"'([^']+)'", message)
    typed = next((o for o in overrides if word and key_of(o) == key_of(word[1])), "")
    if typed:
        key, _, value = typed.partition("=")
        there = f"the key is there already, so without +: {key.lstrip('+')}=..."
        problem = there if "Could not append to config" in message else _flat(message)
        return KdrunError(key, value or None, problem)
    return KdrunError(_file(error) or _of_file(overrides), None, _flat(message))


def _flat(message: str) -> str:
    """Hydra's own words on one line, without what only its authors need."""
    needless = re.compile(r"(full_key|object_type|reference_type|Search path|provider=)")
    lines = filter(None, map(str.strip, message.splitlines()))
    return re.sub(r"^In '[^']*': ", "", " ".join(line for line in lines if not needless.match(line)))
