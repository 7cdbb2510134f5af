"""Code of a user's own is part of what a training depends on: what uses a file that was edited is trained
anew.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kdrun.cli import main
from tests.conftest import forget
from tests.docs.pages import blocks

SHORT = [
    *("recipe.teacher.epochs=1", "recipe.student.epochs=1", "dataset.views.name=none"),
    *("evaluation.latency=false", "evaluation.plots=false", "threads=1"),
]
OWN = [
    *("--config-dir", "mine/conf", "packages=[mine]", "dataset=shapes", "teacher=wide"),
    *("student=cnn_digits_small", "+loss.near={name: mine.losses}"),
]

Kdrun = Callable[..., str]


@pytest.fixture
def kdrun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Kdrun:
    """Calls kdrun as a new process would, in the project of the page on own parts; gives what it prints."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # Python tells versions of a second apart by size
    for block in blocks("own-parts.md"):
        if block.file:
            file = tmp_path / block.file
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("\n".join(block.lines) + "\n")

    def call(*arguments: str) -> str:
        forget()
        capsys.readouterr()
        assert main(list(arguments)) == 0
        return capsys.readouterr().out

    return call


def keys(root: Path) -> dict[str, list[str]]:
    """By role, the files of one's own that each training depended on."""
    marks = [*root.glob("outputs/models/*/model.json"), *root.glob("outputs/runs/*/student.json")]
    records = [json.loads(mark.read_text()) for mark in marks]
    return {record["role"]: sorted(record["key"].get("sources", {})) for record in records}


def test_what_uses_an_edited_file_is_trained_anew(kdrun: Kdrun, tmp_path: Path) -> None:
    def edit(name: str, before: str, after: str) -> None:
        path = tmp_path / "mine" / name
        text = path.read_text()
        assert before in text
        path.write_text(text.replace(before, after))

    def trained() -> tuple[list[str], list[str]]:
        """What is said to have changed, and which models are trained."""
        out = kdrun(*OWN, *SHORT)
        return re.findall(r"^(.* changed: .*)$", out, re.M), re.findall(r"^\S+ (\w+) +1/1 ", out, re.M)

    assert trained() == ([], ["teacher", "student", "control"])
    data, both = (
        ["mine/__init__.py", "mine/shapes.py"],
        ["mine/__init__.py", "mine/losses.py", "mine/shapes.py"],
    )
    assert keys(tmp_path) == {
        "teacher": sorted([*data, "mine/nets.py"]),
        "student": both,
        "control": data,
    }
    assert trained() == ([], [])
    assert "finished earlier" in kdrun(*OWN, *SHORT)
    edit("losses.py", "self.scale * (1", "3 * self.scale * (1")
    assert trained() == (["mine/losses.py changed: trained anew (student)"], ["student"])
    edit("nets.py", "ReLU", "Tanh")
    said, models = trained()
    assert said == ["mine/nets.py changed: trained anew (teacher)"] and models == ["teacher", "student"]
    edit("nets.py", "Tanh", "ReLU")
    assert trained() == ([], [])
    edit("shapes.py", "manual_seed(0)", "manual_seed(10)")
    said, models = trained()
    assert said == ["mine/shapes.py changed: trained anew (teacher, student, control)"]
    assert models == ["teacher", "student", "control"]
    edit("losses.py", "3 * self", "4 * self")
    out = kdrun("-m", *OWN, *SHORT, "seed=0,1")
    assert out.count("mine/losses.py changed: trained anew (student)") == 1


def test_runs_without_own_code_have_no_part_of_it(kdrun: Kdrun, tmp_path: Path) -> None:
    kdrun("packages=[mine]", *SHORT, "stages=[teacher]")
    assert keys(tmp_path) == {"teacher": []}


def test_results_of_a_version_that_did_not_know_the_code_are_not_shown(kdrun: Kdrun, tmp_path: Path) -> None:
    kdrun(*OWN, *SHORT)
    for mark in (
        *tmp_path.glob("outputs/models/*/model.json"),
        *tmp_path.glob("outputs/runs/*/student.json"),
    ):
        record = json.loads(mark.read_text())
        del record["key"]["sources"]
        mark.write_text(json.dumps(record))
        mark.parent.rename(mark.parent.with_name(mark.parent.name[:-12] + "0" * 12))
    out = kdrun(*OWN, *SHORT)
    assert "your own code was not recorded: trained anew (teacher, student, control)" in out
