"""The names of torchvision's and timm's classifiers, read from their sources; nothing is imported."""

from __future__ import annotations

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

# `@register_model`, `@register_model()` or `@register_model(name="x")`; other decorators; the function.
REGISTERED = re.compile(
    r"^@register_model(?:\(\s*(?:(?:name\s*=\s*)?[\"'](?P<given>\w+)[\"'])?\s*\))?\s*\n"
    r"(?:^(?!def\s).*\n)*?"
    r"^def\s+(?P<function>\w+)",
    re.MULTILINE,
)

TIMM = "timm/"
"""What timm's names begin with, so that they are not torchvision's of the same name."""


def library(name: str) -> str | None:
    """The family of a model that needs no file: torchvision, timm (which says if it is missing), None."""
    if name.startswith(TIMM):
        return "timm" if not timm_names() or name.partition(".")[0] in timm_names() else None
    return "torchvision" if name in torchvision_names() else None


@cache
def timm_names() -> tuple[str, ...]:
    """All names that `timm.list_models()` gives, each after `timm/`, sorted; empty without timm."""
    return tuple(f"{TIMM}{name}" for name in _names_of("timm", "**/*.py"))


@cache
def torchvision_names() -> tuple[str, ...]:
    """All that `torchvision.models.list_models(module=torchvision.models)` gives, sorted, or nothing."""
    return tuple(_names_of("torchvision", "*.py"))


def _names_of(package: str, files: str) -> list[str]:
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return []
    folder = Path(next(iter(spec.submodule_search_locations))) / "models"
    return sorted({name for file in folder.glob(files) for name in registered(file.read_text("utf-8"))})


def registered(source: str) -> tuple[str, ...]:
    """The names under which a source file registers models."""
    return tuple(match["given"] or match["function"] for match in REGISTERED.finditer(source))
