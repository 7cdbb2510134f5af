"""From what Hydra composed to a checked `Run`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from kdrun.config import controls, quick, recipes
from kdrun.config.callers import refuse_untyped
from kdrun.config.check import check
from kdrun.config.choices import ROLES
from kdrun.config.exact import Inexact, exact
from kdrun.config.files import OF, Read
from kdrun.config.overrides import key_of, refuse_impossible
from kdrun.config.plugins import Written
from kdrun.config.schema import MISSING, Remarks, Run
from kdrun.config.values import refuse_unusable_numbers, refuse_unusable_texts
from kdrun.config.words import no_such_key
from kdrun.config.written_datasets import whole_datasets
from kdrun.config.written_models import assistants, reference, refuse_single, teachers
from kdrun.errors import KdrunError
from kdrun.schedule import unfolded

SHARED = ("temperature", "alpha")
"""Root keys that terms refer to; a term's own number hides them."""

PLACES = ("data_dir", "outputs_dir")
"""Folders, in which `~` is the user's own."""


class Loaded(NamedTuple):
    """A run, the overrides that were typed for it, and what the user should know about it, a line each."""

    run: Run
    overrides: tuple[str, ...]
    notes: tuple[str, ...] = ()


class ComposedRun(NamedTuple):
    """What Hydra composed, checked and as plain values. choices: by group, for files that do not say their
    name. written: the terms as YAML, with their references. notes: as in `Loaded`.
    """

    plain: dict[str, Any]
    choices: Mapping[str, Any]
    written: str
    notes: tuple[str, ...]


class Readers(NamedTuple):
    """Each reads a file of its group."""

    recipe: Read
    model: Read
    dataset: Read


def described(config: DictConfig, choices: Mapping[str, Any], overrides: Sequence[str]) -> ComposedRun:
    """A composed configuration as plain values; what no term uses becomes None in it. Raises KdrunError.

    overrides: as typed, without Hydra's own.
    """
    refuse_impossible(overrides)
    for key, value, keys in unknown(config, Written):
        raise no_such_key(key, value, keys)
    _refuse_halves(config)
    written = "".join(OmegaConf.to_yaml(terms, resolve=False) for terms in _losses(config).values())
    typed = _typed(overrides)
    _refuse_idle(config, typed)
    notes = tuple(_drop_unused(config, written, typed))
    plain: Any = OmegaConf.to_container(config, resolve=True)
    return ComposedRun(plain, choices, written, notes)


def as_run(content: ComposedRun, overrides: Sequence[str], readers: Readers) -> Loaded:
    """The run of plain values, which are changed. Raises KdrunError."""
    plain, choices = content.plain, content.choices
    refuse_untyped(plain, overrides)
    _require(plain)
    plain |= {key: os.path.expanduser(str(plain[key])) for key in PLACES if plain[key] is not None}
    given = {"teacher"} if plain["teachers"] else set()
    spelled = _resolve(plain, _typed(overrides), choices, readers)
    run = _converted(plain)
    by_data_set = [role for role in ROLES if str(choices.get(role)).startswith(OF) and role not in given]
    run.remarks = Remarks(spelled, by_data_set)
    refuse_unusable_numbers(plain)
    refuse_unusable_texts(run)
    check(run, shared_with_labels="${complement:${alpha}}" in content.written)
    return Loaded(run, tuple(overrides), content.notes)


def _typed(overrides: Sequence[str]) -> dict[str, str]:
    return {key_of(override): override.partition("=")[2] for override in overrides}


def _converted(plain: Mapping[str, Any]) -> Run:
    """Plain values as a `Run`, converted and refused as OmegaConf does."""
    try:
        run = exact(Run, plain)
    except Inexact:
        run = OmegaConf.to_object(OmegaConf.merge(_schema(), plain))
    assert isinstance(run, Run)
    return run


def _resolve(
    plain: dict[str, Any], typed: Mapping[str, str], choices: Mapping[str, Any], readers: Readers
) -> list[str]:
    """Replaces in a plain configuration what stands for something else: short keys, recipes, schedules.

    Returns the long keys that short ones stood for.
    """
    if isinstance(plain["diagnostics"], str):
        plain["diagnostics"] = [plain["diagnostics"]]
    plain["control"] = controls.written(plain["control"])
    plain["teachers"] = teachers(plain["teachers"], readers.model)
    if plain["teachers"]:
        refuse_single(typed, list(plain["teachers"]))
        plain["teacher"] = next(iter(plain["teachers"].values()))
    whole_datasets(plain, readers.dataset)
    if len(plain["teachers"]) == 1:
        plain["teachers"] = {}
    plain["reference"] = reference(plain["reference"], readers.model)
    spelled = recipes.from_short_keys(plain, typed)
    roles = {role: plain[role] for role in ROLES}
    plain["assistant"] = list(assistants(plain["assistant"], readers.model))
    plain["recipe"] = recipes.resolve(
        plain["recipe"], plain["dataset"], roles, readers.recipe, plain["assistant"], plain["teachers"]
    )
    for group in ("method", "experiment"):
        plain[group] = plain[group] or choices.get(group)
    for key in (*SHARED, "loss", "phase_one"):
        plain[key] = unfolded(plain[key])
    if plain["quick"] is True:
        quick.shorten(plain)
    return spelled


@cache
def _schema() -> DictConfig:
    """The types of all keys; made once, as it takes a quarter of the time of `load`."""
    schema: DictConfig = OmegaConf.structured(Run)
    return schema


def unknown(config: DictConfig, schema: type, prefix: str = "") -> Iterator[tuple[str, Any, list[str]]]:
    """Keys that `+key` added and the schema does not have: the key, its value, the keys that exist."""
    types = {field.name: field for field in fields(schema)}
    for key in map(str, config):
        name = f"{prefix}{key}"
        if key not in types:
            yield name, OmegaConf.select(config, key), list(types)
            continue
        node = config._get_node(key)
        kind = OmegaConf.get_type(node) if isinstance(node, DictConfig) else None
        if kind is not None and is_dataclass(kind) and isinstance(kind, type):
            assert isinstance(node, DictConfig)
            yield from unknown(node, kind, f"{name}.")


def _refuse_halves(config: DictConfig) -> None:
    """A term without a name is what is left when another method replaced the one that it was written for."""
    for key, terms in _losses(config).items():
        for term, node in terms.items():
            if not isinstance(node, DictConfig) or "name" not in node:
                keys = f"{{{', '.join(map(str, node))}}}" if isinstance(node, DictConfig) else node
                problem = f"method {config.method} has no such term. Leave it out, or say which loss it is"
                more = f"+loss@{key}.{term}=LOSS (kdrun list losses); to drop a term: ~{key}.NAME"
                raise KdrunError(f"{key}.{term}", keys, f"{problem}: {more}", [])


def _losses(config: DictConfig) -> dict[str, Any]:
    """The terms of both phases by the key that they are below."""
    return {"loss": config.loss, "phase_one.loss": config.phase_one.loss}


def _drop_unused(config: DictConfig, written: str, typed: Mapping[str, str]) -> Iterator[str]:
    """Nulls a temperature or alpha that no term refers to: an error if it was typed, else a note."""
    for key in SHARED:
        value = config[key]
        if value is None or f"${{{key}}}" in written:
            continue
        if key in typed:
            what = "a temperature" if key == "temperature" else "alpha"
            problem = f"no term of method {config.method} uses {what}. Its terms: {', '.join(config.loss)}"
            raise KdrunError(key, typed[key], problem)
        config[key] = None
        yield f"{key}={value} is not used: no term refers to it"


def _refuse_idle(config: DictConfig, typed: Mapping[str, str]) -> None:
    """Raises KdrunError for a setting of int8 that is typed for a run without int8."""
    for key, value in typed.items():
        if key.startswith("int8.") and config.quantise is None:
            raise KdrunError(key, value, "used only with quantise=int8")


def _require(plain: Mapping[str, Any]) -> None:
    for role in ("teacher", "student"):
        if not isinstance(plain[role], Mapping) or plain[role]["name"] == MISSING:
            raise KdrunError(role, "null", "a model is needed", more="kdrun list models")
    for group, example in (("dataset", "digits_few"), ("loss", "")):
        if not plain[group]:
            problem = "a data set is needed" if example else "no term is left"
            raise KdrunError(group, "null" if example else None, problem)
