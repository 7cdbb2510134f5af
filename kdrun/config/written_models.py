"""Models as they are written: several teachers, `teacher=[a,b]`; models in between; the reference."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

from omegaconf import OmegaConf

from kdrun.config.choices import CONTROLS, PLAIN
from kdrun.config.files import Read
from kdrun.config.schema import Model, TeacherModel
from kdrun.config.words import no_such_key
from kdrun.errors import KdrunError

KEYS, TEACHERS_KEYS = ([field.name for field in fields(kind)] for kind in (Model, TeacherModel))

OPEN = re.compile(
    r"(phase_one\.)?loss\.\w+\.teacher|teachers\.\w+(\.\w+)*|teacher\.dataset(\.\w+)+|reference\.args(\.\w+)?"
)
"""Keys that need no `+` on a command line."""

ROLES = (
    rf"student|teachers?|reference|peer|plain|{PLAIN}(_\w+)?|{'|'.join(CONTROLS)}|(assistant|generation)\d*"
)
"""What other models of a run are called, as a pattern: no teacher of several can have such a name."""


def as_read(overrides: Sequence[str]) -> list[str]:
    """The overrides as Hydra is to read them: `teachers=[a,b]` for `teacher=[a,b]`, `reference.run=RUN` for
    `reference=RUN`. Raises KdrunError.
    """
    listed = next((o for o in overrides if re.match(r"\+*teachers?=\[", o)), None)
    single = next((o for o in overrides if re.match(r"\+*teachers\.", o)), None)
    if listed and single:
        key, _, value = single.lstrip("+").partition("=")
        name, _, rest = key.removeprefix("teachers.").partition(".")
        example = f"'{listed.partition('=')[0]}=[{{name: {name}, {rest or 'KEY'}: {value}}}, ...]'"
        raise KdrunError(key, value, f"is written in the list: {example}")
    return [_as_read(override) for override in overrides]


def _as_read(override: str) -> str:
    key, equals, value = override.partition("=")
    if key.lstrip("+") == "teacher" and value.startswith("["):
        return f"teachers={value}"
    if key.lstrip("+") == "reference" and equals and not value.startswith("{"):
        return f"reference.run={value}"
    return f"++{override}" if equals and OPEN.fullmatch(key) else override


def teachers(written: Any, model: Read) -> dict[str, dict[str, Any]]:
    """The teachers by name, of a list `[a, {name: b, seed: 1}]` or a mapping `{x: a, y: {name: b}}`; none of
    None. Raises KdrunError.

    model: reads a model's file.
    """
    if written is None:
        return {}
    if written in ([], {}):
        raise KdrunError("teachers", written, "names no teacher. For the one of the data set: teachers=null")
    if isinstance(written, Mapping):
        named = {str(name): entry for name, entry in written.items()}
        if len(named) < len(written):
            raise KdrunError("teachers", list(written), "two teachers have one name")
    elif isinstance(written, list):
        named = dict(_named(written))
    else:
        problem = "a list of models, or a mapping from names to models, is needed"
        raise KdrunError("teachers", written, problem)
    for name in named:
        _refuse_role(name)
    return {name: _teacher(f"teachers.{name}", entry, model) for name, entry in named.items()}


def _refuse_role(name: str) -> None:
    """Raises KdrunError for the name of a model that a report has beside the teachers."""
    if re.fullmatch(ROLES, name):
        problem = "is the name of another column; name it otherwise: teachers={NAME: {name: MODEL}, ...}"
        raise KdrunError(f"teachers.{name}", None, problem)


def _named(entries: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    """Each entry of a list with a name: that of its model, with a number if there are several."""
    models = [str(entry.get("name") if isinstance(entry, Mapping) else entry) for entry in entries]
    names = [re.sub(r"\W", "_", name) for name in models]
    given: set[str] = set()
    for place, (name, entry) in enumerate(zip(names, entries, strict=True)):
        number = names[:place].count(name) + 1
        own = name if number == 1 else f"{name}_{number}"
        while own in given or (number > 1 and own in names):  # a model that is called so itself
            number += 1
            own = f"{name}_{number}"
        given.add(own)
        yield own, entry


def _teacher(key: str, entry: Any, model: Read) -> dict[str, Any]:
    own = entry if isinstance(entry, Mapping) else {"name": entry}
    if not isinstance(own.get("name"), str) or not own["name"]:
        problem = "the name of a model is needed: {name: MODEL, ...}"
        raise KdrunError(key.rstrip("."), f"{entry}", problem, more="kdrun list models")
    if not re.fullmatch(r"teachers\.[A-Za-z0-9_]+", key):
        raise KdrunError(key, None, "the name of a teacher has letters, digits and _ only")
    for name in set(own) - set(TEACHERS_KEYS):
        raise KdrunError(f"{key}.{name}={own[name]}", None, "no such key", TEACHERS_KEYS)
    return _merged(model(own["name"], key), own)


def refuse_single(typed: Mapping[str, str], names: Sequence[str]) -> None:
    """Raises KdrunError for a typed key of the one teacher, if there are several."""
    for key, value in typed.items():
        if key == "teacher" and not value.startswith("["):
            one = f"For one: teachers=null teacher={value}"
            raise KdrunError(key, value, f"there are several teachers ({', '.join(names)}). {one}")
        if key.startswith("teacher."):
            example = f"teachers.{names[0]}.{key.partition('.')[2]}={value}"
            raise KdrunError(key, value, f"there are several teachers; of one of them: {example}")


def assistants(written: Any, model: Read) -> Iterator[dict[str, Any]]:
    """The models between teacher and student: a name, `{name: NAME, args: {...}}`, or a list of these."""
    for entry in written if isinstance(written, list) else [] if written is None else [written]:
        own = entry if isinstance(entry, Mapping) else {"name": entry}
        if not own.get("name"):
            raise KdrunError("assistant", entry, "the name of a model is needed", more="kdrun list models")
        for key in set(own) - set(KEYS):
            raise no_such_key(f"assistant.{key}", own[key], KEYS)
        yield _merged(model(str(own["name"]), "assistant"), own)


def reference(written: Mapping[str, Any], model: Read) -> dict[str, Any]:
    """The reference with the family and the arguments of its model. Raises KdrunError."""
    if written["model"] is None:
        return dict(written)
    node = model(str(written["model"]), "reference.model")
    described = {"family": node["family"], "args": node.get("args", {})}
    return {**written, **_merged(described, {"args": written["args"]})}


def _merged(node: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """A model's file with the keys that are written over it."""
    return OmegaConf.to_container(OmegaConf.merge(dict(node), dict(own)))  # type: ignore[return-value]
