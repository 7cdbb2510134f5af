"""What the shipped methods are made of, read from their files without composing them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from kdrun.config.files import content_of, entries, shipped, terms_of

PresetTerms = Mapping[str, Mapping[str, Any]]


class Preset(NamedTuple):
    """A method. phases: its losses, one or two, each a run's `loss`. What the data set may say otherwise
    (`${oc.select:KEY,DEFAULT}`) has its default; what refers to other keys (`${...}`) is left at the default
    of the loss, a weight at 1. changes_models: whether it has a peer in the teacher's place, or a student
    with the teacher's classifier.
    """

    name: str
    phases: tuple[PresetTerms, ...]
    changes_models: bool = False


def presets() -> Iterator[Preset]:
    """All shipped methods, by name."""
    for entry in entries(shipped(), "method"):
        content = content_of(entry.path)
        phases = (_phase(entry.path, content, "phase_one.loss"), _phase(entry.path, content, "loss"))
        changes = bool(content.get("peer") or content.get("student", {}).get("reuse_classifier"))
        yield Preset(entry.name, tuple(filter(None, phases)), changes)


def _phase(method: Path, content: Mapping[str, Any], key: str) -> dict[str, dict[str, Any]]:
    """The terms of a method below a key, each the file of its loss with the method's own numbers."""
    own = content
    for part in key.split("."):
        own = own.get(part, {})
    losses = method.parents[1] / "loss"
    terms = [term for term in terms_of(method) if term.key == key]
    usual = {term.name: content_of(losses / f"{term.loss}.yaml") | {"weight": 1.0} for term in terms}
    return {name: usual[name] | _numbers(own.get(name, {})) for name in usual}


def _numbers(settings: Mapping[str, Any]) -> dict[str, Any]:
    numbers = {key: _default(value) for key, value in settings.items()}
    return {key: value for key, value in numbers.items() if "${" not in str(value)}


def _default(value: Any) -> Any:
    """The DEFAULT of `${oc.select:KEY,DEFAULT}`, a number; anything else as it is."""
    default = re.fullmatch(r"\$\{oc\.select:[\w.]+,([-+.\de]+)\}", str(value))
    return float(default[1]) if default else value
