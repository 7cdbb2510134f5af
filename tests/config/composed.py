"""Composing in tests: a command line in, a run out."""

from __future__ import annotations

import shlex
from pathlib import Path

from kdrun.config.arguments import parse
from kdrun.config.compose import single
from kdrun.config.load import Loaded


def composed(line: str = "", config_dir: Path | None = None) -> Loaded:
    """What `kdrun LINE` would run."""
    flags = ["--config-dir", str(config_dir)] if config_dir else []
    return single(parse([*flags, *shlex.split(line)]))
