"""The one exception that users see, as one line: which key, which value, what is wrong, what it could be."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class KdrunError(Exception):
    """A mistake that the user can mend. Anything else that is raised is a bug of ours.

    key, value: the configuration key (or file) and what was given; value None is not shown.
    problem: what is wrong, without a full stop. choices: what it could have been; the nearest are shown.
    more: a command that shows all choices, such as `kdrun list models`.
    All are kept in `args`, so that the exception survives pickling between processes.
    while_running: whether a training had begun, which decides the exit status (1, else 2).
    """

    while_running: bool = False

    def __init__(
        self, key: str, value: Any, problem: str, choices: Iterable[str] = (), more: str = ""
    ) -> None:
        super().__init__(key, value, problem, tuple(choices), more)

    @property
    def key(self) -> str:
        return str(self.args[0])

    def __str__(self) -> str:
        key, value, problem, choices, more = self.args
        head = key if value is None else f"{key}={value}"
        parts = [f"{head}: {problem}"]
        if choices:
            near = nearest(_word(key, value, choices), choices)
            label = "Choices" if len(choices) <= len(near) else "Nearest"
            parts.append(f"{label}: {', '.join(near)}")
        if more:
            parts.append(f"All: {more}")
        return ". ".join(" ".join(part.split()) for part in parts)

    def below(self, key: str) -> KdrunError:
        """The same error with its key below another: `temperature` becomes `loss.soft.temperature`."""
        inner, *rest = self.args
        return KdrunError(f"{key}.{inner}", *rest)


def _word(key: str, value: Any, choices: Iterable[str]) -> str:
    """What is misspelt: the value, or else the key, whole or only its end as the choices are."""
    if value is not None:
        return str(value)
    return key if any("." in choice for choice in choices) else key.rpartition(".")[2]


def nearest(word: str, choices: Iterable[str], n: int = 5) -> list[str]:
    """At most n of the choices, the most similar to the word first; all in their order when there are no more
    than n.
    """
    options = list(dict.fromkeys(choices))
    if len(options) <= n:
        return options
    return sorted(options, key=lambda c: -difflib.SequenceMatcher(None, word.lower(), c.lower()).ratio())[:3]
