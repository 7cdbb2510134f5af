"""`kdrun list [models|methods|...]`: what there is to choose from, read from the files' first lines."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from kdrun.commands.options import Options, width
from kdrun.config.files import Entry, entries, refuse_clashes, shipped
from kdrun.errors import KdrunError
from kdrun.models.names import timm_names, torchvision_names

GROUPS = {
    "models": "model",
    "methods": "method",
    "losses": "loss",
    "datasets": "dataset",
    "recipes": "recipe",
    "experiments": "experiment",
    "sweeps": "sweep",
}
USE = {
    "models": "teacher=NAME  student=NAME",
    "methods": "method=NAME",
    "losses": "+loss@loss.TERM=NAME",
    "datasets": "dataset=NAME",
    "recipes": "recipe=NAME",
    "experiments": "experiment=NAME",
    "sweeps": "sweep=NAME",
}


def main(arguments: Sequence[str]) -> int:
    """Prints the list. Raises KdrunError for a list that is none."""
    valued: dict[str, tuple[str, ...]] = {"--format": ("text", "json"), "--config-dir": (), "-cd": ()}
    words, options = Options(values=valued).parse(arguments)
    for word in words:
        if word not in GROUPS:
            raise KdrunError(f"kdrun list {word}", None, "no such list", GROUPS)
    own = options.get("--config-dir", options.get("-cd"))
    folders = [shipped()]
    if own is not None:
        refuse_clashes(Path(own), torchvision_names())
        folders.append(Path(own))
    found = {word: list(_entries(GROUPS[word], folders)) for word in words or GROUPS}
    print(as_json(found) if options.get("--format") == "json" else as_text(found, width()))
    return 0


def _entries(group: str, folders: Sequence[Path]) -> Iterator[Entry]:
    for folder in folders:
        yield from entries(folder, group)
    if group == "model":
        for name in torchvision_names():
            yield Entry(group, name, "", "torchvision", Path())
        for name in timm_names():
            yield Entry(group, name, "", "timm", Path())


def as_json(found: dict[str, list[Entry]]) -> str:
    """A list of `{list, name, description, extra}`, with `needs` for methods and losses."""
    rows = [
        {"list": word, "name": entry.name, "description": entry.description, "extra": entry.extra}
        | ({"needs": list(entry.needs)} if word in ("methods", "losses") else {})
        for word, group in found.items()
        for entry in group
    ]
    return json.dumps(rows, indent=2)


def as_text(found: dict[str, list[Entry]], columns: int) -> str:
    """A line each: name, description, what follows the bar, needs; torchvision's models as a block."""
    blocks = []
    for word, group in found.items():
        described = [entry for entry in group if entry.path != Path()]
        lines = [f"{word}   {USE[word]}", *_table(described, columns)]
        bare = [entry.name for entry in group if entry.extra == "torchvision" and entry.path == Path()]
        if bare:
            lines += ["", f"models of torchvision ({len(bare)}), all with pretrained weights"]
            lines += textwrap.wrap(", ".join(bare), columns - 2, initial_indent="  ", subsequent_indent="  ")
        if word == "models":
            names = [entry.name for entry in group if entry.extra == "timm" and entry.path == Path()]
            told = f"({len(names):,}): timm/NAME or timm/NAME.TAG; --format json names all"
            lines += ["", f"models of timm {told if names else ': pip install kdrun[timm]'}"]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _table(group: Sequence[Entry], columns: int) -> Iterator[str]:
    names = max((len(entry.name) for entry in group), default=0)
    for entry in group:
        extra = f"  ({entry.extra})" if entry.extra not in ("", "-") else ""
        hanging = " " * (names + 4)
        needs = f"; needs {', '.join(entry.needs)}" if entry.needs else ""
        text = f"  {entry.name:{names}}  {entry.description}{extra}{needs}"
        yield textwrap.fill(text, columns, subsequent_indent=hanging, break_on_hyphens=False).rstrip()
