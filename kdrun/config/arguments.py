"""What was typed, sorted before Hydra sees it: flags anywhere, a sweep's file; unknown flags are refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from kdrun.config.files import shipped, swept
from kdrun.errors import KdrunError

SWITCHES = {
    "-m": "-m",
    "--multirun": "-m",
    "--resolve": "--resolve",
    "-sc": "-sc",
    "--shell-completion": "-sc",
}
VALUED = {
    "-c": "--cfg",
    "--cfg": "--cfg",
    "-p": "--package",
    "--package": "--package",
    "-i": "--info",
    "--info": "--info",
}
FOLDER = ("-cd", "--config-dir")
CHOICES = {
    "--cfg": ("job", "hydra", "all"),
    "--info": ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
}
OWN = ("--help", "--version")


class Typed(NamedTuple):
    """flags: Hydra's, in one spelling. overrides: key=value, +key=value, ~key. config_dir: own files."""

    flags: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    config_dir: Path | None = None

    @property
    def many(self) -> bool:
        """Whether this is a sweep."""
        return "-m" in self.flags

    @property
    def place(self) -> tuple[str, ...]:
        """The flag for the user's files, for the record of the command."""
        return ("--config-dir", str(self.config_dir)) if self.config_dir else ()

    @property
    def shows(self) -> bool:
        """Whether only a configuration or completions are to be shown."""
        return any(flag in self.flags for flag in ("--cfg", "--info", "-sc"))


def parse(arguments: Sequence[str]) -> Typed:
    """Flags may stand before, between and after overrides. Raises KdrunError for an unknown flag."""
    flags: list[str] = []
    overrides: list[str] = []
    folder: Path | None = None
    left = list(arguments)
    while left:
        word = left.pop(0)
        name, equals, value = word.partition("=")
        if not word.startswith("-"):
            overrides.append(word)
        elif word in SWITCHES:
            flags.append(SWITCHES[word])
        elif name in VALUED or name in FOLDER:
            given = value if equals else _next(name, left)
            if name in FOLDER:
                folder = Path(given).expanduser()
            else:
                flags += [VALUED[name], _chosen(VALUED[name], given)]
        else:
            raise KdrunError(word, None, "no such flag", [*OWN, *SWITCHES, *VALUED, *FOLDER], "kdrun --help")
    if "-sc" in flags and not overrides:
        raise KdrunError("-sc", None, 'says what to do for completion: eval "$(kdrun -sc install=bash)"')
    return _spread(Typed(tuple(flags), tuple(overrides), folder))


def _next(name: str, left: list[str]) -> str:
    if not left or left[0].startswith("-"):
        raise KdrunError(name, None, "needs a value", CHOICES.get(VALUED.get(name, ""), ()))
    return left.pop(0)


def _chosen(flag: str, value: str) -> str:
    if flag in CHOICES and value not in CHOICES[flag]:
        raise KdrunError(flag, value, "no such choice", CHOICES[flag])
    return value


def _spread(typed: Typed) -> Typed:
    """Makes a sweep of `sweep=NAME` and of an experiment that sweeps; drops `experiment=null`."""
    folders = (shipped(), *([typed.config_dir] if typed.config_dir else []))
    overrides: list[str] = []
    many = typed.many
    for override in typed.overrides:
        group, _, name = override.partition("=")
        values = swept(folders, group, name) if group in ("experiment", "sweep") else {}
        many = many or bool(values)
        if group in ("experiment", "sweep") and name == "null":
            continue
        overrides.append(f"experiment={values['experiment']}" if "experiment" in values else override)
    flags = (*typed.flags, "-m") if many and not typed.many and not typed.shows else typed.flags
    return Typed(flags, tuple(overrides), typed.config_dir)
