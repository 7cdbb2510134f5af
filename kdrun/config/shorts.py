"""`epochs=3`: one key for the same number of both recipes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

SHORTS = ("epochs", "batch", "lr")
"""Keys that stand for `recipe.teacher.KEY` and `recipe.student.KEY`."""

ROLES = ("teacher", "student")


def into_recipes(plain: dict[str, Any], typed: Collection[str]) -> list[str]:
    """Moves the short keys of a plain configuration into its recipes; a long key that was typed wins.

    typed: the keys of the overrides. Returns the long keys with their values: `recipe.student.epochs=3`.
    """
    spelled = []
    for short in SHORTS:
        value = plain.pop(short)
        for role in ROLES if value is not None else ():
            if (key := f"recipe.{role}.{short}") not in typed:
                plain["recipe"][role][short] = value
                spelled.append(f"{key}={value}")
    return spelled


def spelled_out(overrides: Iterable[str]) -> Iterator[str]:
    """The overrides with each short key as the long ones that it stands for, before the others."""
    words = list(overrides)
    long = {word.partition("=")[0] for word in words}
    for word in words:
        key, equals, value = word.partition("=")
        if key in SHORTS and equals:
            own = (f"recipe.{role}.{key}" for role in ROLES)
            yield from (f"{name}={value}" for name in own if name not in long)
        else:
            yield word
