"""The names of torchvision's and timm's classifiers, read from their sources; nothing is imported."""

from __future__ import annotations

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

# `@register_model()`, or `@register_model(name="x")`; then other decorators, then the function.
REGISTERED = re.compile(
    r"^@register_model\(\s*(?:(?:name\s*=\s*)?[\"'](?P<given>\w+)[\"'])?\s*\)\s*\n"
    r"(?:^(?!def\s).*\n)*?"
    r"^def\s+(?P<function>\w+)",
    re.MULTILINE,
)

BARE = re.compile(r"^@register_model\s*\n(?:^(?!def\s).*\n)*?^def\s+(?P<function>\w+)", re.MULTILINE)
"""`@register_model`, as timm has it."""

TIMM = "timm/"
"""What timm's names begin with, so that they are not torchvision's of the same name."""


def library(name: str) -> str | None:
    """The family of a model that needs no file: torchvision, timm (with or without a tag after a dot), None.

    Where timm is not installed, its family says so.
    """
    if name.startswith(TIMM):
        return "timm" if not timm_names() or name.partition(".")[0] in timm_names() else None
    return "torchvision" if name in torchvision_names() else None


@cache
def timm_names() -> tuple[str, ...]:
    """All names that `timm.list_models()` gives, each after `timm/`, sorted; empty without timm."""
    folder = _models_of("timm")
    if folder is None:
        return ()
    sources = (path.read_text("utf-8") for path in folder.rglob("*.py"))
    return tuple(sorted({f"{TIMM}{match['function']}" for text in sources for match in BARE.finditer(text)}))


@cache
def torchvision_names() -> tuple[str, ...]:
    """All names that `torchvision.models.list_models(module=torchvision.models)` gives, sorted.

    Empty if torchvision is not installed.
    """
    folder = _models_of("torchvision")
    if folder is None:
        return ()
    names = {name for path in sorted(folder.glob("*.py")) for name in registered(path.read_text("utf-8"))}
    return tuple(sorted(names))


def _models_of(package: str) -> Path | None:
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations))) / "models"


def registered(source: str) -> tuple[str, ...]:
    """The names under which a source file registers models."""
    return tuple(match["given"] or match["function"] for match in REGISTERED.finditer(source))
