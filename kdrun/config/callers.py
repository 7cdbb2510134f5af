"""What the caller alone decides, on the command line: which code is imported or run. No file can set it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from hydra.core.config_loader import ConfigLoader
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigSource
from hydra.types import RunMode
from omegaconf import OmegaConf

from kdrun.config.hydra_keys import refuse_in_file, searchpath
from kdrun.errors import KdrunError
from kdrun.figures import as_typed

CALLERS = {
    "packages": "packages=[mine]",
    "engine.setup": "engine.setup=['module load cuda']",
    "engine.address": "engine.address=HOST:PORT",
}
"""Keys that only the command line can set, with an example: what is imported, which lines a shell runs, and
whose answers are unpickled.
"""

SEARCHPATH = "hydra.searchpath"
PROBLEM = "no file can set this, since it decides which code runs. Take it out there"

OURS = ("hydra", "main", "kdrun", "schema")
"""Sources of files that are not the user's, as Hydra's search path names them."""


class Used(NamedTuple):
    """A user's file from which a run is composed. values: its content, below the key at which it is put."""

    path: str
    values: Mapping[str, Any]


def is_callers(override: str) -> bool:
    """Whether an override sets a key of the caller, or the folders in which Hydra looks for files."""
    return any(_sets(override, key) for key in (*CALLERS, SEARCHPATH))


def refuse_in_files(loader: ConfigLoader, overrides: Sequence[str]) -> None:
    """Raises KdrunError for a user's file that sets a key of the caller, or one of Hydra's own.

    loader: of the Hydra at work. overrides: as Hydra reads them, all of which it has composed before.
    """
    for file in used_files(loader, overrides):
        refuse_in_file(file.path, file.values)
        for key in CALLERS:
            if found := _at(file.values, key):
                raise _refusal(file.path, key, found)


def refuse_untyped(values: Mapping[str, Any], overrides: Sequence[str]) -> None:
    """Raises KdrunError if a key of the caller has a value that nobody typed, however it came there.

    values: of the whole configuration, composed and resolved.
    """
    for key in CALLERS:
        found = _at(values, key)
        if found and not any(_sets(override, key) for override in overrides):
            raise _refusal("configuration", key, found)


def refuse_listed(where: str, overrides: Sequence[str]) -> None:
    """Raises KdrunError if a file lists an override that only the caller may type. where: file and key."""
    for override in overrides:
        if is_callers(override):
            raise KdrunError(where, override, f"{PROBLEM}, and type it")


def _refusal(where: str, key: str, value: Any) -> KdrunError:
    """The error for a file that sets a key of the caller. value: as it stands there."""
    names = isinstance(value, list) and all(isinstance(name, str) and name.isidentifier() for name in value)
    example = f"{key}={as_typed(value)}" if names else CALLERS[key]
    return KdrunError(f"{where}: {key}", None, f"{PROBLEM}, and type {shlex.quote(example)}")


def used_files(loader: ConfigLoader, overrides: Sequence[str]) -> Iterator[Used]:
    """The user's files from which Hydra composes these overrides, in its order."""
    sources = [*loader.get_sources(), *map(_source, searchpath(overrides))]
    if all(source.provider in OURS for source in sources):
        return
    for default in loader.compute_defaults_list("config", list(overrides), RunMode.RUN).defaults:
        name = default.config_path or ""
        source = next((source for source in sources if source.is_config(name)), None)
        if source is None or source.provider in OURS:
            continue
        values: Any = OmegaConf.to_container(source.load_config(name).config)
        for part in reversed([part for part in (default.package or "").split(".") if part]):
            values = {part: values}
        if isinstance(values, dict):
            file = name if name.endswith(".yaml") else f"{name}.yaml"
            yield Used(f"{source.full_path().removeprefix('file://')}/{file}", values)


def _source(address: str) -> ConfigSource:
    """What Hydra reads a folder of `hydra.searchpath` with; a package it has imported before."""
    plugins: Any = Plugins.instance().discover(ConfigSource)
    kinds = {kind.scheme(): kind for kind in plugins}
    source: ConfigSource = kinds[address.rpartition("://")[0] or "file"]("command-line", address)
    return source


def _sets(override: str, key: str) -> bool:
    """Whether an override sets a key, one below it (`packages.0=x`), or one above it (`engine={...}`)."""
    typed, _, value = override.lstrip("+").partition("=")
    below, above = f"{typed}.".startswith(f"{key}."), f"{key}.".startswith(f"{typed}.")
    return below or (above and value.lstrip().startswith("{"))


def _at(values: Any, key: str) -> Any:
    """The value at a dotted key; None if there is none."""
    for part in key.split("."):
        values = values.get(part) if isinstance(values, Mapping) else None
    return values
