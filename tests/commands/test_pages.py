"""The pages of commands, kdrun explain, filters of kdrun list, and completion."""

from __future__ import annotations

import json
import subprocess
from importlib import import_module
from pathlib import Path

import pytest

from kdrun.cli import main
from kdrun.commands.completion import SCRIPTS, candidates
from kdrun.commands.help import page
from kdrun.commands.list import natural
from kdrun.commands.pages import OTHER_WORDS, PAGES

Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize("command", PAGES)
def test_each_command_has_a_page_that_fits(command: str, capsys: Capture) -> None:
    assert callable(import_module(f"kdrun.commands.{command}").main)
    text = page(command)
    assert max(map(len, text.splitlines())) <= 80 and text.startswith(f"kdrun {command}")
    assert len(PAGES[command].examples) >= (1 if command in ("help", "version") else 2)
    assert main([command, "--help"]) == 0
    assert capsys.readouterr().out == (text if command != "help" else capsys_text()) + "\n"


def capsys_text() -> str:
    from kdrun.commands.help import text

    return text()


def test_words_for_commands(capsys: Capture) -> None:
    assert set(OTHER_WORDS.values()) <= set(PAGES) and not set(OTHER_WORDS) & set(PAGES)
    assert main(["train", "--help"]) == 0 and capsys.readouterr().out == page("run") + "\n"
    assert main(["help", "report"]) == 0 and capsys.readouterr().out == page("report") + "\n"
    assert main(["version"]) == 0 and capsys.readouterr().out.startswith("kdrun ")


@pytest.mark.parametrize(
    ("word", "parts"),
    [
        ("recipe.student.lr", ["recipe.student.lr", "highest learning rate", "set by", "recipe adam"]),
        ("lr", ["sets      recipe.teacher.lr and recipe.student.lr"]),
        ("T", ["temperature", "loss.TERM.temperature"]),
        ("loss.dkd.beta", ["NCKD", "default   8.0", "loss dkd (method dkd)"]),
        ("padding", ["dataset.views.padding", "crop_flip"]),
        ("device", ["choices   auto, cpu, cuda"]),
        ("control", ["choices   true, false"]),
        ("dataset.noise", ["dataset fake"]),
    ],
)
def test_explain(word: str, parts: list[str], capsys: Capture) -> None:
    assert main(["explain", word]) == 0
    out = capsys.readouterr().out
    assert all(part in out for part in parts), out
    if word == "loss.dkd.beta":
        assert "dist" not in out


def test_explain_as_data(capsys: Capture) -> None:
    assert main(["explain", "seed", "--format", "json"]) == 0
    rows = {row["key"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["seed"]["default"] == "0"


def test_lists_are_filtered(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["list", "model", "resnet8"]) == 0
    first, *rest = capsys.readouterr().out.splitlines()
    assert first.startswith("models") and [line.split()[0] for line in rest if line[2] != " "] == [
        "resnet8",
        "resnet8x4",
    ]
    assert main(["list", "keys", "momentum"]) == 0
    out = capsys.readouterr().out
    assert "recipe.teacher.momentum" in out and "weight_decay" not in out
    assert main(["list", "models", "nosuchmodel"]) == 2
    assert "no entry has these words" in capsys.readouterr().err


def test_numbers_count_in_the_order() -> None:
    names = ["resnet110", "resnet14", "vgg8", "resnet8", "2x", "resnet8x4"]
    assert sorted(names, key=natural) == ["2x", "resnet8", "resnet8x4", "resnet14", "resnet110", "vgg8"]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("kdrun pred", ["predict"]),
        ("kdrun pre", ["precision=", "predict"]),
        ("kdrun list mo", ["models"]),
        ("kdrun help comp", ["compare"]),
        ("kdrun predict --tea", ["--teacher"]),
        ("kdrun table crd", ["crd1", "crd2"]),
        ("kdrun explain temperatu", ["temperature", "temperatures"]),
        ("kdrun outputs_dir=sub/w", ["outputs_dir=sub/with/", "outputs_dir=sub/word"]),
        ("kdrun --config-dir su", ["sub/"]),
        ("kdrun predict digits-a", ["digits-a-123456789abc"]),
        ("kdrun outputs rm dig", ["digits-a-123456789abc"]),
    ],
)
def test_completion(line: str, found: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub" / "with").mkdir(parents=True)
    (tmp_path / "sub" / "word").touch()
    (tmp_path / "outputs" / "runs" / "digits-a-123456789abc").mkdir(parents=True)
    assert candidates(line) == found


def test_bash_completes(tmp_path: Path) -> None:
    (tmp_path / "kdrun").write_text("#!/bin/sh\nprintf 'method=dkd\\nmethod=dkd_std\\n'\n")
    (tmp_path / "kdrun").chmod(0o755)
    call = f'COMP_LINE="kdrun method=dk" COMP_POINT=15; _kdrun {tmp_path}/kdrun; echo "${{COMPREPLY[@]}}"'
    done = subprocess.run(
        ["bash", "-c", f"COMP_WORDBREAKS='=:'\n{SCRIPTS['bash']}\n{call}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "dkd dkd_std\n"
