"""From what Hydra composed to a checked `Run`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from kdrun.config import controls, quick, recipes, reference, shorts, words
from kdrun.config.callers import refuse_untyped
from kdrun.config.check import check
from kdrun.config.choices import DATASET_HINTS, KEY_CHOICES
from kdrun.config.exact import Inexact, exact
from kdrun.config.keys import known
from kdrun.config.numbers import refuse_unusable
from kdrun.config.own_dataset import own_dataset
from kdrun.config.pairs import OF
from kdrun.config.plugins import ROLES, Written
from kdrun.config.quotes import TEXTS
from kdrun.config.schema import MISSING, Model, Remarks, Run
from kdrun.config.teachers import refuse_single, teachers
from kdrun.config.texts import refuse_unusable_texts
from kdrun.errors import KdrunError
from kdrun.paths import expanded, no_folder
from kdrun.schedule import unfolded

LISTED = {
    "dataset": "datasets",
    "teacher": "models",
    "student": "models",
    "model": "models",
    "method": "methods",
    "loss": "losses",
    "recipe": "recipes",
    "engine": "engines",
    "experiment": "experiments",
}
"""What `kdrun list` calls the choices of a key."""

HINTS = {
    "model": "as which? teacher={0} or student={0}",
    "loss": "as which term? +loss@loss.TERM={0}, or choose a method",
    "table": "is a command: kdrun table {0}",
}
"""Groups that are only chosen for a role or a term, or by a command."""

SINGLE = ("dataset", "teacher", "student", "method", "recipe", "engine")
SHARED = ("temperature", "alpha")
"""Root keys that terms refer to; a term's own number hides them."""


PLACES = ("data_dir", "outputs_dir")
"""Folders, in which `~` is the user's own."""

FEW = 6
"""So many keys are all named if none is like the one that was typed."""

SHOWN = 5
"""So many keys are named that may be meant."""

Node = Callable[[str], Mapping[str, Any]]
"""Reads a file of a group by name. Raises KdrunError for an unknown name."""


class Loaded(NamedTuple):
    """A run, the overrides that were typed for it, and what the user should know about it, a line each."""

    run: Run
    overrides: tuple[str, ...]
    notes: tuple[str, ...] = ()


class Described(NamedTuple):
    """What Hydra composed, checked and as plain values. written: the terms as YAML, with their references.
    notes: as in `Loaded`.
    """

    plain: dict[str, Any]
    written: str
    notes: tuple[str, ...]


class Readers(NamedTuple):
    """Each reads a file of its group by name."""

    recipe: recipes.Read
    model: Node
    dataset: Node


def load(
    config: DictConfig, overrides: Sequence[str], choices: Mapping[str, Any], readers: Readers
) -> Loaded:
    """The run that a composed configuration describes. Raises KdrunError.

    overrides: as typed, without Hydra's own. choices: by group, for files that do not say their name.
    """
    return as_run(described(config, overrides), overrides, choices, readers)


def described(config: DictConfig, overrides: Sequence[str]) -> Described:
    """A composed configuration as plain values; what no term uses becomes None in it. Raises KdrunError."""
    refuse_impossible(overrides)
    for key, value, keys in unknown(config, Written):
        raise no_such_key(key, value, keys)
    _refuse_halves(config)
    written = "".join(OmegaConf.to_yaml(terms, resolve=False) for terms in _losses(config).values())
    typed = _typed(overrides)
    _refuse_idle(config, typed)
    notes = tuple(_drop_unused(config, written, typed))
    return Described(OmegaConf.to_container(config, resolve=True), written, notes)  # type: ignore[arg-type]


def as_run(
    content: Described, overrides: Sequence[str], choices: Mapping[str, Any], readers: Readers
) -> Loaded:
    """The run of plain values, which are changed. Arguments and errors are those of `load`."""
    plain = content.plain
    refuse_untyped(plain, overrides)
    _require(plain)
    plain |= {key: os.path.expanduser(str(plain[key])) for key in PLACES if plain[key] is not None}
    plain["dataset"] |= _as_text(plain["dataset"])
    plain["dataset"] |= _unlabelled(plain["dataset"], readers.dataset)
    given = {"teacher"} if plain["teachers"] else set()
    spelled = _resolve(plain, _typed(overrides), choices, readers)
    run = _converted(plain)
    by_data_set = [role for role in ROLES if str(choices.get(role)).startswith(OF) and role not in given]
    run.remarks = Remarks(spelled, by_data_set)
    refuse_unusable(plain)
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
    for hint in DATASET_HINTS:
        plain["dataset"].pop(hint, None)
    if isinstance(plain["diagnostics"], str):
        plain["diagnostics"] = [plain["diagnostics"]]
    plain["control"] = controls.written(plain["control"])
    plain["teachers"] = teachers(plain["teachers"], readers.model)
    if plain["teachers"]:
        refuse_single(typed, list(plain["teachers"]))
        plain["teacher"] = next(iter(plain["teachers"].values()))
    _own_datasets(plain, readers.dataset)
    if len(plain["teachers"]) == 1:
        plain["teachers"] = {}
    plain["reference"] = reference.described(plain["reference"], readers.model)
    spelled = shorts.into_recipes(plain, typed)
    roles = {role: plain[role] for role in ROLES}
    plain["assistant"] = list(_assistants(plain["assistant"], readers.model))
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


def _as_text(dataset: Mapping[str, Any]) -> dict[str, str]:
    """The name and the paths of a data set that YAML reads as numbers, such as a folder called 2024."""
    numbers = {key: value for key, value in dataset.items() if type(value) in (int, float)}
    return {key: str(value) for key, value in numbers.items() if TEXTS.fullmatch(f"dataset.{key}")}


def _unlabelled(dataset: Mapping[str, Any], named: Node) -> dict[str, Any]:
    """The folder of `dataset.unlabelled`, or in place of a data set's name what its file says."""
    chosen = dataset.get("unlabelled")
    if chosen is None:
        return {}
    if not isinstance(chosen, str) or not chosen:
        raise KdrunError(
            "dataset.unlabelled", chosen, "must be a folder of pictures, the name of a data set, or null"
        )
    if expanded(chosen).is_dir():
        return {}
    if "/" in chosen:
        raise KdrunError("dataset.unlabelled", chosen, no_folder(expanded(chosen)) or "no such folder")
    return {"unlabelled": dict(named(chosen))}


def _own_datasets(plain: Mapping[str, Any], named: Node) -> None:
    """Puts in place of what is written of the teachers' own data sets the whole data sets."""
    several = {f"teachers.{name}": each for name, each in plain["teachers"].items()}
    for key, teacher in (several or {"teacher": plain["teacher"]}).items():
        own = own_dataset(f"{key}.dataset", teacher.get("dataset"), plain["dataset"], named)
        teacher["dataset"] = None if own is None else own | _as_text(own)


def _assistants(written: Any, model: Node) -> Iterator[Mapping[str, Any]]:
    """The models between teacher and student: a name, `{name: NAME, args: {...}}`, or a list of these."""
    for entry in written if isinstance(written, list) else [] if written is None else [written]:
        own = entry if isinstance(entry, Mapping) else {"name": entry}
        if not own.get("name"):
            raise KdrunError("assistant", entry, "the name of a model is needed", more="kdrun list models")
        keys = [field.name for field in fields(Model)]
        for key in set(own) - set(keys):
            raise no_such_key(f"assistant.{key}", own[key], keys)
        described = OmegaConf.merge(dict(model(str(own["name"]))), dict(own))
        yield OmegaConf.to_container(described)  # type: ignore[misc]


def key_of(override: str) -> str:
    """The key of `+loss.hard.weight=1`: `loss.hard.weight`."""
    return override.partition("=")[0].lstrip("+~")


def no_such_key(key: str, value: Any, choices: Sequence[str], every: Sequence[str] = ()) -> KdrunError:
    """A key that does not exist, with those that may be meant, or else that are spelled most like it.

    choices: the keys beside it. every: all keys of this run.
    """
    typed = key if value is None else f"{key}={value}"
    if problem := words.advice(key):
        return KdrunError(typed, None, f"no such key, and {problem}")
    if files := words.files_with(key):
        return KdrunError(typed, None, f"no such key here, only with {any_of(files, most=len(files))}")
    if keys := words.meant(key, every):
        values = KEY_CHOICES.get(keys[0], ()) if len(keys) == 1 else ()
        which = f" ({' | '.join(values)})" if values else ""
        return KdrunError(typed, None, f"no such key. Is it {any_of(keys)}{which}?")
    others = [name for name in (*known(), *every) if name != key]  # it can be one of another data set
    close = words.alike(key, choices) or words.alike(key, others)
    if close or len(choices) <= FEW:
        label = f". Nearest: {', '.join(close[:3])}" if close else ""
        return KdrunError(typed, None, f"no such key{label}", () if close else choices)
    return KdrunError(typed, None, "no such key", more="kdrun list keys")


def any_of(names: Sequence[str], most: int = SHOWN) -> str:
    """`a, b or c`, at most `most` of them."""
    *first, last = names[:most]
    more = (
        f" ({len(names) - most} more: kdrun explain {names[0].rpartition('.')[2]})"
        if len(names) > most
        else ""
    )
    return (f"{', '.join(first)} or {last}" if first else last) + more


def refuse_impossible(overrides: Sequence[str]) -> None:
    """Raises KdrunError for what Hydra would misread: `student=[a,b]`, `teacher=null`, `teacher=5`."""
    for override in overrides:
        key, equals, value = override.lstrip("+").partition("=")
        name = key.lstrip("~")
        if not name or not (equals or key.startswith("~")):
            raise KdrunError(override, None, "an override is key=value, +key=value or ~key")
        if name.startswith("assistant."):
            example = f"assistant={{name: NAME, {name.partition('.')[2]}: {value or '...'}}}"
            raise KdrunError(key, value, f"is written with the assistant's name: {example}")
        if name in HINTS and key == name:
            raise KdrunError(key, value, HINTS[name].format(value))
        if name not in LISTED:
            continue
        more = f"kdrun list {LISTED[name]}"
        if name in SINGLE and value.startswith("[") and name != "teacher":
            inside = value.strip("[]").replace(" ", "")
            each = f". To run each: kdrun -m {name}={inside}" if inside else ""
            raise KdrunError(key, value, f"one {name} is meant{each}", more="" if inside else more)
        if name in SINGLE and (value == "null" or key.startswith("~")):
            article = "an" if name == "engine" else "a"
            raise KdrunError(override, None, f"a run needs {article} {name}", more=more)
        if re.fullmatch(r"[-+.\d]+|true|false|\{.*", value):
            noun = "model" if name in ("teacher", "student") else name
            raise KdrunError(key, value, f"no such {noun}", more=more)


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
