"""What the shipped methods are made of, read from their files without composing them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from kdrun.config.files import entries, shipped

Loss = Mapping[str, Mapping[str, Any]]


class Preset(NamedTuple):
    """A method. phases: its losses, one or two, each a run's `loss`. A number that the data set may set
    (`${oc.select:KEY,DEFAULT}`) has its default. A number that refers to another key (`${...}`) has the
    default of the loss, a weight 1. changes_models: whether it has a peer in the teacher's place, or a
    student with the teacher's classifier.
    """

    name: str
    phases: tuple[Loss, ...]
    changes_models: bool = False


def presets() -> Iterator[Preset]:
    """All shipped methods, by name."""
    for entry in entries(shipped(), "method"):
        content = _content(entry.path)
        losses = entry.path.parents[1] / "loss"
        phases = (_terms(content, losses, "phase_one.loss"), _terms(content, losses, "loss"))
        changes = bool(content.get("peer") or content.get("student", {}).get("reuse_classifier"))
        yield Preset(entry.name, tuple(filter(None, phases)), changes)


def _terms(content: Mapping[str, Any], losses: Path, key: str) -> dict[str, dict[str, Any]]:
    """The terms of a preset below a key, each the file of its loss with the preset's own numbers."""
    own: Mapping[str, Any] = content
    for part in key.split("."):
        own = own.get(part, {})
    terms = {}
    for default in content["defaults"]:
        ((group, name),) = default.items()
        term = re.fullmatch(rf"/loss@{key}\.(\w+)", group)
        if term:
            numbers = _numbers(own.get(term[1], {}))
            terms[term[1]] = _content(losses / f"{name}.yaml") | {"weight": 1.0} | numbers
    return terms


def _numbers(settings: Mapping[str, Any]) -> dict[str, Any]:
    numbers = {key: _default(value) for key, value in settings.items()}
    return {key: value for key, value in numbers.items() if "${" not in str(value)}


def _default(value: Any) -> Any:
    """The DEFAULT of `${oc.select:KEY,DEFAULT}`, a number; any other value as it is."""
    default = re.fullmatch(r"\$\{oc\.select:[\w.]+,([-+.\de]+)\}", str(value))
    return float(default[1]) if default else value


def _content(path: Path) -> dict[str, Any]:
    import yaml

    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return content
