"""Completion of a command line: commands, flags, lists, runs and paths here; keys and choices by Hydra.

`kdrun -sc install=SHELL` prints a script for the shell. The script calls `kdrun -sc query=SHELL` with the
line so far in COMP_LINE.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from kdrun.commands.pages import PAGES
from kdrun.errors import KdrunError
from kdrun.paths import expanded

SCRIPTS = {
    "bash": """\
_kdrun() {
    local IFS=$'\\n' line="${COMP_LINE:0:COMP_POINT}" last='([^ \\\\]|\\\\.)*$' word i
    [[ $line =~ $last ]] && word="${BASH_REMATCH[0]}"
    COMPREPLY=($(COMP_LINE="$line" "$1" -sc query=bash 2>/dev/null))
    # bash completes only what follows the last of COMP_WORDBREAKS, such as = and :
    local part="${word%"${word##*[=:]}"}"
    [[ $part && $COMP_WORDBREAKS == *=* ]] && COMPREPLY=("${COMPREPLY[@]#"$part"}")
    for i in "${!COMPREPLY[@]}"; do
        printf -v COMPREPLY[i] %q "${COMPREPLY[i]}"
        [[ ${COMPREPLY[i]} == '\\~'* ]] && COMPREPLY[i]="${COMPREPLY[i]:1}"
    done
    (( ${#COMPREPLY[@]} == 1 )) && [[ $COMPREPLY != *[=/] ]] && COMPREPLY[0]+=" "
}
complete -o nospace -F _kdrun kdrun""",
    "zsh": """\
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
_kdrun() {
    local -a found
    found=("${(@f)$(COMP_LINE="${(j: :)words[1,CURRENT]}" "${words[1]}" -sc query=zsh 2>/dev/null)}")
    found=("${(@)found:#}")
    local -a whole=("${(@)found:#*[=/]}") begun=("${(@M)found:#*[=/]}")
    # quoted by hand: zsh would quote the ~ of a home folder too
    (( $#whole )) && compadd -q -S ' ' -U -Q -- "${(@)${(@q)whole}/#\\\\~/~}"
    (( $#begun )) && compadd -S '' -U -Q -- "${(@)${(@q)begun}/#\\\\~/~}"
}
compdef _kdrun kdrun""",
    "fish": """\
function __kdrun_complete
    set -lx COMP_LINE (commandline -cp)
    kdrun -sc query=fish 2>/dev/null
end
complete -c kdrun -f -a '(__kdrun_complete)'""",
}

PATHS = re.compile(
    r"(outputs_dir|data_dir|(teacher|student)\.checkpoint|dataset\.(path|\w+_file)|--config-dir)"
)
"""Keys whose value is a path."""

OF_RUNS = ("predict", "continue", "compare")
"""Commands that take runs."""


def install(shell: str) -> str:
    """The script for a shell: for `eval "$(...)"`, in fish for `kdrun -sc install=fish | source`."""
    if shell not in SCRIPTS:
        raise KdrunError("-sc install", shell, "no such shell", SCRIPTS)
    return SCRIPTS[shell]


def candidates(line: str) -> list[str]:
    """The words that can complete the line. line: with the program's name."""
    words = words_of(line)[1:]
    word = words.pop() if words else ""
    command = words[0] if words and words[0] in PAGES else ""
    rest = words[1:] if command else words
    if word.startswith("-"):
        return _starting(word, _flags(command or "run"))
    key, equals, value = word.partition("=")
    if equals and PATHS.fullmatch(key):
        return [f"{key}={path}" for path in _paths(value)]
    if rest and PATHS.fullmatch(rest[-1]):
        return _paths(word)
    if command in ("", "run", "check", "table") or (command == "tune" and rest):
        named = _starting(word, PAGES) if not words else _tables(word) if command == "table" else []
        return sorted({*named, *_of_hydra([each for each in rest if "=" in each], word)})
    return _of_command(command, rest, word)


def words_of(line: str) -> list[str]:
    """The words of a line as a shell reads them, with what follows the last blank; a quote may be open."""
    pieces = re.findall(r"""(?:\\.|'[^']*'?|"[^"]*"?|[^\s\\])+|\\$""", line)
    words = [re.sub(r"""\\(.)|['"]""", lambda match: match[1] or "", piece) for piece in pieces]
    return words if line == line.rstrip() or line.endswith("\\ ") else [*words, ""]


def _of_command(command: str, rest: Sequence[str], word: str) -> list[str]:
    from kdrun.commands.list import LISTS

    if command == "list":
        return _starting(word, LISTS)
    if command == "help":
        return _starting(word, PAGES)
    if command == "explain":
        from kdrun.config.keys import keys

        return _starting(word, sorted({key.name for key in keys()} | {key.last for key in keys()}))
    runs = _starting(word, _runs()) if command in OF_RUNS or rest[:1] == ["rm"] else []
    return sorted({*runs, *_paths(word), *(_starting(word, ["rm"]) if command == "outputs" else [])})


def _starting(word: str, choices: Iterable[str]) -> list[str]:
    return [choice for choice in choices if choice.startswith(word)]


def _flags(command: str) -> list[str]:
    flags = [flag for flag, _ in PAGES[command].flags]
    return sorted({name for flag in flags for name in re.findall(r"--?[\w-]+", flag)} | {"--help"})


def _paths(start: str) -> list[str]:
    """Files and folders whose paths begin with `start`; a folder ends with a slash."""
    head, slash, tail = start.rpartition("/")
    folder = expanded(f"{head}{slash}" or ".")
    try:
        paths = sorted(path for path in folder.iterdir() if path.name.startswith(tail))
    except OSError:
        return []
    shown = [path for path in paths if tail.startswith(".") or not path.name.startswith(".")]
    return [f"{head}{slash}{path.name}{'/' if path.is_dir() else ''}" for path in shown]


def _runs() -> list[str]:
    folder = Path("outputs/runs")
    return sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _tables(word: str) -> list[str]:
    from kdrun.config.tables import tables

    return _starting(word, (entry.name for entry in tables(None)))


def _of_hydra(overrides: Sequence[str], word: str) -> list[str]:
    """Keys and choices, by Hydra, for the run of these overrides."""
    from hydra.core.plugins import Plugins
    from hydra.plugins.completion_plugin import CompletionPlugin

    from kdrun.config.arguments import parse
    from kdrun.config.compose import composing, loader
    from kdrun.config.keys import known

    typed = parse(overrides)
    with composing(typed):
        plugins: Any = Plugins.instance().discover(CompletionPlugin)
        (bash,) = (each for each in plugins if each.provides() == "bash")
        words = bash(loader())._query("config", " ".join([*typed.overrides, word or " "]))
    first = {key.partition(".")[0] for key in known()} | {"loss"}
    return [each for each in words if re.split(r"[.=@]", each.lstrip("+~"))[0] in first]
