"""Hydra's own keys: Hydra composes and kdrun runs, so for most of them there is something else to type."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from kdrun.config.files import refuse_schema
from kdrun.config.overrides import parsed
from kdrun.errors import KdrunError
from kdrun.nested import leaves
from kdrun.paths import no_folder
from kdrun.users_code import is_found

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


def searchpath(overrides: Sequence[str]) -> list[str]:
    """The folders of `hydra.searchpath=[...]` as typed. Raises KdrunError for what is no list of folders."""
    typed = [word for word in overrides if word.lstrip("+").startswith("hydra.searchpath=")]
    read = parsed(typed[0]) if typed else None
    folders: Any = read.value() if read else []
    if not isinstance(folders, list) or not all(isinstance(folder, str) for folder in folders):
        raise KdrunError("hydra.searchpath", folders, "a list of folders is needed: [file:///my/conf]")
    return folders


def refuse_missing_folders(overrides: Sequence[str]) -> None:
    """Raises KdrunError for a folder of `hydra.searchpath` that is none, of which Hydra only warns."""
    for folder in searchpath(overrides):
        scheme, mark, place = folder.rpartition("://")
        if scheme not in ("", "file", "pkg") or (mark and not scheme):
            raise KdrunError("hydra.searchpath", folder, "must be a folder, file://FOLDER or pkg://PACKAGE")
        if scheme != "pkg":
            if not Path(place).is_dir():
                raise KdrunError("hydra.searchpath", folder, no_folder(place) or "no such folder")
            refuse_schema(Path(place))
        elif not is_found(place.replace("/", ".")):
            raise KdrunError("hydra.searchpath", folder, "no such package")


def refuse_hydras_keys(overrides: Sequence[str]) -> None:
    """Raises KdrunError for a key of Hydra's own that kdrun does not leave to Hydra."""
    for override in overrides:
        key, equals, value = override.lstrip("+~").partition("=")
        name = key.partition("@")[0]
        if re.match(r"hydra[./]", name) and name not in ALLOWED:
            raise KdrunError(key, value if equals else None, _instead(name))


def refuse_in_file(path: str, values: Mapping[str, Any]) -> None:
    """Raises KdrunError for a key of Hydra's own in a user's file, except `hydra.sweeper.params`."""
    own = values.get("hydra", {})
    keys = [key for key, _ in leaves(own, "hydra.")] if isinstance(own, Mapping) else ["hydra."]
    for key in keys:
        if not f"{key}.".startswith("hydra.sweeper.params."):
            raise KdrunError(f"{path}: {key.rstrip('.')}", None, _instead(key))


def refuse_hydras_parts(hydra: DictConfig) -> None:
    """Raises KdrunError for a launcher or a sweeper that a defaults list chooses: kdrun calls none."""
    for group in ("hydra/launcher", "hydra/sweeper"):
        chosen = hydra.runtime.choices[group]
        if chosen != "basic":
            refuse_hydras_keys([f"{group}={chosen}"])


def _instead(key: str) -> str:
    return next(text for pattern, text in INSTEAD.items() if re.fullmatch(pattern, key))
