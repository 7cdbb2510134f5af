"""The model that a student is to replace, as it is written: `reference=RUN`, or a mapping with a model's file
of weights.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from omegaconf import OmegaConf

from kdrun.errors import KdrunError

OPEN = re.compile(r"reference\.args(\.\w+)?")
"""Keys that need no `+` on a command line: the family of the model has them."""

Node = Callable[[str], Mapping[str, Any]]


def as_read(overrides: Sequence[str]) -> list[str]:
    """The overrides as Hydra is to read them: `reference.run=RUN` for `reference=RUN`."""
    return [_as_read(override) for override in overrides]


def _as_read(override: str) -> str:
    key, equals, value = override.partition("=")
    if key.lstrip("+") == "reference" and equals and not value.startswith("{"):
        return f"reference.run={value}"
    return f"++{override}" if equals and OPEN.fullmatch(key) else override


def described(written: Mapping[str, Any], model: Node) -> dict[str, Any]:
    """The reference with the family and the arguments of its model. Raises KdrunError.

    model: reads a model's file by name.
    """
    name = written["model"]
    if name is None:
        return dict(written)
    try:
        node = model(str(name))
    except KdrunError as error:  # which names the key of assistants
        raise KdrunError("reference.model", *error.args[1:]) from None
    own: dict[str, Any] = OmegaConf.to_container(  # type: ignore[assignment]
        OmegaConf.merge({"family": node["family"], "args": node.get("args", {})}, {"args": written["args"]})
    )
    return {**written, **own}
