"""An empty folder to call kdrun in, and a short run that is trained once and copied there."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import pytest

from kdrun.cli import main
from tests.commands.short import SHORT, Here, made


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs of one short run; nobody changes them."""
    root = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()):
        patch.chdir(root)
        assert main(list(SHORT)) == 0
    return root / "outputs"


@pytest.fixture
def here(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, trained: Path
) -> Here:
    return made(tmp_path, capsys, monkeypatch, trained)
