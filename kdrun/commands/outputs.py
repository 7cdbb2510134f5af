"""`kdrun outputs [DIR]`: what is kept, how large, used by whom; `--prune` removes what could go."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from kdrun.commands.options import Options, width
from kdrun.errors import KdrunError
from kdrun.figures import file_size, plural
from kdrun.report.outputs import KINDS, Kept, held, kept, prunable

SHOWN = 10
"""So many of a kind are named, the largest; JSON has all."""

FIGURES = 28
"""Columns behind a name: its size, and who uses it."""


def main(arguments: Sequence[str]) -> int:
    """Prints what is there, or removes. Raises KdrunError for a folder that is none."""
    known = Options(values={"--format": ("text", "json")}, switches=("--prune", "--yes"))
    words, options = known.parse(arguments)
    if len(words) > 1:
        raise KdrunError("kdrun outputs", None, "one folder at a time")
    outputs = Path(words[0].removeprefix("outputs_dir=") if words else "outputs").expanduser()
    found = kept(outputs)
    if "--prune" in options:
        return prune(found, sure="--yes" in options)
    if options.get("--format") == "json":
        going = {each.path: reason for each, reason in prunable(found)}
        print(json.dumps([_row(each, going.get(each.path)) for each in found], indent=2))
        return 0
    print("\n".join(as_text(outputs, found, width())))
    return 0


def as_text(outputs: Path, found: Sequence[Kept], columns: int) -> Iterator[str]:
    """Each kind with its number and size, and the largest of it by name; then what could go."""
    yield f"{outputs}   {file_size(sum(each.bytes for each in found))}"
    for kind in KINDS:
        group = [each for each in found if each.kind == kind]
        if not group:
            continue
        yield f"\n{plural(len(group), kind)}   {file_size(sum(each.bytes for each in group))}"
        for each in group[:SHOWN]:
            yield _line(_name(each), file_size(each.bytes), _use(each), columns)
        if len(group) > SHOWN:
            yield f"  and {len(group) - SHOWN} more: --format json"
    going = prunable(found)
    if going:
        total = file_size(sum(each.bytes for each, _ in going))
        yield f"\n--prune would remove {plural(len(going), 'folder')}, {total}"


def prune(found: Sequence[Kept], sure: bool) -> int:
    """Says what would go, asks, removes. Nothing that another process holds goes."""
    going = prunable(found)
    if not going:
        print("nothing to remove")
        return 0
    for each, reason in going:
        print(_line(_name(each), file_size(each.bytes), reason, width()))
    total = file_size(sum(each.bytes for each, _ in going))
    if not sure and not _agreed(f"remove {plural(len(going), 'folder')}, {total}? [y/N] "):
        print("nothing was removed")
        return 0
    gone = [each for each, _ in going if _remove(each.path)]
    print(f"removed {plural(len(gone), 'folder')}, {file_size(sum(each.bytes for each in gone))}")
    return 0


def _agreed(question: str) -> bool:
    try:
        return input(question).strip().lower() in ("y", "yes")
    except EOFError:
        print()
        return False


def _remove(path: Path) -> bool:
    """False for what went with the folder around it, or is held by another process by now."""
    if not path.exists():
        return True
    with held(path) as free:
        if not free:
            print(f"{path}: in use by now, so it stays", file=sys.stderr)
            return False
        shutil.rmtree(path)
    return True


def _name(each: Kept) -> str:
    if each.kind == "table":
        return f"{each.path.parent.parent.name}/{each.path.name}"
    return each.path.name


def _use(each: Kept) -> str:
    if each.state != "finished":
        return each.state
    if each.kind in ("teacher", "control") or each.users:
        return f"used by {plural(len(each.users), 'run') if each.users else 'no run'}"
    return "finished" if each.kind == "run" else ""


def _line(name: str, size: str, use: str, columns: int) -> str:
    room = columns - FIGURES - 2
    shown = name if len(name) <= room else f"{name[: room // 2 - 2]}...{name[-(room - room // 2 - 1) :]}"
    return f"  {shown:{room}} {size:>8}  {use}".rstrip()


def _row(each: Kept, reason: str | None) -> dict[str, object]:
    """`{kind, path, bytes, state, users, prune}`; users of models and runs, prune where it could go."""
    users = {"users": list(each.users)} if each.kind in ("teacher", "control", "run") else {}
    told = {"prune": reason} if reason else {}
    return (
        {"kind": each.kind, "path": str(each.path), "bytes": each.bytes, "state": each.state} | users | told
    )
