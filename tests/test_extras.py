"""The command that installs an optional package fits where kdrun is."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdrun import extras


def test_the_command_fits_a_clone_and_an_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extras, "HOME", tmp_path)
    assert extras.install("tune") == "pip install 'kdrun[tune]'"
    (tmp_path / "pyproject.toml").touch()
    assert extras.install("tune") == f"pip install -e '{tmp_path}[tune]'"
    monkeypatch.chdir(tmp_path)
    assert extras.install("tune") == "pip install -e '.[tune]'"
