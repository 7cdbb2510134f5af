from __future__ import annotations

import json
from pathlib import Path

import pytest

from kdrun.errors import KdrunError
from kdrun.report.read import read
from tests.report.example import example


def test_a_folder_and_its_file_are_the_same(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(json.dumps(example()))
    assert read(tmp_path) == read(tmp_path / "report.json") == example()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (json.dumps(example())[:400], "not valid JSON, perhaps cut off"),
        ("", "not valid JSON"),
        ('{"name": "another tool"}', "no report of this version of kdrun: has schema None, not 1"),
        (json.dumps({**example(), "schema": 7}), "has schema 7, not 1"),
    ],
)
def test_foreign_and_truncated_files_are_named(tmp_path: Path, content: str, problem: str) -> None:
    file = tmp_path / "report.json"
    file.write_text(content)
    with pytest.raises(KdrunError) as error:
        read(tmp_path)
    assert str(file) in str(error.value) and problem in str(error.value)


@pytest.mark.parametrize("escaped", [True, False])
def test_what_would_steer_a_terminal_is_text(tmp_path: Path, escaped: bool) -> None:
    steering = "\x1b[31mred\x07\u202e\x9b" if escaped else "\u202e\x9b\x7f"
    report = {**example(), "label": f"{steering}label", "notes": ["a\nb", "caf\u00e9 \u65e5"]}
    (tmp_path / "report.json").write_text(json.dumps(report, ensure_ascii=escaped), encoding="utf-8")
    found = read(tmp_path)
    assert found["label"] == f"{steering.encode('unicode_escape').decode()}label"
    assert found["notes"] == report["notes"] and found["models"] == example()["models"]


def test_a_missing_report_is_named(tmp_path: Path) -> None:
    with pytest.raises(KdrunError, match=r"report\.json: cannot be read"):
        read(tmp_path / "report.json")
