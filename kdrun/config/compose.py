"""Runs Hydra: what was typed becomes one checked run, or the jobs of a sweep."""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import hydra
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from kdrun.config.arguments import Typed
from kdrun.config.callers import refuse_in_files
from kdrun.config.explain import explain
from kdrun.config.files import CHOSEN, refuse_clashes, shipped
from kdrun.config.hydra_keys import refuse_hydras_keys, refuse_hydras_parts, refuse_missing_folders
from kdrun.config.load import Loaded, Readers, as_run, described
from kdrun.config.overrides import refuse_impossible
from kdrun.config.pattern import Pattern, pattern_of
from kdrun.config.plugins import register
from kdrun.config.written_models import as_read
from kdrun.errors import KdrunError
from kdrun.models.names import torchvision_names

Composed = tuple[DictConfig, Mapping[str, Any]]
"""What Hydra made of overrides, and by group the file that was chosen."""

OLD = hydra.__version__.startswith("1.3")


def single(typed: Typed) -> Loaded:
    """Composes, checks and returns one run. Raises KdrunError."""
    with composing(typed):
        return as_run(described(*_compose(typed.overrides), typed.overrides), typed.overrides, _readers())


@contextmanager
def composing(typed: Typed) -> Iterator[None]:
    """Hydra at work, for one run or for the jobs of a sweep. Raises KdrunError for what it cannot read."""
    _prepare(typed)
    with _explained(typed.overrides), hydra.initialize_config_dir(str(shipped()), **_version()):
        yield


class Composer:
    """Composes the jobs of a sweep by the Hydra that is at work, each as `single` would.

    Hydra composes what jobs have in common once; values of keys are then written into a copy, and plain
    values into the plain content of another job. Each file of a recipe or a model is read once.
    """

    def __init__(self) -> None:
        self.bases: dict[tuple[str, ...], Composed] = {}
        self.patterns: dict[tuple[Any, ...], Pattern | None] = {}
        self.read = _readers()

    def __call__(self, overrides: Sequence[str], swept: Mapping[str, Any]) -> Loaded:
        """overrides: of the job. swept: the swept keys with the job's values. Raises KdrunError."""
        with _explained(overrides):
            values = {
                key: value for key, value in swept.items() if not (set("@/") & set(key) or key in CHOSEN)
            }
            common = tuple(override for override in overrides if override.partition("=")[0] not in values)
            alike = (common, *values)
            pattern = self.patterns.get(alike)
            content = pattern.followed(values) if pattern else None
            if content is None:
                written = self._written(common, values)
                config, choices = written or _compose(overrides)
                content = described(config, choices, overrides)
                if written and alike not in self.patterns:
                    self.patterns[alike] = pattern_of(config, content, values)
            return as_run(content, overrides, self.read)

    def _written(self, common: tuple[str, ...], values: Mapping[str, Any]) -> Composed | None:
        """None if the whole way must be taken: a swept key does not exist, holds a mapping or has a value of
        another type, so that the order of the overrides or the error matters.
        """
        try:
            if common not in self.bases:
                self.bases[common] = _compose(common)
            base, choices = self.bases[common]
            if any(isinstance(OmegaConf.select(base, key), DictConfig) for key in values):
                return None
            config = copy.deepcopy(base)
            for key, value in values.items():
                OmegaConf.update(config, key, value, merge=True)
            return config, choices
        except (OmegaConfBaseException, HydraException):
            return None


def _compose(overrides: Sequence[str]) -> Composed:
    read = as_read(overrides)
    config = hydra.compose("config", read, return_hydra_config=True)
    refuse_hydras_parts(config.hydra)
    refuse_in_files(loader(), read)
    choices = config.hydra.runtime.choices
    with read_write(config), open_dict(config):
        del config["hydra"]
    return config, choices


def loader() -> ConfigLoader:
    """What the Hydra at work reads files with."""
    return GlobalHydra.instance().config_loader()


def show(typed: Typed) -> None:
    """Lets Hydra's own command line show what `typed.shows` asks for. Raises KdrunError."""
    read = as_read(typed.overrides)
    with composing(typed):
        refuse_in_files(loader(), read)
    with _explained(typed.overrides), _arguments(["kdrun", *typed.shows, *read]):
        hydra.main(config_path=str(shipped()), config_name="config", **_version())(lambda config: None)()


def _readers() -> Readers:
    """Read each file once."""
    return Readers(*(cache(partial(_read, group)) for group in Readers._fields))


def _read(group: str, name: str, key: str) -> Mapping[str, Any]:
    """A file of a group, shipped, a user's or a library's, as plain values. key: where its name stands."""
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
    try:
        os.getcwd()
    except FileNotFoundError:
        raise KdrunError("this folder", None, "was removed; start kdrun in another one") from None
    refuse_impossible(typed.overrides)
    refuse_hydras_keys(typed.overrides)
    refuse_missing_folders(typed.overrides)
    if typed.config_dir is not None:
        refuse_clashes(typed.config_dir, torchvision_names())
    register(typed.config_dir)


@contextmanager
def _explained(overrides: Sequence[str]) -> Iterator[None]:
    """Turns what Hydra raises for a user's mistake into KdrunError; lets bugs pass."""
    try:
        yield
    except Exception as error:
        explained = explain(error, overrides)
        if explained is None or explained is error:
            raise
        raise explained from error


@contextmanager
def _arguments(arguments: list[str]) -> Iterator[None]:
    """What Hydra's command line reads as arguments; it raises instead of printing. Both are restored."""
    before, asked = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv, os.environ["HYDRA_FULL_ERROR"] = arguments, "1"
    try:
        yield
    finally:
        sys.argv = before
        if asked is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = asked
