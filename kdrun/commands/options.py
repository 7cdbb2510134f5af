"""Options of the small commands: few enough that unknown ones get one line instead of a usage block."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from kdrun.errors import KdrunError


class Options(NamedTuple):
    """values: options that take a value, with their choices (none: any). switches: those that take none."""

    values: Mapping[str, tuple[str, ...]]
    switches: tuple[str, ...] = ()

    def parse(self, arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        """The words, and the options by name; `--name value` and `--name=value`; a switch's value is "".

        Raises KdrunError for a flag that is none.
        """
        words: list[str] = []
        found: dict[str, str] = {}
        left = list(arguments)
        while left:
            name, equals, value = left.pop(0).partition("=")
            if not name.startswith("-"):
                words.append(name + equals + value)
                continue
            if name in self.switches and not equals:
                found[name] = ""
                continue
            if name not in self.values:
                choices = [*self.values, *self.switches]
                raise KdrunError(name, None, "no such flag", choices, "kdrun --help")
            allowed = self.values[name]
            if not equals and not left:
                raise KdrunError(name, None, "needs a value", allowed)
            found[name] = value if equals else left.pop(0)
            if allowed and found[name] not in allowed:
                raise KdrunError(name, found[name], "no such choice", allowed)
        return words, found


def width() -> int:
    """Columns to write for: the terminal's, 120 where there is none (a file, a pipe)."""
    return max(60, min(120, shutil.get_terminal_size((120, 24)).columns))
