"""`kdrun explain KEY`: what a key sets, its default, its choices, and which files set it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from kdrun.config.choices import ROLES
from kdrun.config.files import CHOSEN, entries, shipped
from kdrun.config.keys import Key, keys, methods_of, setters
from kdrun.config.options import FORMAT, Options, print_as_asked
from kdrun.config.recipes import SHORTS
from kdrun.errors import KdrunError
from kdrun.terminal import hung, width

MOST = 12
"""Up to so many keys are explained in full; of more only the names are shown."""

HEAD = 10
"""Columns of a heading."""


def main(arguments: Sequence[str]) -> int:
    """Prints an entry for each key that the words mean. Raises KdrunError for a word that means none."""
    words, options = Options(values=FORMAT).parse(arguments)
    if not words:
        raise KdrunError("kdrun explain", None, "which key? kdrun explain lr; all: kdrun list keys")
    meant = dict.fromkeys(key for word in words for key in explained(word.partition("=")[0]))
    about = list(map(described, meant))
    if len(about) > MOST:
        lines = [f"{entry['key']}  {', '.join(entry.get('of', []))}".rstrip() for entry in about]
    else:
        lines = ["\n\n".join("\n".join(as_text(entry, width())) for entry in about)]
    print_as_asked(options, about, lines)
    return 0


def explained(word: str) -> list[Key]:
    """The keys that a word means: a full key, a key in a term of the default method, a last part, a synonym,
    or the name of a loss. Raises KdrunError.
    """
    from kdrun.config.words import advice, meant

    name = word.lstrip("+~-").replace("-", "_")
    every = keys()
    exact = [key for key in every if key.name == name]
    if not exact and name.startswith(("loss.", "phase_one.loss.")):
        _, term, last = name.rsplit(".", 2) if name.count(".") > 1 else ("", "", "")
        exact = [key for key in every if key.name == f"loss.TERM.{last}"]
        exact = [key for key in exact if f"loss {term}" in key.of] or exact
    alike = set() if exact else {*meant(name, [key.name for key in every])}
    fitting = exact or [key for key in every if key.name in alike]
    fitting = fitting or [key for key in every if f"loss {name}" in key.of or f"dataset {name}" in key.of]
    below = [key for key in every if key.name.startswith(f"{name}.")]
    if fitting or below:
        return [*fitting, *(below if not fitting or not fitting[0].default else [])]
    if text := advice(name):
        raise KdrunError(word, None, text)
    choices = sorted({key.name for key in every} | {key.last for key in every})
    raise KdrunError(word, None, "no such key", choices, "kdrun list keys")


def described(key: Key) -> dict[str, Any]:
    """`{key, comment, default, choices, of, set_by, sets}`, without empty fields."""
    entry: dict[str, Any] = {"key": key.name, "comment": key.comment, "default": key.default}
    entry["choices"] = list(key.choices) or _choices(key)
    entry["of"] = [f"{of}{_methods(of)}" for of in key.of]
    by_value = {} if key.of else setters(key.name)
    entry["set_by"] = [f"{', '.join(files)} ({value})" for value, files in by_value.items()]
    if key.name in SHORTS:
        entry["sets"] = [f"recipe.{role}.{key.name}" for role in ROLES]
    return {name: value for name, value in entry.items() if value}


def _choices(key: Key) -> list[str]:
    if key.default in ("true", "false"):
        return ["true", "false"]
    if key.name in CHOSEN and key.name not in ROLES:
        return [entry.name for entry in entries(shipped(), key.name)]
    return ["kdrun list models"] if key.name in (*ROLES, "assistant") else []


def _methods(of: str) -> str:
    group, _, name = of.partition(" ")
    methods = methods_of(name) if group == "loss" else []
    return f" (method {', '.join(methods)})" if methods else ""


def as_text(entry: dict[str, Any], columns: int) -> Iterator[str]:
    """The key, and a paragraph for each field of its entry."""
    yield entry["key"]
    if "comment" in entry:
        yield hung("  ", entry["comment"], columns)
    for head, value in (
        ("default", entry.get("default")),
        ("choices", ", ".join(entry.get("choices", []))),
        ("sets", " and ".join(entry.get("sets", []))),
        ("part of", "; ".join(entry.get("of", []))),
        ("set by", "; ".join(entry.get("set_by", []))),
    ):
        if value:
            yield hung(f"  {head:{HEAD}}", value, columns)
