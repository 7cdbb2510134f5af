"""The command line: finds the command, and turns errors into one line and an exit code."""

from __future__ import annotations

import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from io import TextIOWrapper
from itertools import pairwise

from kdrun.artefacts import STARTED, full_disk
from kdrun.commands.pages import OTHER_WORDS, PAGES
from kdrun.errors import LONGEST, KdrunError, plain
from kdrun.garbage import leave_the_rest
from kdrun.resources import no_memory

SHOWN = 5
"""The number of mistakes of a sweep that are shown."""


def main(argv: Sequence[str] | None = None) -> int:
    """0: done, 1: failed while running, 2: a mistake before, 130: interrupted. argv: None in its process."""
    if argv is None:
        leave_the_rest()
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
    if _one_of_several():
        return _command("ranked")(arguments)
    first = arguments[0] if arguments and re.fullmatch(r"[^-+~=][^=]*", arguments[0]) else ""
    command = OTHER_WORDS.get(first, first)
    if any(word in ("--help", "-h") for word in arguments):
        return _command("help")([command] if command in PAGES and command != "help" else [])
    if "--version" in arguments:
        return _command("version")([])
    if not first:
        _refuse_command_behind_keys(arguments)
        return _command("run")(arguments)
    if command not in PAGES:
        raise _no_such_command(first, next(iter(arguments[1:]), ""))
    return _command(command)(arguments[1:])


def _refuse_command_behind_keys(arguments: Sequence[str]) -> None:
    """Raises KdrunError for `kdrun epochs=3 check`. What follows a flag may be its value."""
    for before, word in pairwise(arguments):
        if word in PAGES and not before.startswith("-"):
            rest = [each for each in arguments if each != word]
            raise KdrunError(word, None, f"a command comes first: {shlex.join(['kdrun', word, *rest])}")


def _one_of_several() -> bool:
    """Whether torchrun started this process as one of several."""
    given = [os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")]
    return all(given) and given[1].isdecimal() and int(given[1]) > 1


def _command(name: str) -> Callable[[Sequence[str]], int]:
    """The `main` of kdrun.commands.NAME, imported only if it is used."""
    command: Callable[[Sequence[str]], int] = import_module(f"kdrun.commands.{name}").main
    return command


def _no_such_command(word: str, value: str) -> KdrunError:
    from kdrun.config.words import flag_hint

    if keys := flag_hint(f"--{word}", value):
        return KdrunError(f"kdrun {word}", None, f"no such command. A key is written with =: kdrun {keys}")
    return KdrunError(f"kdrun {word}", None, "no such command", PAGES, "kdrun --help")


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
        return _say(f"{plain(where, 2 * LONGEST)}{full_disk(error) or error.strerror or error}", 1)
    return _say(str(error), 1 if getattr(error, "while_running", False) else 2)


def _wants_traceback() -> bool:
    return "1" in (os.environ.get("KDRUN_TRACEBACK"), os.environ.get("HYDRA_FULL_ERROR"))


def _say(line: str, code: int) -> int:
    print(line, file=sys.stderr, flush=True)
    return code
