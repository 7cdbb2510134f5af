"""Words and options, in any order; what is no option is one line."""

from __future__ import annotations

import pytest

from kdrun.config.options import Options
from kdrun.errors import KdrunError

OPTIONS = Options(
    values={"--format": ("text", "json"), "--folder": ()}, switches=("--yes",), aliases={"-f": "--folder"}
)


@pytest.mark.parametrize(
    ("typed", "words", "options"),
    [
        ("a --yes b", ["a", "b"], {"--yes": ""}),
        ("--format json a", ["a"], {"--format": "json"}),
        ("--format=json a=b", ["a=b"], {"--format": "json"}),
        ("-f x --folder=y", [], {"--folder": "y"}),
        ("--folder=", [], {"--folder": ""}),
        ("~a +b=1", ["~a", "+b=1"], {}),
    ],
)
def test_words_and_options(typed: str, words: list[str], options: dict[str, str]) -> None:
    assert OPTIONS.parse(typed.split()) == (words, options)


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("--formt json", "--formt: no such flag. Choices: --format, --folder, --yes, -f. All: kdrun --help"),
        ("--format", "--format: needs a value. Choices: text, json"),
        ("--folder --yes", "--folder: needs a value"),
        ("--format xml", "--format=xml: no such choice. Choices: text, json"),
        ("--yes=1", "--yes: no such flag"),
    ],
)
def test_mistakes_are_one_line(typed: str, line: str) -> None:
    with pytest.raises(KdrunError) as error:
        OPTIONS.parse(typed.split())
    assert str(error.value).startswith(line)
