"""The pages of commands, kdrun explain, filters of kdrun list, and completion."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from importlib import import_module
from pathlib import Path

import pytest

from kdrun.cli import main
from kdrun.commands.completion import SCRIPTS, candidates, words_of
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
        ("kdrun tabl", ["table"]),
        ("kdrun rem", []),
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


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (r"kdrun predict a\ b/c", ["kdrun", "predict", "a b/c"]),
        ("kdrun predict 'a b", ["kdrun", "predict", "a b"]),
        ("kdrun predict a\\ ", ["kdrun", "predict", "a "]),
        ("kdrun predict ", ["kdrun", "predict", ""]),
    ],
)
def test_a_line_is_read_as_shells_do(line: str, words: list[str]) -> None:
    assert words_of(line) == words


LINES = ("kdrun method=dk", "kdrun pred", "kdrun predict ~/p", "kdrun predict a")

KDRUN = """#!/bin/sh
case "$COMP_LINE" in
*dk) printf 'method=dkd\\nmethod=dkd_std\\n' ;;
*pred) echo predict ;;
*~/p) echo '~/pictures/' ;;
*) echo 'a b/' ;;
esac
"""

BASH = """COMP_WORDBREAKS=' =:'; source script
for line; do
    COMP_LINE=$line; COMP_POINT=${#line}; _kdrun kdrun; printf '%s|' "${COMPREPLY[@]}"; echo
done"""

ZSH = """zmodload zsh/zpty; zpty shell zsh -f -i
zpty -w shell 'bindkey -e; source script; shown() { print -r -- "[$BUFFER]" }'
zpty -w shell 'zle -N shown; bindkey "^T" shown; zle-line-init() { print rea""dy }; zle -N zle-line-init'
while zpty -r shell text; do [[ $text == *ready* ]] && break; done  # keys before go to the terminal's driver
for line; do
    zpty -w -n shell "$line"$'\\t\\C-T\\C-U'
    while zpty -r shell text; do [[ $text == (#b)*\\[(kdrun *)\\]* ]] && break; done
    print -r -- "$match[1]|"
done
zpty -d shell"""

FISH = "source script; for line in $argv; echo (complete -C $line | string join '|')'|'; end"


@pytest.mark.parametrize(
    ("shell", "program", "completed"),
    [
        ("bash", BASH, ["dkd|dkd_std|", "predict |", "~/pictures/|", r"a\ b/|"]),
        (
            "zsh",
            "setopt extendedglob\n" + ZSH,
            ["kdrun method=dkd|", "kdrun predict |", "kdrun predict ~/pictures/|", r"kdrun predict a\ b/|"],
        ),
        ("fish", FISH, ["method=dkd|method=dkd_std|", "predict|", "~/pictures/|", "a b/|"]),
    ],
)
def test_a_shell_completes(shell: str, program: str, completed: list[str], tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    (tmp_path / "kdrun").write_text(KDRUN)
    (tmp_path / "kdrun").chmod(0o755)
    (tmp_path / "script").write_text(SCRIPTS[shell])
    name = ["--"] if shell == "fish" else ["shell"]  # the others take it as $0
    done = subprocess.run(
        [shell, "-c", program, *name, *LINES],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path)},
    )
    assert done.stdout.replace("\r", "").splitlines() == completed
