"""What a page is made of. report.md, results.md and the HTML page are written from the same blocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from kdrun.report.tables import pipe_table


class Table(NamedTuple):
    """The first `left` columns are words, to the left; the others are figures, to the right."""

    head: Sequence[str]
    body: Sequence[Sequence[str]]
    left: int = 1


class Code(NamedTuple):
    """Commands, a line each."""

    lines: Sequence[str]


class Bullets(NamedTuple):
    """A list of sentences."""

    lines: Sequence[str]


Block = str | Table | Code | Bullets
"""A text may hold `code` and **bold**."""


class Section(NamedTuple):
    """Blocks under a title."""

    title: str
    blocks: Sequence[Block]


def page(title: str, blocks: Iterable[Block], pictures: Iterable[str]) -> str:
    """A page in Markdown. pictures: files beside it, which are shown at its end."""
    lines = [f"# {title}", "", *as_markdown(blocks)]
    lines += [line for name in pictures for line in ("", picture(name))]
    return "\n".join(lines) + "\n"


def picture(name: str) -> str:
    """A picture beside a page."""
    return f"![{name.rpartition('.')[0]}]({name})"


def starred(note: str) -> str:
    """A note on a table; the star that it explains is no markup."""
    return f"`*`{note[1:]}" if note.startswith("*") else note


def as_markdown(blocks: Iterable[Block]) -> Iterator[str]:
    """The lines of the blocks, with an empty line between two."""
    for place, block in enumerate(blocks):
        if place:
            yield ""
        yield from _lines(block)


def _lines(block: Block) -> Sequence[str]:
    if isinstance(block, str):
        return [block]
    if isinstance(block, Code):
        return ["```", *block.lines, "```"]
    if isinstance(block, Bullets):
        return [f"- {line}" for line in block.lines]
    return pipe_table(*block)
