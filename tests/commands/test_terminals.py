"""Terminals and pipes that cannot show a letter, or are narrow: no command fails, and figures stay whole."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from kdrun.cli import main
from kdrun.commands.sweep import line
from kdrun.report.runs import render
from kdrun.report.table import text
from tests.commands.short import SHORT, Here
from tests.report.example import example

ROOT = Path(__file__).parents[2]

LOCALE = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}

Call = Callable[..., tuple[int, str]]
"""Exit code and all output of a command."""

FOLDERS = (
    *SHORT,
    *("control=false", "dataset=imagefolder", "dataset.path=pics", "dataset.size=12", "threads=1"),
    *("teacher=cnn_digits_small", "student=cnn_digits_small", "outputs_dir=größe"),
)


def pictures(root: Path) -> None:
    for grey, name in ((60, "größe"), (180, "naïve")):
        folder = root / "pics" / name
        folder.mkdir(parents=True)
        for n in range(12):
            Image.new("RGB", (12, 12), (grey + n, grey, grey)).save(folder / f"{n}.png")


@pytest.fixture
def pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Calls a command in this process, whose output goes to a pipe for ASCII."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")

    def called(*arguments: str) -> tuple[int, str]:
        output = io.BytesIO()
        with monkeypatch.context() as patch, io.TextIOWrapper(output, encoding="ascii") as stream:
            patch.setattr(sys, "stdout", stream)
            patch.setattr(sys, "stderr", stream)
            code = main(list(arguments))
            stream.flush()
            return code, output.getvalue().decode("ascii")

    return called


@pytest.fixture
def locale(tmp_path: Path) -> Call:
    """Calls a command in a process of its own, whose locale knows ASCII alone."""
    values = os.environ | LOCALE | {"PYTHONPATH": str(ROOT), "COLUMNS": "80"}

    def called(*arguments: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "kdrun", *arguments]
        done = subprocess.run(
            command, cwd=tmp_path, env=values, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
        )
        return done.returncode, done.stdout.decode("ascii")

    return called


@pytest.mark.parametrize("where", ["pipe", pytest.param("locale", marks=pytest.mark.long)])
def test_every_command_prints_names_that_ascii_lacks(
    tmp_path: Path, request: pytest.FixtureRequest, where: str
) -> None:
    called: Call = request.getfixturevalue(where)
    pictures(tmp_path)
    code, out = called(*FOLDERS)
    assert code == 0 and "into   gr?" in out
    run = next(tmp_path.glob("größe/runs/*"))
    for arguments in (
        ("predict", str(run), "pics/größe/0.png", "pics/naïve/0.png"),
        ("check", *FOLDERS),
        ("report", "größe"),
        ("outputs", "größe"),
    ):
        code, out = called(*arguments)
        assert (code, "Traceback" in out) == (0, False), out
    code, out = called("predict", str(run), "pics/größe/ö.png")
    assert code == 2 and len(out.splitlines()) == 1
    assert b"gr\\\\u00f6\\\\u00dfe" in (run / "student.safetensors").read_bytes()


def test_the_table_of_a_sweep_has_names_that_ascii_lacks(tmp_path: Path, locale: Call) -> None:
    pictures(tmp_path)
    code, out = locale("-m", *FOLDERS, "seed=0,1")
    assert code == 0 and "results.csv" in out


def test_the_table_of_a_run_keeps_all_figures_in_a_narrow_terminal() -> None:
    narrow = text(example(), 40)
    assert max(map(len, narrow.splitlines())) <= 40
    for role in (r"teacher +student +control", r"92\.4 +90\.6 +86\.8", r"121,994 +994 +994"):
        assert re.search(role, narrow)
    assert "agreement with teacher, %" in narrow


def test_the_table_of_runs_leaves_out_columns_before_it_breaks_figures(here: Here) -> None:
    run = here.run()
    for width in (40, 50, 60, 70, 80):
        lines = render([run], width=width).splitlines()
        assert max(map(len, lines)) <= width
        figures = next(line for line in reversed(lines) if re.search(r"\d\.\d", line)).split()
        assert all(re.fullmatch(r"[+-]?\d+\.\d|0|to|[+-].*|\S*[a-z].*", word) for word in figures)
        assert re.search(r"student %|stude", "\n".join(lines)) and "gain" in "\n".join(lines)


def test_predictions_lists_and_outputs_fit_in_a_narrow_terminal(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = here.run()
    monkeypatch.setenv("COLUMNS", "40")
    path = here.root / f"{'long' * 12}.png"
    Image.new("L", (8, 8)).save(path)
    for arguments in (("predict", "--teacher", str(run), path.name), ("list", "methods"), ("outputs",)):
        code, out, _ = here(*arguments)
        assert code == 0 and max(map(len, out.splitlines())) <= 40, out
    assert re.search(r"  student  \d +[\d.]+ %", here("predict", "--teacher", str(run), path.name)[1])


def test_the_line_of_a_job_breaks_between_its_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = ["student 90.1", "gain +1.2 (+0.1 to +2.3)", "7f3a1c"]
    monkeypatch.setattr("kdrun.report.sweep_table.outcome", lambda run: figures)
    ended = {"state": "finished", "run": "runs/a", "earlier": True}
    assert line(" 1 of 2  seed=0        ", ended, 80).endswith("7f3a1c  finished earlier")
    assert line(" 1 of 2  seed=0        ", ended, 40).splitlines() == [
        " 1 of 2  seed=0",
        "   student 90.1",
        "   gain +1.2 (+0.1 to +2.3)  7f3a1c",
        "   finished earlier",
    ]


def test_a_pipe_in_a_terminal_has_the_width_of_the_terminal(tmp_path: Path) -> None:
    shown, ours = pty.openpty()
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 70, 0, 0))
    program = "from kdrun.terminal import width; print(width())"
    plain = {name: value for name, value in os.environ.items() if name != "COLUMNS"} | {
        "PYTHONPATH": str(ROOT)
    }
    piped = subprocess.run(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=ours, env=plain, check=True
    )
    with (tmp_path / "file").open("wb") as file:
        subprocess.run([sys.executable, "-c", program], stdout=file, stderr=ours, env=plain, check=True)
    os.close(shown)
    os.close(ours)
    assert (piped.stdout.split(), (tmp_path / "file").read_bytes().split()) == ([b"70"], [b"120"])


@pytest.mark.parametrize("columns", ["0", "1", "-5", "abc"])
def test_a_terminal_that_says_it_has_no_columns(
    here: Here, columns: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.run()
    monkeypatch.setenv("COLUMNS", columns)
    code, out, err = here(*SHORT)
    assert (code, err) == (0, "") and "finished earlier" in " ".join(out.split())


def test_a_folder_that_was_removed_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert main(["check"]) == 2
    assert capsys.readouterr().err == "this folder: was removed; start kdrun in another one\n"


COMMANDS = (
    *(
        SHORT,
        ("check",),
        ("list",),
        ("list", "keys"),
        ("list", "methods"),
        ("explain", "temperature"),
        ("--help",),
    ),
    *(("help", "tune"), ("table",), ("report",), ("report", "RUN")),
    *(
        ("outputs",),
        ("look", "RUN"),
        ("compare", "RUN", "RUN"),
        ("-m", *SHORT, "seed=0,1", "stages=[teacher]"),
    ),
)


@pytest.mark.parametrize("columns", [40, 80])
def test_no_command_ends_a_line_in_blanks(here: Here, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    run = here.run()
    monkeypatch.setenv("COLUMNS", f"{columns}")
    for command in COMMANDS:
        _, out, err = here(*(str(run) if word == "RUN" else word for word in command))
        blank = [line for line in (out + err).split("\n") if line != line.rstrip()]
        assert out and blank == [], command
