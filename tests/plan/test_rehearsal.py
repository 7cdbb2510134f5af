"""Code of the user that goes wrong: one line with the key, the file and the line, before any training."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kdrun.cli import main

LOSS = """
import torch
from kdrun.losses.base import Loss, Needs

class Own(Loss):
    def __init__(self, size: int = 1):
        super().__init__()
        {made}
    @property
    def needs(self):
        return Needs(student=frozenset({{"logits"}}), teacher=frozenset({{"logits"}}))
    def forward(self, student, teacher, batch):
        {done}
    def formula(self):
        return "own"
"""
MODEL = """
import torch
from torch import nn

def build(*, classes, channels):
    {made}
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(classes))
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with an empty package `wrongly`; its modules are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    (tmp_path / "wrongly").mkdir()
    (tmp_path / "wrongly" / "__init__.py").touch()
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "wrongly"]:
        del sys.modules[name]


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line on stderr; nothing was written."""
    assert main([*words, "packages=[wrongly]", "outputs_dir=o"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and len(lines[0]) < 300
    assert not list(Path("o").glob("*/*")) if Path("o").exists() else True
    return lines[0]


@pytest.mark.parametrize("command", [(), ("check",)])
@pytest.mark.parametrize(
    ("made", "done", "words"),
    [
        ("pass", "return None", ["it returns None"]),
        ("pass", "return 3.0", ["it returns a float"]),
        ("pass", "return batch.labels.sum()", ["it returns a tensor of int64"]),
        ("pass", "return student.logits.flatten()", ["a value for each of the", "it returns (40,)"]),
        ("pass", "return student.logits.mean() * float('nan')", ["not a number"]),
        ("pass", "raise ValueError('no idea')", ["ValueError: no idea", "loss.py, line 13"]),
        (
            "pass",
            "return student.logits @ student.logits",
            ["RuntimeError: ", "mat1 and mat2", "loss.py, line 13"],
        ),
        ("raise TypeError('at once')", "pass", ["TypeError: at once", "loss.py, line 8"]),
    ],
)
def test_a_loss(
    here: Path,
    capsys: pytest.CaptureFixture[str],
    command: tuple[str, ...],
    made: str,
    done: str,
    words: list[str],
) -> None:
    (here / "wrongly" / "loss.py").write_text(LOSS.format(made=made, done=done))
    line = refused(capsys, *command, "+loss.own={name: wrongly.loss}")
    assert line.startswith("loss.own: ") and all(word in line for word in words), line


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (MODEL.format(made="raise ValueError('no idea')"), "ValueError: no idea (net.py, line 6)"),
        (MODEL.format(made="1 / 0"), "ZeroDivisionError: division by zero (net.py, line 6)"),
        ("import nothing_of_that_name", "ModuleNotFoundError: No module named 'nothing_of_that_name'"),
        ("raise SystemExit(0)", "SystemExit: 0 (net.py, line 1)"),
        ("def build(:\n", "SyntaxError: invalid syntax (net.py, line 1)"),
    ],
)
def test_a_model(here: Path, capsys: pytest.CaptureFixture[str], text: str, word: str) -> None:
    (here / "wrongly" / "net.py").write_text(text)
    (here / "conf" / "model").mkdir(parents=True)
    (here / "conf" / "model" / "net.yaml").write_text("name: net\nfamily: wrongly.net\nargs: {}\n")
    line = refused(capsys, "--config-dir", "conf", "student=net")
    assert line.startswith("student.family") and word in line, line


@pytest.mark.parametrize("value", ["[-1,8]", "[0,0]"])
def test_arguments_that_no_layer_can_have(
    capsys: pytest.CaptureFixture[str], value: str, tmp_path: Path
) -> None:
    assert main([f"student.args.widths={value}", f"outputs_dir={tmp_path}/o"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("student.args.widths=[") and "a list of whole numbers from 1 to 65,536" in line
