"""All keys with the comments of the shipped files: for `kdrun explain`, docs/keys.md and mistyped keys."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from kdrun.config.choices import DATASET_HINTS, DATASET_KEYS, KEY_CHOICES, ROLES
from kdrun.config.files import CHOSEN, OF, content_of, entries, shipped, terms_of
from kdrun.nested import leaves

LINE = re.compile(r"^(?P<indent> *)(?P<key>[\w/ ]+):(?P<value>[^#]*?)(?:\s*# (?P<comment>.*))?$")
SHARED = "digits"
"""The data set whose file stands for all others, for the keys that each of them has."""

COMMON = {
    "name": "the loss: one of kdrun list losses, or a module of yours",
    "weight": "of the term: a number, or a schedule such as 0..1@20",
    "temperature": "softens teacher and student",
}
"""Comments of arguments that most losses have and few files explain."""


class KeyLine(NamedTuple):
    """A key of a YAML file, with the text of its value and its comment."""

    key: str
    value: str
    comment: str


class Key(NamedTuple):
    """A key as it is typed. default: its text, empty for a key with keys below. of: the files whose runs
    alone have it, such as `loss dkd`; none: every run has it. choices: its values, if they are words.
    """

    name: str
    default: str
    comment: str
    of: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()

    @property
    def last(self) -> str:
        return self.name.rpartition(".")[2]


def lines(path: Path) -> Iterator[KeyLine]:
    """The keys of a YAML file in order, dotted, without Hydra's defaults list."""
    above: list[tuple[int, str]] = []
    for text in path.read_text(encoding="utf-8").splitlines():
        if (match := LINE.match(text)) is None:
            continue
        indent = len(match["indent"])
        above = [(column, key) for column, key in above if column < indent] + [(indent, match["key"])]
        value = re.sub(r"^[&*]\w+$", "", match["value"].strip())
        if above[0][1] != "defaults":
            yield KeyLine(".".join(key for _, key in above), value, (match["comment"] or "").strip())


@cache
def keys() -> tuple[Key, ...]:
    """All keys, each once: of the run, its data set, its models, its recipes, its terms."""
    engines = _of_each("engine", lambda key: key == "name")
    every = [*_of_the_run(), *_of_datasets(), *_of_recipes(), *engines, *_of_losses()]
    return tuple(key._replace(choices=KEY_CHOICES.get(_pattern(key.name), ())) for key in every)


def _pattern(name: str) -> str:
    """The key with `ROLE` for a role below which both have the same keys."""
    return re.sub(r"(^|\.)(teacher|student)\.", r"\1ROLE.", name)


def _of_the_run() -> Iterator[Key]:
    """Groups first, with the comments of the defaults list."""
    config = shipped() / "config.yaml"
    chosen = re.compile(r"^  - (\w+): (\S+) +# (.*)$", re.MULTILINE)
    for name, default, comment in chosen.findall(config.read_text(encoding="utf-8")):
        by_data_set = default.startswith(OF)
        yield Key(name, "by data set" if by_data_set else default, comment.partition(f"; {OF}")[0])
    for line in lines(config):
        if line.key in ROLES:
            continue
        if line.key.startswith("student."):
            yield Key(f"teacher.{line.key.partition('.')[2]}", line.value, line.comment)
        yield Key(line.key, line.value, line.comment)


def _of_datasets() -> Iterator[Key]:
    shared = {line.key: line for line in lines(shipped() / "dataset" / f"{SHARED}.yaml")}
    for key, line in shared.items():
        if key not in DATASET_HINTS:
            yield Key(f"dataset.{key}", line.value, line.comment)
    known = {*DATASET_KEYS, *DATASET_HINTS}
    yield from _of_each("dataset", lambda key: key in shared or key.split(".")[0] in known)


def _of_recipes() -> Iterator[Key]:
    written = [line for line in lines(shipped() / "recipe" / "auto.yaml") if line.key not in ROLES]
    for line in written:
        yield Key(f"recipe.{line.key}", line.value, line.comment)
        if line.key.startswith("teacher."):
            yield Key(f"recipe.student.{line.key.partition('.')[2]}", line.value, line.comment)


def _of_each(group: str, without: Callable[[str], bool]) -> Iterator[Key]:
    """The keys of a group's files, each with the files that have it and the first comment on it."""
    own: dict[str, list[tuple[str, KeyLine]]] = {}
    for entry in entries(shipped(), group):
        for line in lines(entry.path):
            if not without(line.key):
                own.setdefault(line.key, []).append((entry.name, line))
    for key, files in own.items():
        comment = next((line.comment for _, line in files if line.comment), "")
        of = tuple(f"{group} {name}" for name, _ in files)
        yield Key(f"{group}.{key}", files[0][1].value, comment, of)


def _of_losses() -> Iterator[Key]:
    """`loss.TERM.beta` of each loss that has it, with the comment of its own file or of another loss."""
    files = {entry.name: list(lines(entry.path)) for entry in entries(shipped(), "loss")}
    comments = {line.key: line.comment for own in files.values() for line in own if line.comment}
    for name, own in files.items():
        for line in own:
            if line.key != "name":
                comment = line.comment or COMMON.get(line.key) or comments.get(line.key, "")
                yield Key(f"loss.TERM.{line.key}", line.value, comment, (f"loss {name}",))


def methods_of(loss: str) -> list[str]:
    """The methods with a term of this loss."""
    methods = entries(shipped(), "method")
    return [entry.name for entry in methods if any(term.loss == loss for term in terms_of(entry.path))]


def setters(name: str) -> dict[str, list[str]]:
    """The shipped files that give a key a value, by that value: `{"4.0": ["method at_kd", ...]}`."""
    files_of: dict[str, list[str]] = {}
    for kind in CHOSEN if name not in CHOSEN else ():
        group = "model" if kind in ROLES else kind
        prefix = f"{kind}." if kind in (*ROLES, "dataset", "recipe", "engine") else ""
        for file, values in _values(group).items():
            own = name.removeprefix(prefix) if name.startswith(prefix) else ""
            by_model = kind == "recipe" and any(key.startswith(f"{own}.") for key in values)
            value = "by model" if by_model else values.get(own)
            if value is not None and f"{group} {file}" != "recipe auto":
                files_of.setdefault(_shown(value), []).append(f"{group} {file}")
    return files_of


@cache
def _values(group: str) -> dict[str, dict[str, Any]]:
    """The values of a group's files, by file and dotted key."""
    return {entry.name: dict(leaves(content_of(entry.path))) for entry in entries(shipped(), group)}


def _shown(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return re.sub(r"\$\{oc\.select:[\w.]+,([^}]*)\}", r"\1, or what the data set says", text)


def known() -> list[str]:
    """The names of all keys, without those of losses, which depend on the method."""
    return [key.name for key in keys() if not key.name.startswith("loss.")]
