"""Runs Hydra: from what was typed to one checked run, or to the jobs of a sweep."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import hydra
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf, open_dict, read_write

from kdrun.config.arguments import Typed
from kdrun.config.explain import explain
from kdrun.config.files import refuse_clashes, shipped
from kdrun.config.load import Loaded, load, refuse_impossible
from kdrun.config.plugins import register
from kdrun.errors import KdrunError
from kdrun.models.names import torchvision_names

OLD = hydra.__version__.startswith("1.3")


def single(typed: Typed) -> Loaded:
    """Composes, checks and returns one run. Raises KdrunError."""
    with composing(typed):
        return composed(list(typed.overrides))


@contextmanager
def composing(typed: Typed) -> Iterator[None]:
    """Starts Hydra, for one run or for the jobs of a sweep. Raises KdrunError for what it cannot read."""
    _prepare(typed)
    with _explained(typed.overrides), hydra.initialize_config_dir(str(shipped()), **_version()):
        yield


def composed(overrides: list[str]) -> Loaded:
    """The run of these overrides, within `composing`. Raises KdrunError."""
    with _explained(overrides):
        config = hydra.compose("config", overrides, return_hydra_config=True)
        typed, choices = _texts(config.hydra.overrides.task), config.hydra.runtime.choices
        with read_write(config), open_dict(config):
            del config["hydra"]
        return load(config, typed, choices, read_recipe, read_model)


def file_values(overrides: list[str]) -> dict[str, Any]:
    """The values that the files chosen by these overrides sweep over (`hydra.sweeper.params`), by key."""
    config = hydra.compose("config", overrides, return_hydra_config=True)
    return dict(config.hydra.sweeper.get("params") or {})


def loader() -> ConfigLoader:
    """Hydra's loader of files, within `composing`."""
    return GlobalHydra.instance().config_loader()


def _texts(overrides: Any) -> list[str]:
    """Hydra's list of overrides as plain texts, unresolved."""
    plain = OmegaConf.to_container(overrides, resolve=False)
    return [str(override) for override in plain] if isinstance(plain, list) else []


def show(typed: Typed) -> None:
    """Lets Hydra show a configuration or completions, as the flags say. Raises KdrunError."""
    _prepare(typed)
    with _explained(typed.overrides), _arguments(["kdrun", *typed.flags, *typed.overrides]):
        hydra.main(config_path=str(shipped()), config_name="config", **_version())(lambda config: None)()


def read_recipe(name: str) -> Mapping[str, Mapping[str, Any]]:
    """The recipe of a name, shipped or a user's, as plain values: `{teacher: {...}, student: {...}}`."""
    return _read("recipe", name, "dataset.recipe")


def read_model(name: str) -> Mapping[str, Any]:
    """The model of a name, shipped, a user's or a library's, as plain values: `{name, family, args}`."""
    return _read("model", name, "assistant")


def _read(group: str, name: str, key: str) -> Mapping[str, Any]:
    """A file of a group. key: of the error if there is none of this name."""
    files = loader()
    path = f"{group}/{name}"
    source = next((source for source in files.get_sources() if source.is_config(path)), None)
    if source is None:
        choices = files.get_group_options(group)
        raise KdrunError(key, name, f"no such {group}", choices, f"kdrun list {group}s")
    content = source.load_config(path).config
    if "defaults" in content:  # a user's file that builds on another
        content = hydra.compose(path)[group]
    return OmegaConf.to_container(content)  # type: ignore[return-value]


def _version() -> dict[str, str]:
    return {"version_base": "1.3"} if OLD else {}


def _prepare(typed: Typed) -> None:
    """Refuses what Hydra would misread, and tells Hydra of kdrun and of the user's files."""
    refuse_impossible(typed.overrides)
    if typed.config_dir is not None:
        refuse_clashes(typed.config_dir, torchvision_names())
    register(typed.config_dir)


@contextmanager
def _explained(overrides: Sequence[str]) -> Iterator[None]:
    """Turns what Hydra raises for a user's mistake into KdrunError; other exceptions pass."""
    try:
        yield
    except Exception as error:
        mistake = explain(error, overrides)
        if mistake is None or mistake is error:
            raise
        raise mistake from error


@contextmanager
def _arguments(arguments: list[str]) -> Iterator[None]:
    """Sets the arguments that Hydra reads, and makes it raise instead of print; restores both."""
    before, full = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv, os.environ["HYDRA_FULL_ERROR"] = arguments, "1"
    try:
        yield
    finally:
        sys.argv = before
        if full is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = full
