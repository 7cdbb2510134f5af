"""What stands in the pages of `docs/`: files to write, commands to run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

DOCS = Path(__file__).parents[2] / "docs"


class Block(NamedTuple):
    """A fenced block. language: after the fence. file: what `file=` names. lines: what stands in it."""

    language: str
    file: str
    lines: list[str]


def blocks(page: str) -> Iterator[Block]:
    """The fenced blocks of a page, in order."""
    text = (DOCS / page).read_text(encoding="utf-8").replace("\\\n", " ")  # lines that go on
    for head, body in re.findall(r"^```([^\n]*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        language, _, file = head.partition(" file=")
        yield Block(language.strip(), file.strip(), body.splitlines())


def commands(block: Block) -> Iterator[tuple[str, str]]:
    """The kdrun commands of a block that has no language, with the remark behind each."""
    if block.language:
        return
    for line in block.lines:
        command, _, remark = line.partition("  #")
        if command.startswith("kdrun"):
            yield command.strip(), remark.strip()


def words(command: str) -> list[str]:
    """A command as a shell would split it, without `kdrun`."""
    return shlex.split(command)[1:]
