"""The user's own code: where it is found, and its errors, with file and line."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from kdrun.errors import KdrunError

KDRUN = Path(__file__).resolve().parent

INSTALLED = {"site-packages", "dist-packages"}
"""Folders of installed packages: packages beside each other there are not the work of one user."""


def see_working_folder() -> None:
    """Lets Python find modules in the working folder, as `python -m` does."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())


def is_found(module: str) -> bool:
    """Whether Python finds a module. The packages around it are imported."""
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # of the package above, or no name
        return False


def is_users(value: object) -> bool:
    """Whether a class, function or instance is not kdrun's own."""
    module = getattr(value, "__module__", "")
    return module.partition(".")[0] != "kdrun"


@contextmanager
def one_line(key: str, value: object = None) -> Iterator[None]:
    """Turns errors of the user's code in the block, and an exit, into a KdrunError under `key`."""
    try:
        yield
    except KdrunError:
        raise
    except (Exception, SystemExit) as error:
        raise KdrunError(key, value, reason(error)) from error


def reason(error: BaseException) -> str:
    """`ValueError: no such layer (net.py, line 12)`: the error, and the user's last line before it."""
    text = " ".join(str(error).split())
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if _own(Path(frame.filename))]
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {text}"  # the text names file and line
    last = next(iter(reversed(own or list(frames))), None)
    place = "" if last is None else f" ({Path(last.filename).name}, line {last.lineno})"
    return f"{type(error).__name__}{': ' if text else ''}{text}{place}"


def _own(file: Path) -> bool:
    """Whether a file is neither kdrun's, nor an installed package's, nor Python's."""
    others = (KDRUN, Path(traceback.__file__).resolve().parent)
    return file.exists() and not INSTALLED & set(file.parts) and not any(map(file.is_relative_to, others))
