"""Jobs of a sweep that differ in plain values only: what follows from a value is worked out once."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kdrun.config.exact import PLAIN
from kdrun.config.load import SHARED, ComposedRun
from kdrun.nested import places

Place = tuple[Any, ...]
"""The keys, and numbers in lists, that lead to a value."""

COMPUTED = re.compile(r"\$\{[^:}]*\$\{")
"""A reference to a key whose name is itself a reference."""


class Pattern:
    """The plain values of one job, from which those of others follow: swept keys have other values there, and
    so has what refers to them.

    config: of that job, as `described` left it. follows: by a value's place, the keys that it depends on.
    """

    def __init__(
        self, config: DictConfig, described: ComposedRun, follows: Mapping[Place, list[str]]
    ) -> None:
        self.config, self.follows = config, follows
        self.described = described._replace(plain=_copied(described.plain))
        self.known: dict[Any, Any] = {}

    def followed(self, values: Mapping[str, Any]) -> ComposedRun | None:
        """The content of a job; None if the whole way must be taken, also for the error that it has.

        values: of the swept keys.
        """
        if not all(_is_plain(value) for value in values.values()):
            return None
        try:
            changed = self._changed(values)
        except (OmegaConfBaseException, HydraException):
            return None
        if not all(value is None or _is_plain(value) for value in changed.values()):
            return None
        plain = _copied(self.described.plain)
        for place, value in changed.items():
            above = plain
            for part in place[:-1]:
                above = above[part]
            above[place[-1]] = value
        return self.described._replace(plain=plain)

    def _changed(self, values: Mapping[str, Any]) -> dict[Place, Any]:
        """The values of a job that differ from those of the first one, or may. Each is worked out once."""
        names = {
            place: (place, *((type(values[key]), values[key]) for key in keys))
            for place, keys in self.follows.items()
        }
        unknown = [place for place, name in names.items() if name not in self.known]
        for key, value in values.items() if unknown else ():
            OmegaConf.update(self.config, key, value, merge=True)
        for place in unknown:
            self.known[names[place]] = OmegaConf.select(self.config, ".".join(map(str, place)))
        return {place: self.known[name] for place, name in names.items()}


def pattern_of(config: DictConfig, described: ComposedRun, keys: Collection[str]) -> Pattern | None:
    """What jobs with other values of the keys have in common with a job; None if other values could change
    more than what refers to the keys.
    """
    if any(key in SHARED and f"${{{key}}}" not in described.written for key in keys):
        return None  # whether that is a mistake depends on the value
    raw = places(OmegaConf.to_container(config, resolve=False))
    texts = {place: text for place, text in raw if isinstance(text, str) and "${" in text}
    swept = {key: tuple(key.split(".")) for key in keys}
    if not set(swept.values()) <= {place for place, _ in places(described.plain)}:
        return None
    changed = {key: _reached(place, texts) for key, place in swept.items()}
    every = dict.fromkeys(place for inner in changed.values() for place in inner)
    if any(isinstance(part, int) for place in every for part in place):
        return None
    return Pattern(
        config, described, {place: [key for key in keys if place in changed[key]] for place in every}
    )


def _is_plain(value: Any) -> bool:
    return type(value) in PLAIN and not (isinstance(value, str) and ("${" in value or value == "???"))


def _reached(place: Place, texts: Mapping[Place, str]) -> list[Place]:
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
    if type(value) is dict:
        return {key: _copied(inner) for key, inner in value.items()}
    return [_copied(inner) for inner in value] if type(value) is list else value
