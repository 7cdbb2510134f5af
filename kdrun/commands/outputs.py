"""`kdrun outputs [DIR]`: lists what is kept, with sizes and users; `--prune` and `rm` remove."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from rich.cells import cell_len

from kdrun.artefacts import remove
from kdrun.config.options import Options
from kdrun.errors import LONGEST, KdrunError, plain
from kdrun.figures import file_size, plural
from kdrun.paths import expanded
from kdrun.report.naming import run_named, said_of, short_id
from kdrun.report.outputs import (
    KINDS,
    MODELS,
    ROOMS,
    KeptFolder,
    OutputsFolder,
    holders,
    kept,
    named,
    prunable,
)
from kdrun.terminal import padded, shortened, width

SHOWN = 10
"""The most folders of a kind that are named, the largest first; JSON has all."""

FIGURES = 45
"""Columns for the size, the date and the users, after a name."""

DATED = ("report.json", "student.json", "model.json", "metrics.jsonl", "results.json", "table.json")
"""The newest of these files gives the date of a folder."""

_PLACES = "models/, runs/, sweeps/, searches/ or tables/"

SHORTEST = 24
"""The least width of a name; with less, its figures have a line of their own."""

Going = Sequence[tuple[KeptFolder, str]]
"""What is to be removed, and why."""


def main(arguments: Sequence[str]) -> int:
    """Lists or removes. Raises KdrunError for a folder that is not kdrun's."""
    known = Options(values={"--format": ("text", "json")}, switches=("--prune", "--yes"))
    words, options = known.parse(arguments)
    if words[:1] == ["rm"]:
        return _remove_named(words[1:], sure="--yes" in options)
    paths = [expanded(word.removeprefix("outputs_dir=")) for word in words] or [Path("outputs")]
    single = any((paths[0] / room).is_dir() for room in ROOMS) or not _is_named(paths[0])
    if single and len(paths) > 1:
        problem = f"one folder of outputs at a time, or several folders in its {_PLACES}"
        raise KdrunError("kdrun outputs", None, problem)
    shown = kept(paths[0]) if single else named(paths)
    going = prunable(shown) if single else [(each, _why(each)) for each in shown.kept]
    for line in shown.damaged:
        print(line, file=sys.stderr)
    if "--prune" in options:
        return prune(going, sure="--yes" in options)
    if options.get("--format") == "json":
        reasons = {each.path: reason for each, reason in prunable(shown)}
        print(json.dumps([_row(each, reasons.get(each.path)) for each in shown.kept], indent=2))
    else:
        print("\n".join(as_text(paths[0] if single else None, shown, width())))
    return 0


def _remove_named(words: Sequence[str], sure: bool) -> int:
    """Removes runs, or other folders of outputs, by path, id or name; asks first."""
    if not words:
        problem = "which run? Its folder, the first digits of its id, or its name"
        raise KdrunError("kdrun outputs rm", None, problem)
    paths = [run_named(word) for word in words]
    for path in paths:
        if not path.is_dir() or not _is_named(path):
            raise KdrunError(str(path), None, f"no folder in the {_PLACES} of an outputs folder")
    return prune([(each, _why(each)) for each in named(paths).kept], sure)


def _is_named(path: Path) -> bool:
    return path.resolve().parent.name in (*ROOMS, "tables")


def _why(each: KeptFolder) -> str:
    """The reason why a named folder is removed, with what is lost."""
    if each.users:
        return f"named, used by {plural(len(each.users), 'run')}"
    return "named" if each.state == "finished" else f"named, {_use(each)}"


def as_text(outputs: Path | None, shown: OutputsFolder, columns: int) -> Iterator[str]:
    """Each kind with its number, its size and its largest folders; then what can be removed."""
    yield f"{outputs or 'named'}   {file_size(sum(each.bytes for each in shown.kept))}"
    for kind in KINDS:
        group = [each for each in shown.kept if each.kind == kind]
        if not group:
            continue
        yield f"\n{plural(len(group), kind)}   {file_size(sum(each.bytes for each in group))}"
        for each in group[:SHOWN]:
            yield _line(each, f"{_use(each)}{_called(each)}", columns)
        if len(group) > SHOWN:
            yield f"  and {len(group) - SHOWN} more: --format json"
    if shown.foreign:
        yield f"\n{plural(shown.foreign, 'folder')} in models/ and runs/ of other tools: left alone"
    yield from _could_go(shown)


def _could_go(shown: OutputsFolder) -> Iterator[str]:
    going, broken = prunable(shown), [each for each in shown.kept if each.state == "can be continued"]
    if going:
        total = file_size(sum(each.bytes for each, _ in going))
        yield f"\n--prune would remove {plural(len(going), 'folder')}, {total}"
    if broken:
        which = f"{plural(len(broken), 'training')}, {file_size(sum(each.bytes for each in broken))}"
        yield f"\n--prune keeps what can be continued ({which});"
        yield "kdrun outputs FOLDER --prune removes the one that you name"


def prune(going: Going, sure: bool) -> int:
    """Lists what would be removed, asks, removes. A folder that another process uses stays: then 1."""
    if not going:
        print("nothing to remove")
        return 0
    for each, reason in going:
        print(_line(each, reason, width()))
    total = file_size(sum(each.bytes for each, _ in going))
    if not sure and not _agreed(f"remove {plural(len(going), 'folder')}, {total}? [y/N] "):
        print("nothing was removed")
        return 0
    gone = [each for each, _ in going if _remove(each)]
    print(f"removed {plural(len(gone), 'folder')}, {file_size(sum(each.bytes for each in gone))}")
    return int(len(gone) < len(going))


def _agreed(question: str) -> bool:
    try:
        return input(question).strip().lower() in ("y", "yes")
    except EOFError:
        print()
        return False


def _remove(each: KeptFolder) -> bool:
    """Removes a folder. False if another process uses it, or if it cannot be removed."""
    if not each.path.exists():  # was removed with the folder around it
        return True
    try:
        if remove(each.path, holders(each)):
            return True
        print(f"{each.path}: in use, so it stays", file=sys.stderr)
    except OSError as error:
        print(f"{error.filename or each.path}: {error.strerror}, so it stays", file=sys.stderr)
    return False


def _name(each: KeptFolder) -> str:
    training = f"{each.path.parent.parent.name}/" if each.kind == "table" else ""
    return plain(f"{training}{each.path.name}", 2 * LONGEST)


def _called(each: KeptFolder) -> str:
    name = said_of(each.path).get("name") if each.kind == "run" else None
    return f" ({plain(str(name))})" if name else ""


def changed(path: Path) -> str:
    """The day when a folder's files were last written: `2026-01-02`."""
    files = (path / name for name in DATED)
    times = [file.stat().st_mtime for file in files if file.exists()] or [path.stat().st_mtime]
    return datetime.fromtimestamp(max(times)).strftime("%Y-%m-%d")


def _use(each: KeptFolder) -> str:
    if each.age is not None:
        return f"can be continued, {_age(each.age)}"
    if each.state != "finished":
        return each.state
    if each.kind in MODELS or each.users:
        return f"used by {plural(len(each.users), 'run') if each.users else 'no run'}"
    return "finished" if each.kind == "run" else ""


def _age(seconds: float) -> str:
    """`5 min`, `3 h`, `12 d`."""
    for unit, name in ((86400, "d"), (3600, "h")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds / 60:.0f} min"


def _line(each: KeptFolder, use: str, columns: int) -> str:
    name, room = _name(each), columns - FIGURES - 2
    figures = f"{file_size(each.bytes):>8}  {changed(each.path)}  {use}".rstrip()
    if room < min(SHORTEST, cell_len(name)):
        return f"  {shortened(name, columns - 2)}\n    {figures}"
    return f"  {padded(shortened(name, room), room)} {figures}"


def _row(each: KeptFolder, reason: str | None) -> dict[str, object]:
    """`{kind, path, bytes, date, state, users, age, prune}`. Models and runs have users. What can be
    continued has an age in seconds, what can be removed the reason. Runs also have an id, and the user's
    name, note and tags.
    """
    row: dict[str, object] = {"kind": each.kind, "path": str(each.path), "bytes": each.bytes}
    row["date"] = changed(each.path)
    if each.kind == "run":
        row |= {"id": short_id(each.path), **said_of(each.path)}
    row["state"] = each.state
    if each.kind in (*MODELS, "run"):
        row["users"] = list(each.users)
    if each.age is not None:
        row["age"] = round(each.age)
    return row | ({"prune": reason} if reason else {})
