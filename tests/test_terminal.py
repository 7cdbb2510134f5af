"""Texts made to fit the screen."""

import pytest

from kdrun.terminal import folded, in_lines

LONG = "word " * 20


@pytest.mark.parametrize(
    ("text", "second"),
    [
        (f"note   {LONG}", " " * 7 + "word"),  # right of its label
        (" " * 29 + LONG, " " * 29 + "word"),  # as far to the right as it began
        (LONG, "word"),
        (f"a longer label  {LONG}", "word"),
    ],
)
def test_a_long_line_continues_below_its_text(text: str, second: str) -> None:
    lines = folded(text, 80).splitlines()
    assert lines[1].startswith(second) and max(map(len, lines)) <= 80
    assert " ".join(lines).split() == text.split()


def test_a_path_stays_whole_and_beside_its_label() -> None:
    path = "outputs/runs/" + "long-name-" * 10
    assert folded(f"into   {path}", 80) == f"into   {path}"


def test_each_line_is_folded_by_itself() -> None:
    assert folded("one\n\n  two  three", 7) == "one\n\n  two\n  three"


def test_a_wide_letter_takes_two_columns() -> None:
    assert folded("note   漢字 漢字 ab", 15) == "note   漢字\n       漢字 ab"
    assert in_lines(["漢字", "漢字", "ab"], 10) == ["漢字  漢字", "ab"]
