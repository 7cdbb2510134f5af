"""Splits what was typed into words and options; an option that does not exist gets one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from kdrun.errors import KdrunError


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
                options[name] = self._chosen(name, value if equals else self._next(name, left))
            else:
                raise self._unknown(typed, value or next(iter(left), ""))
        return words, options

    def _unknown(self, flag: str, value: str) -> KdrunError:
        from kdrun.config.words import flag_hint

        if keys := flag_hint(flag, value):
            return KdrunError(flag, None, f"no such flag. Keys are written without dashes and with =: {keys}")
        return KdrunError(flag, None, "no such flag", self._known(), "kdrun --help")

    def _next(self, name: str, left: list[str]) -> str:
        if not left or left[0].startswith("-"):
            raise KdrunError(name, None, "needs a value", self.values[name])
        return left.pop(0)

    def _chosen(self, name: str, value: str) -> str:
        if self.values[name] and value not in self.values[name]:
            raise KdrunError(name, value, "no such choice", self.values[name])
        return value

    def _known(self) -> list[str]:
        return [*self.values, *self.switches, *self.aliases]
