"""Jobs of a sweep that differ in plain values only: what follows from a value is worked out once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from kdrun.config.exact import PLAIN
from kdrun.config.load import SHARED, Described
from kdrun.nested import places

Place = tuple[Any, ...]
"""The keys, and numbers in lists, that lead to a value."""

COMPUTED = re.compile(r"\$\{[^:}]*\$\{")
"""A reference to a key whose name is itself a reference."""


class Pattern:
    """The plain values of one job, from which those of others follow: swept keys have other values there, and
    so has what refers to them.
    """

    def __init__(self, config: DictConfig, described: Described, keys: tuple[str, ...]) -> None:
        """config: of the first job, as `described` left it. keys: the swept ones.

        Raises ValueError if other values could change more than what refers to the keys.
        """
        self.config, self.described = config, described
        if any(key in SHARED and f"${{{key}}}" not in described.written for key in keys):
            raise ValueError  # whether that is a mistake depends on the value
        raw = OmegaConf.to_container(config, resolve=False)
        texts = {place: text for place, text in places(raw) if isinstance(text, str) and "${" in text}
        swept = {key: tuple(key.split(".")) for key in keys}
        plain = dict(places(described.plain))
        if not all(place in plain for place in swept.values()):
            raise ValueError
        changed = {key: _changed(place, texts) for key, place in swept.items()}
        every = dict.fromkeys(place for inner in changed.values() for place in inner)
        if any(isinstance(part, int) for place in every for part in place):
            raise ValueError
        self.follows = {place: [key for key in keys if place in changed[key]] for place in every}
        self.known: dict[Any, Any] = {}

    def plain(self, values: Mapping[str, Any]) -> dict[str, Any] | None:
        """The plain values of a job; None if its values are not plain.

        values: of the swept keys. Raises errors of OmegaConf for values that a key cannot have.
        """
        if not all(_is_plain(value) for value in values.values()):
            return None
        plain: dict[str, Any] = _copied(self.described.plain)
        is_set = False
        for place, keys in self.follows.items():
            name = (place, *((type(values[key]), values[key]) for key in keys))
            if name not in self.known:
                if not is_set:
                    self._set(values)
                    is_set = True
                self.known[name] = OmegaConf.select(self.config, ".".join(map(str, place)))
            value = self.known[name]
            if value is not None and not _is_plain(value):
                return None
            above = plain
            for part in place[:-1]:
                above = above[part]
            above[place[-1]] = value
        return plain

    def _set(self, values: Mapping[str, Any]) -> None:
        for key, value in values.items():
            OmegaConf.update(self.config, key, value, merge=True)


def _is_plain(value: Any) -> bool:
    return type(value) in PLAIN and not (isinstance(value, str) and ("${" in value or value == "???"))


def _changed(place: Place, texts: Mapping[Place, str]) -> list[Place]:
    """The place and those whose texts may refer to it, or to what refers to it; rather too many."""
    changed, left = [place], [place]
    while left:
        words = {str(part) for part in left.pop()}
        for other, text in texts.items():
            if other not in changed and (COMPUTED.search(text) or any(word in text for word in words)):
                changed.append(other)
                left.append(other)
    return changed


def _copied(value: Any) -> Any:
    """A copy of nested plain values."""
    if type(value) is dict:
        return {key: _copied(inner) for key, inner in value.items()}
    return [_copied(inner) for inner in value] if type(value) is list else value
