from __future__ import annotations

import json
from pathlib import Path

import pytest

from kdrun.errors import KdrunError
from kdrun.report.read import read, read_metrics
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


def test_a_missing_report_is_named(tmp_path: Path) -> None:
    with pytest.raises(KdrunError, match=r"report\.json: cannot be read"):
        read(tmp_path / "report.json")


def test_metrics_keep_the_last_of_a_repeated_epoch_and_skip_a_torn_line(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    assert read_metrics(file) == []
    rows = [
        {"stage": "student", "epoch": epoch, "loss": loss} for epoch, loss in ((1, 3.0), (2, 2.0), (2, 1.5))
    ]
    rows.append({"stage": "control", "epoch": 2, "loss": 9.0})
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows) + '{"stage": "con')
    assert [(row["stage"], row["epoch"], row["loss"]) for row in read_metrics(file)] == [
        ("student", 1, 3.0),
        ("student", 2, 1.5),
        ("control", 2, 9.0),
    ]
