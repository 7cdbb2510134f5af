"""Runs Hydra: what was typed becomes one checked run, or the jobs of a sweep."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from kdrun.config.explain import explain
from kdrun.config.files import refuse_clashes, shipped
from kdrun.config.load import Loaded, load, refuse_impossible
from kdrun.config.plugins import register
from kdrun.config.typed import Typed
from kdrun.errors import KdrunError
from kdrun.models.names import torchvision_names

VERSIONED = (
    {"version_base": "1.3"}
    if hydra.__version__.startswith("1.3")
    else {"execution_whitelist": ["kdrun.config.sweep.Sweep"]}
)


def single(typed: Typed) -> Loaded:
    """Composes, checks and returns one run. Raises KdrunError."""
    found: list[Loaded | Exception] = []

    def task(config: DictConfig) -> None:
        """Only takes the configuration out of Hydra: an exception here would be printed by Hydra in its own way."""
        try:
            found.append(loaded(config, job_overrides()))
        except Exception as error:
            found.append(error)

    start(task, typed)
    if isinstance(found[0], Exception):
        raise found[0]
    return found[0]


def job_overrides() -> list[str]:
    """The overrides of the job at work, as typed: a list of texts, in which nothing is resolved."""
    return list(OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False))


def loaded(config: DictConfig, overrides: Sequence[str]) -> Loaded:
    """Like `load`, with recipes read through the Hydra that is at work. Raises KdrunError."""
    try:
        return load(config, overrides, read_recipe)
    except Exception as error:
        told = explain(error, overrides)
        if told is None:
            raise
        raise told from error


def start(task: Callable[[DictConfig], Any], typed: Typed) -> None:
    """Calls `hydra.main` with these arguments; its exceptions come out as KdrunError, bugs as they are."""
    refuse_impossible(typed.overrides)
    if typed.config_dir is not None:
        refuse_clashes(typed.config_dir, torchvision_names())
    register()
    read_recipe.cache_clear()
    try:
        with _arguments(["kdrun", *typed.flags, *typed.place, *typed.overrides]):
            hydra.main(config_path=str(shipped()), config_name="config", **VERSIONED)(task)()
    except Exception as error:
        told = explain(error, typed.overrides)
        if told is None:
            raise
        raise told from error


@lru_cache
def read_recipe(name: str) -> Mapping[str, Mapping[str, Any]]:
    """The recipe of a name, shipped or a user's, as plain values: `{teacher: {...}, student: {...}}`."""
    loader = GlobalHydra.instance().config_loader()
    choices = loader.get_group_options("recipe")
    if name not in choices:
        raise KdrunError("dataset.recipe", name, "no such recipe", choices, "kdrun list recipes")
    composed = hydra.compose(f"recipe/{name}")
    return OmegaConf.to_container(composed.recipe)  # type: ignore[return-value]


@contextmanager
def _arguments(arguments: list[str]) -> Iterator[None]:
    """The arguments that Hydra reads, and its way of raising instead of printing; both restored."""
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
