"""A run whose method does not fit its models is told which would do, before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdrun.cli import main


@pytest.mark.parametrize("method", ["fsp", "kdsvd", "cat_kd"])
def test_other_methods_are_named(
    method: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([f"method={method}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    _, _, named = line.partition("; methods that would do: ")
    assert len(named.split(", ")) == 6 and method not in named.split(", ")
    assert not list(tmp_path.rglob("*.pt"))
