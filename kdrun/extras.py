"""The optional packages of kdrun, and the command that installs them."""

from __future__ import annotations

import shlex
from pathlib import Path

HOME = Path(__file__).resolve().parents[1]
"""The clone that kdrun runs from, or the folder that it is installed in."""


def install(extra: str) -> str:
    """`pip install -e "PATH[tune]"` if kdrun runs from a clone, else `pip install "kdrun[tune]"`."""
    if not (HOME / "pyproject.toml").exists():
        return f"pip install {shlex.quote(f'kdrun[{extra}]')}"
    where = "." if Path.cwd() == HOME else str(HOME)
    return f"pip install -e {shlex.quote(f'{where}[{extra}]')}"
