"""The one exception that users see, in one line: key, value, problem, choices."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any

LONGEST = 200
"""Letters of a value in an error, at most."""


class KdrunError(Exception):
    """A mistake that the user can mend. Any other exception is a bug.

    key: the configuration key or the file. value: the given value; None is not shown. problem: without a full
    stop. choices: possible values, of which the nearest are shown. more: a command that shows all choices,
    such as `kdrun list models`. All are in `args`, so that the exception can be pickled between processes.
    while_running: whether a training had begun: exit status 1, else 2.
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
        head = plain(str(key), 2 * LONGEST) + ("" if value is None else f"={plain(str(value))}")
        parts = [f"{head}: {problem}"]
        if choices:
            near = nearest(_word(key, value, choices)[:LONGEST], choices)
            label = "Choices" if len(choices) <= len(near) else "Nearest"
            parts.append(f"{label}: {', '.join(near)}")
        if more:
            parts.append(f"All: {more}")
        return ". ".join(plain(" ".join(part.split()), 5 * LONGEST) for part in parts)

    def below(self, key: str) -> KdrunError:
        """The same error with its key below another: `temperature` becomes `loss.soft.temperature`."""
        inner, *rest = self.args
        return KdrunError(f"{key}.{inner}", *rest)


def plain(text: str, longest: int = LONGEST) -> str:
    """Text for a terminal: control characters are escaped, and a long text loses its middle."""
    letters = (each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
    shown = "".join(letters)
    half = (longest - len("...")) // 2
    return shown if len(shown) <= longest else f"{shown[:half]}...{shown[-half:]}"


UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Letters that steer a terminal, or turn the direction of what follows; not tab and line feed."""


def visible(value: Any) -> Any:
    """A text, also in lists, mappings and their keys, with the letters that steer a terminal as text."""
    if isinstance(value, str):
        return UNSEEN.sub(lambda letter: letter[0].encode("unicode_escape").decode(), value)
    if isinstance(value, dict):
        return {visible(key): visible(each) for key, each in value.items()}
    return [visible(each) for each in value] if isinstance(value, list) else value


def first_line(error: BaseException) -> str:
    """The first line of an error's text; its type if it has none."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _word(key: str, value: Any, choices: Iterable[str]) -> str:
    """The misspelt word: the value, or else the key; only its last part if the choices have no dots."""
    if value is not None:
        return str(value)
    return key if any("." in choice for choice in choices) else key.rpartition(".")[2]


def nearest(word: str, choices: Iterable[str], most: int = 5) -> list[str]:
    """All choices in their order if they are at most `most`; otherwise the three most similar to the word."""
    options = list(dict.fromkeys(choices))
    if len(options) <= most:
        return options

    def unlike(choice: str) -> float:
        return -difflib.SequenceMatcher(None, word.lower(), choice.lower()).ratio()

    return sorted(options, key=unlike)[:3]
