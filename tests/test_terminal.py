"""Texts made to fit the screen."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from kdrun.commands.compare import _table as compared
from kdrun.commands.list import _table as entries_table
from kdrun.commands.look import as_text as looked
from kdrun.commands.outputs import _line as outputs_line
from kdrun.commands.predict import as_text as predictions
from kdrun.config.files import Entry
from kdrun.report.outputs import KeptFolder
from kdrun.report.tables import aligned
from kdrun.terminal import folded, in_lines, shortened, wrapped

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


WIDE = ["digits", "数字と文字", "emoji 🐈 cat", "größe"]
"""Names of 6, 10, 12 and 5 columns."""


@pytest.mark.parametrize("room", range(8, 30))
@pytest.mark.parametrize("name", [*WIDE, "数字" * 12, "a-long-name-of-a-folder-36ea597d061"])
def test_a_shortened_name_fits_in_columns(name: str, room: int) -> None:
    short = shortened(name, room)
    assert cell_len(short) <= room and (short == name) == (cell_len(name) <= room)
    assert short == name or (short[0] == name[0] and short[-1] == name[-1] and cell_len(short) >= room - 2)


def test_a_name_is_shortened_in_its_middle() -> None:
    assert shortened("imagefolder-runs-36ea597d061", 24) == "imagefolde...36ea597d061"
    assert shortened("imagefolder", 8, "…") == "imag…der"


@pytest.mark.parametrize("columns", [9, 20, 41])
def test_a_wrapped_text_fits_in_columns(columns: int) -> None:
    text = f"the classes {' '.join(WIDE)} and {'数字' * 20}"
    lines = wrapped(text, columns, "- ", "  ")
    assert max(map(cell_len, lines)) <= columns and lines[0].startswith("- ")
    assert "".join("".join(lines).split()) == "-" + "".join(text.split())
    plain = "what has no wide letter is wrapped as textwrap does it"
    assert wrapped(plain, columns) == textwrap.wrap(plain, columns)


def columns_of(lines: list[str], texts: list[str]) -> list[int]:
    """Where each of the texts ends in its line, in columns."""
    return [cell_len(line[: line.index(text) + len(text)]) for line, text in zip(lines, texts, strict=True)]


def test_columns_of_tables_are_aligned_with_wide_letters(tmp_path: Path) -> None:
    figures = ["1.0", "22.0", "3.5", "100.0"]
    tables = {
        "aligned": aligned(list(zip(WIDE, figures, strict=True))),
        "list": list(
            entries_table([entry(name, step=float(f)) for name, f in zip(WIDE, figures, strict=True)], 80)
        )[1:],
        "predict": predictions([prediction(name, 0.5) for name in WIDE], 80).splitlines(),
        "outputs": [outputs_line(kept(tmp_path, name), "", 60) for name in WIDE],
        "compare": list(
            compared(
                "keys",
                ["a", "b"],
                [row(name, figure) for name, figure in zip(WIDE, figures, strict=True)],
                80,
            )
        )[1:],
    }
    ends = {
        "list": [f"x {float(figure):.2f}" for figure in figures],
        "predict": [" 50.0 %"] * 4,
        "outputs": ["1.00 kB"] * 4,
    }
    for name, lines in tables.items():
        assert len(set(columns_of(lines, ends.get(name, figures)))) == 1, (name, lines)


def row(name: str, figure: str) -> dict[str, str]:
    return {"name": name, "first": name, "second": figure}


def kept(folder: Path, name: str) -> KeptFolder:
    (folder / name).mkdir()
    return KeptFolder("model", folder / name, 1000, "finished")


def prediction(name: str, share: float) -> dict[str, Any]:
    return {"file": f"{name}.png", "class": "0", "probability": share}


def entry(name: str, step: float) -> Entry:
    return Entry("method", name, "a loss", "", Path("x.yaml"), (), 0, step)


def test_lines_of_a_folder_and_a_picture_with_wide_letters_fit(tmp_path: Path) -> None:
    name = "数字" * 30
    lines = [*outputs_line(kept(tmp_path, name), "used by 1 run", 60).splitlines()]
    shares = {f"{wide}{number}": 0.1 for number in range(4) for wide in WIDE}
    asked = {"image": name, "truth": WIDE[1], "teacher": WIDE[2], "soft_targets": {"1": shares}}
    lines += looked([asked], f"images of {name}", 60)
    lines += compared("keys", ["a", "b"], [row("a key", name)], 60)
    assert max(map(cell_len, lines)) <= 60
