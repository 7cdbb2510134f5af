"""The model that a student is to replace, as it is written: `reference=RUN`, or a mapping with a model's file
of weights.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from omegaconf import OmegaConf

from kdrun.config.check_teachers import check_teacher
from kdrun.config.schema import Reference
from kdrun.errors import KdrunError

DESCRIBING = ("args", "checkpoint", "pretrained", "stem", "classes", "normalisation")
"""Keys of a model that is named; a run has its own."""

MOST = 100.0
"""The largest difference of two accuracies, in points."""

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


def check_reference(reference: Reference) -> None:
    """Raises KdrunError for the first value that cannot be meant."""
    if not 0 <= reference.margin <= MOST:
        raise KdrunError("reference.margin", reference.margin, f"must be 0 to {MOST:g} points")
    usual = Reference()
    given = [key for key in DESCRIBING if getattr(reference, key) != getattr(usual, key)]
    teacher = reference.as_teacher
    if teacher is not None:
        if reference.run is not None:
            raise KdrunError(
                "reference.model", reference.model, "reference=RUN names the model; leave it out"
            )
        if not (teacher.checkpoint or teacher.pretrained):
            problem = "a trained model is needed: reference.checkpoint=FILE, or reference.pretrained=true"
            raise KdrunError("reference.model", reference.model, problem)
        check_teacher("reference", teacher)
    elif given and reference.run is not None:
        raise KdrunError(f"reference.{given[0]}", None, "the run says that itself; leave it out")
    elif given:
        example = f"reference.model=resnet50 reference.{given[0]}=..."
        raise KdrunError(f"reference.{given[0]}", None, f"of which model? {example}")
    elif reference.run is None and reference.class_map is not None:
        raise KdrunError("reference.class_map", None, "there is no reference: reference=RUN")
