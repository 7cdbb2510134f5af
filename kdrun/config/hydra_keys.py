"""Hydra's own keys: Hydra composes and kdrun runs, so for most of them there is something else to type."""

from __future__ import annotations

import re
from collections.abc import Sequence

from omegaconf import DictConfig

from kdrun.errors import KdrunError

ALLOWED = ("hydra.searchpath",)

INSTEAD = {
    r"hydra[./]launcher.*": "Hydra only composes here. Where models are trained: engine=NAME",
    r"hydra\.sweeper\.params.*": "the values of a sweep are typed with -m, or stand in a file: sweep=NAME",
    r"hydra[./]sweeper.*": "kdrun -m key=a,b runs all combinations, kdrun tune searches with Optuna",
    r"hydra\.(run|sweep)\..*": "kdrun makes its own folders. To choose where: outputs_dir=DIR",
    r"hydra\.job\.chdir": "kdrun stays where it is started. To choose where outputs go: outputs_dir=DIR",
    r"hydra\.mode": "a sweep is started by -m: kdrun -m key=a,b",
    r"hydra[./].*": "Hydra only composes here, so this key has no effect",
}
"""The answer to a key, by the first pattern that it matches."""


def refuse_hydras_keys(overrides: Sequence[str]) -> None:
    """Raises KdrunError for a key of Hydra's own that kdrun does not leave to Hydra."""
    for override in overrides:
        key, equals, value = override.lstrip("+~").partition("=")
        name = key.partition("@")[0]
        if re.match(r"hydra[./]", name) and name not in ALLOWED:
            problem = next(text for pattern, text in INSTEAD.items() if re.fullmatch(pattern, name))
            raise KdrunError(key, value if equals else None, problem)


def refuse_hydras_parts(hydra: DictConfig) -> None:
    """Raises KdrunError for a launcher, a sweeper or callbacks that a file chooses: kdrun calls none."""
    for group in ("hydra/launcher", "hydra/sweeper"):
        chosen = hydra.runtime.choices[group]
        if chosen != "basic":
            refuse_hydras_keys([f"{group}={chosen}"])
    if hydra.callbacks:
        raise KdrunError("hydra.callbacks", None, "are not called: Hydra only composes here")
