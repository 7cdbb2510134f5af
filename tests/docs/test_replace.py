"""The commands of the pages about replacing a model and choosing a teacher can be read as they stand."""

from __future__ import annotations

import pytest

from kdrun.config.arguments import parse
from kdrun.config.compose import single
from kdrun.config.sweep import composed_jobs
from kdrun.errors import KdrunError
from tests.docs.pages import blocks, commands, words

COMMANDS = [
    command
    for page in ("replace.md", "which_teacher.md")
    for block in blocks(page)
    for command, _ in commands(block)
]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_read(command: str) -> None:
    """All of it, up to files of weights that are not here."""
    typed = parse([word for word in words(command) if word != "check"])
    try:
        loaded = composed_jobs(typed)[1] if typed.many else [single(typed)]
    except KdrunError as error:
        loaded = [error]
    assert loaded and {str(each).rpartition(": ")[2] for each in loaded if isinstance(each, KdrunError)} <= {
        "no such file"
    }
