"""A short run for tests of what comes before and after runs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from kdrun.cli import main

SHORT = (
    "evaluation.latency=false",
    "evaluation.plots=false",
    "recipe.teacher.epochs=2",
    "recipe.student.epochs=2",
)


class Here:
    """A folder in which kdrun is called: `here("check", "seed=1")` gives exit code, output, errors."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str], trained: Path) -> None:
        self.root, self.capsys, self.trained = root, capsys, trained

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        self.capsys.readouterr()
        code = main(list(arguments))
        out, err = self.capsys.readouterr()
        return code, out, err

    def run(self, *overrides: str) -> Path:
        """A run's folder, trained or, without overrides, copied."""
        if not overrides:
            shutil.copytree(self.trained, self.root / "outputs", dirs_exist_ok=True)
            return self.runs()[0]
        before = set(self.runs())
        assert self(*SHORT, *overrides)[0] == 0
        return next(iter(set(self.runs()) - before), self.runs()[0])

    def runs(self) -> list[Path]:
        return sorted(self.root.glob("outputs/runs/*"))

    def files(self) -> dict[str, int]:
        """Everything that lies here, with its time."""
        return {str(path): path.stat().st_mtime_ns for path in self.root.rglob("*")}


def made(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any, trained: Path) -> Here:
    """An empty folder, entered."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return Here(tmp_path, capsys, trained)
