"""The command line: finds the command, and turns errors into one line and an exit code."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from io import TextIOWrapper

from kdrun import __version__
from kdrun.artefacts import STARTED, full_disk
from kdrun.errors import KdrunError
from kdrun.resources import no_memory

COMMANDS = ("run", "table", "check", "list", "report", "predict", "outputs")

SHOWN = 5
"""The number of mistakes of a sweep that are shown."""


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0: done, 1: failed while running, 2: a mistake found before that, 130: interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    os.environ[STARTED] = str(time.time())
    show_all_letters()
    try:
        return _dispatch(arguments)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except KeyboardInterrupt:
        return _say("interrupted; the same command continues", 130)
    except BrokenPipeError:  # as in `kdrun list | head`; Python would complain again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        return _failed(error)


def show_all_letters() -> None:
    """Lets a terminal, a file or a pipe show `?` for a letter that its encoding lacks; Python would fail."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")


def _dispatch(arguments: list[str]) -> int:
    if any(word in ("--help", "-h") for word in arguments):
        from kdrun.commands.help import text

        print(text())
        return 0
    if "--version" in arguments:
        print(f"kdrun {__version__}")
        return 0
    if arguments and re.fullmatch(r"[^-+~=][^=]*", arguments[0]):
        return _command(arguments[0])(arguments[1:])
    _complete_after_command()
    return _command("run")(arguments)


def _command(name: str) -> Callable[[Sequence[str]], int]:
    """The `main` of kdrun.commands.NAME, imported only if it is used."""
    if name not in COMMANDS:
        raise KdrunError(f"kdrun {name}", None, "no such command", COMMANDS, "kdrun --help")
    command: Callable[[Sequence[str]], int] = import_module(f"kdrun.commands.{name}").main
    return command


def _complete_after_command() -> None:
    """Hides the command from Hydra's completion, which knows only overrides."""
    if "COMP_LINE" in os.environ:
        pattern = rf"^(\s*\S+\s+)(?:{'|'.join(COMMANDS)})\s+"
        os.environ["COMP_LINE"] = re.sub(pattern, r"\1", os.environ["COMP_LINE"])


def _failed(error: Exception) -> int:
    """One line for an error that a user can mend; a traceback for bugs, or if KDRUN_TRACEBACK=1."""
    lines = getattr(error, "lines", None)  # of a refused sweep
    starved = "" if isinstance(error, KdrunError) else no_memory(error)
    known = isinstance(error, (KdrunError, OSError)) or lines is not None or starved
    if not known or _wants_traceback():
        raise error
    if lines is not None:
        for line in lines[:SHOWN]:
            print(line, file=sys.stderr)
        more = f"{len(lines) - SHOWN} more mistakes; " if len(lines) > SHOWN else ""
        return _say(f"{more}nothing was trained", 2)
    if starved:
        return _say(starved, 1)
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return _say(f"{where}{full_disk(error) or error.strerror or error}", 1)
    return _say(str(error), 1 if getattr(error, "while_running", False) else 2)


def _wants_traceback() -> bool:
    return "1" in (os.environ.get("KDRUN_TRACEBACK"), os.environ.get("HYDRA_FULL_ERROR"))


def _say(line: str, code: int) -> int:
    print(line, file=sys.stderr, flush=True)
    return code
