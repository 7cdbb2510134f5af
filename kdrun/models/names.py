"""The names of torchvision's classifiers, read from its sources, without importing it or torch."""

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


@cache
def torchvision_names() -> tuple[str, ...]:
    """All names that `torchvision.models.list_models(module=torchvision.models)` gives, sorted.

    Empty where torchvision is not installed.
    """
    spec = find_spec("torchvision")
    if spec is None or not spec.submodule_search_locations:
        return ()
    folder = Path(next(iter(spec.submodule_search_locations))) / "models"
    found = {name for path in sorted(folder.glob("*.py")) for name in registered(path.read_text("utf-8"))}
    return tuple(sorted(found))


def registered(source: str) -> tuple[str, ...]:
    """The names under which a source file registers models."""
    return tuple(match["given"] or match["function"] for match in REGISTERED.finditer(source))
