"""Files that this process may not read, also where tests are run by root."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NOBODY = 65534


@contextmanager
def unreadable(path: Path) -> Iterator[Path]:
    """A copy of a file, or of a folder, in which no file may be read within the block."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    there = folder / path.name
    try:
        folder.chmod(0o755)
        if path.is_dir():
            shutil.copytree(path, there)
        else:
            shutil.copy(path, there)
        for each in (there, *there.rglob("*")):
            each.chmod(0o755 if each.is_dir() else 0)
        with _nobody():
            yield there
    finally:
        shutil.rmtree(folder)


@contextmanager
def _nobody() -> Iterator[None]:
    """Without the rights of root, who may read everything."""
    if os.geteuid():
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
