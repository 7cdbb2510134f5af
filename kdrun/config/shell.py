"""What a shell does to a word without quotes, and how to say so."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby

from kdrun.errors import KdrunError

PIECE = re.compile(r"[\w.]+:.*")
"""A piece of a mapping: `from:0`."""


RANGE = re.compile(r"(-?\d+):(-?\d+)")
"""A range as Python's slices have it."""


def refuse_slices(words: Sequence[str]) -> None:
    """Raises KdrunError for `seed=0:3`: Hydra writes ranges in another way."""
    for word in words:
        key, _, value = word.partition("=")
        if slice := RANGE.fullmatch(value):
            first, end = slice.groups()
            problem = f"is no range: write '{key}=range({first},{end})', with -m; {end} is left out"
            raise KdrunError(key, value, problem)


def refuse_pieces(words: Sequence[str]) -> None:
    """Raises KdrunError for a mapping or a list that the shell took apart.

    Without quotes, bash turns `weight={from:0,to:1}` into two words, and every shell splits at blanks.
    """
    for key, group in groupby(words, lambda word: word.partition("=")[0]):
        values = [word.partition("=")[2] for word in group]
        if len(values) > 1 and all(map(PIECE.fullmatch, values)):
            mapping = ", ".join(value.replace(":", ": ", 1) for value in values)
            problem = (
                f"looks like pieces of a mapping that the shell took apart; quote it: '{key}={{{mapping}}}'"
            )
            raise KdrunError(key, None, problem)
    for position, word in enumerate(words):
        key, equals, value = word.partition("=")
        if equals and _is_open(value) and not _is_open(_whole(words[position:])):
            raise KdrunError(
                key, value, f"the shell splits it at a blank; quote it: '{_whole(words[position:])}'"
            )


def _is_open(text: str) -> bool:
    return any(text.count(first) > text.count(last) for first, last in ("{}", "[]"))


def _whole(words: Sequence[str]) -> str:
    """The words up to the one that closes what the first one opens."""
    joined = words[0]
    for word in words[1:]:
        if not _is_open(joined):
            break
        joined += f" {word}"
    return joined
