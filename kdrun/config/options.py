"""Splits what was typed into words and options, and reads the values of options; a mistake gets one line."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kdrun.errors import KdrunError
from kdrun.paths import expanded


class Options(NamedTuple):
    """The options of a command.

    values: options that take a value, with their choices (none: any value). switches: options that take no
    value. aliases: other spellings.
    """

    values: Mapping[str, tuple[str, ...]]
    switches: tuple[str, ...] = ()
    aliases: Mapping[str, str] = {}

    def parse(self, arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        """The words, and the options by name, wherever they stand. `--name value` and `--name=value` are the
        same; a switch has the value "".

        Raises KdrunError for an unknown option, a missing value and a value that is no choice.
        """
        words: list[str] = []
        options: dict[str, str] = {}
        left = list(arguments)
        while left:
            word = left.pop(0)
            typed, equals, value = word.partition("=")
            name = self.aliases.get(typed, typed)
            if not word.startswith("-"):
                words.append(word)
            elif name in self.switches and not equals:
                options[name] = ""
            elif name in self.values:
                if not equals and (not left or left[0].startswith("-")):
                    raise KdrunError(name, None, "needs a value", self.values[name])
                options[name] = value if equals else left.pop(0)
                if self.values[name] and options[name] not in self.values[name]:
                    raise KdrunError(name, options[name], "no such choice", self.values[name])
            else:
                raise self._unknown(typed, value or next(iter(left), ""))
        return words, options

    def _unknown(self, flag: str, value: str) -> KdrunError:
        from kdrun.config.words import flag_hint

        if keys := flag_hint(flag, value):
            return KdrunError(flag, None, f"no such flag. Keys are written without dashes and with =: {keys}")
        known = [*self.values, *self.switches, *self.aliases]
        return KdrunError(flag, None, "no such flag", known, "kdrun --help")


FOLDER = "--config-dir"
"""The option for the user's own files."""

OTHER_SPELLINGS = {"-cd": FOLDER}

FORMAT = {"--format": ("text", "json")}
"""The option of commands whose output can be data."""


def own_folder(options: Mapping[str, str]) -> Path | None:
    """The folder of the user's files."""
    return expanded(options[FOLDER]) if FOLDER in options else None


def print_as_asked(options: Mapping[str, str], data: Any, lines: Iterable[str]) -> None:
    """Prints data as JSON if that was asked for, else the lines."""
    print(json.dumps(data, indent=2) if options.get("--format") == "json" else "\n".join(lines))


def read_whole(options: Mapping[str, str], name: str, usual: int, least: int = 1) -> int:
    """The value of an option as a whole number from `least` on. Raises KdrunError."""
    text = options.get(name, str(usual))
    if not text.isdecimal() or int(text) < least:
        raise KdrunError(name, text, f"must be a whole number from {least}")
    return int(text)


def read_above_zero(name: str, text: str) -> float:
    """The value of an option as a number above 0. Raises KdrunError."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < math.inf:
        raise KdrunError(name, text, "must be a number above 0")
    return number


def read_names(options: Mapping[str, str], name: str, usual: str = "") -> list[str]:
    """The value of an option, `[a, b]` or `a,b`, as words, each once."""
    words = (word.strip() for word in options.get(name, usual).strip("[]").split(","))
    return list(dict.fromkeys(word for word in words if word))


def read_temperatures(options: Mapping[str, str], usual: Sequence[float] = ()) -> list[float]:
    """`--temperature 1,4,20` as numbers above 0, each once; `usual` without the option. Raises KdrunError."""
    name = "--temperature"
    if name not in options:
        return list(usual)
    try:
        values = [read_above_zero(name, part) for part in options[name].strip("[]").split(",")]
    except KdrunError:
        raise KdrunError(name, options[name], "must be numbers above 0, as 1,4,20") from None
    return list(dict.fromkeys(values))
