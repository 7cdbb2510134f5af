"""Mistakes in code of the user: what went wrong, with the user's own file and line."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kdrun.errors import KdrunError

KDRUN = Path(__file__).resolve().parent


def is_users(thing: object) -> bool:
    """Whether a class, function or instance was not written in kdrun."""
    module = getattr(thing, "__module__", "")
    return module.partition(".")[0] != "kdrun"


@contextmanager
def one_line(key: str, value: object = None) -> Iterator[None]:
    """In the block code of the user runs. Its errors become a KdrunError under `key`, also an exit."""
    try:
        yield
    except KdrunError:
        raise
    except (Exception, SystemExit) as error:
        raise KdrunError(key, value, reason(error)) from error


def reason(error: BaseException) -> str:
    """`ValueError: no such layer (net.py, line 12)`: the error, and the user's last line that led to it."""
    text = " ".join(str(error).split())
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if _own(Path(frame.filename))]
    where = (own or frames)[-1:] and (own or frames)[-1]
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {text}"  # which names file and line itself
    place = f" ({Path(where.filename).name}, line {where.lineno})" if where else ""
    return f"{type(error).__name__}{': ' if text else ''}{text}{place}"


def _own(file: Path) -> bool:
    """Whether a file is neither kdrun's, nor an installed package's, nor Python's."""
    installed = {"site-packages", "dist-packages"} & set(file.parts)
    inside = file.is_relative_to(KDRUN)
    return file.exists() and not installed and not inside and not _standard(file)


def _standard(file: Path) -> bool:
    return file.is_relative_to(Path(traceback.__file__).resolve().parent)
