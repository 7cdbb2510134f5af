"""Temporary folders of scripts, which also go if a script is killed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from kdrun.artefacts import aside, sweep_parts


@contextmanager
def scratch(name: str) -> Iterator[Path]:
    """A temporary folder, removed after the block. That of a killed process goes when the next one of this
    name and user begins; that of a living one stays.
    """
    above = Path(tempfile.gettempdir()) / f"{name}-{os.getuid()}"
    with ExitStack() as closing:
        yield _locked(above, closing)
    with suppress(OSError):  # another process has a folder there
        above.rmdir()


def _locked(above: Path, closing: ExitStack) -> Path:
    while True:
        above.mkdir(mode=0o700, exist_ok=True)
        sweep_parts(above)
        with suppress(FileNotFoundError):  # another process has ended just now
            return closing.enter_context(aside(above))
