"""`kdrun list [models|methods|...]`: the choices, described by the first lines of their files."""

from __future__ import annotations

import itertools
import json
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from rich.cells import cell_len

from kdrun.config.files import GROUPS, LISTED, PAIR, Entry, entries, refuse_clashes, shipped
from kdrun.config.options import FOLDER, FORMAT, OTHER_SPELLINGS, Options, own_folder
from kdrun.errors import KdrunError, plain
from kdrun.figures import short
from kdrun.models.names import timm_names, torchvision_names
from kdrun.terminal import hung, padded, widest, width

GROUP_OF = {LISTED[group]: group for group in GROUPS}
LISTS = (*GROUP_OF, "keys")

USE = {"models": "teacher=NAME  student=NAME", "losses": "+loss@loss.TERM=NAME"}
"""How an entry is typed, if not as the group's."""

COSTS = {"methods": ("needs", "step", "adds"), "losses": ("needs", "adds")}
MEANING = {
    "step": "CPU time of a training step with a live teacher, over kd's",
    "adds": "parameters learned beside the student",
}

LIBRARIES = ("torchvision", "timm")

DESCRIPTION = 16
"""The least width of a description; with less, it stands below its name."""

OPTIONS = Options(values={**FORMAT, FOLDER: ()}, aliases=OTHER_SPELLINGS)


def main(arguments: Sequence[str]) -> int:
    """Prints the lists. Raises KdrunError for an unknown list."""
    words, options = OPTIONS.parse(arguments)
    asked, having = _asked(words)
    if asked == ["keys"]:
        print(_keys(having, width()))
        return 0
    folders = [shipped()]
    if own := own_folder(options):
        refuse_clashes(own, torchvision_names())
        folders.append(own)
    listed = {word: _having(_entries(GROUP_OF[word], folders), having) for word in asked or GROUP_OF}
    if having and not any(listed.values()):
        problem = "no entry has these words in its name or description"
        raise KdrunError(f"kdrun list {' '.join(words)}", None, problem)
    listed = {word: group for word, group in listed.items() if group or not having}
    print(as_json(listed) if options.get("--format") == "json" else as_text(listed, width(), bool(having)))
    return 0


def _asked(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The lists that are asked for (`model` means `models`), and the words that their entries must have."""
    singular = {**{group: name for name, group in GROUP_OF.items()}, "key": "keys"}
    named = [singular.get(word, word) for word in words]
    searched = named[:1] == ["keys"]  # `list keys engine`: the keys of engines
    asked = named[:1] if searched else list(itertools.takewhile(LISTS.__contains__, named))
    having = [word.lower() for word in words[len(asked) :]]
    if having and (not asked or len(asked) > 1):
        raise KdrunError(f"kdrun list {words[len(asked)]}", None, "no such list", LISTS)
    if "keys" in asked and len(asked) > 1:
        raise KdrunError("kdrun list keys", None, "one list at a time")
    return asked, having


def _having(group: Iterable[Entry], words: Sequence[str]) -> list[Entry]:
    """The entries with all words in their names, else in their descriptions; resnet8 before resnet110."""

    def place(entry: Entry) -> tuple[bool, list[tuple[int, str]]]:
        return entry.path == Path(), natural(entry.name)

    entries = sorted(group, key=place)
    named = [entry for entry in entries if all(word in entry.name.lower() for word in words)]
    texts = {entry: f"{entry.name} {entry.description} {entry.extra}".lower() for entry in entries}
    return named or [entry for entry in entries if all(word in texts[entry] for word in words)]


def natural(name: str) -> list[tuple[int, str]]:
    """A key for sorting that compares numbers in names as numbers."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def _keys(words: Sequence[str], columns: int) -> str:
    """The keys with all words in name or comment, each with its default and comment."""
    from kdrun.config.keys import keys

    texts = {key: f"{key.name} {key.comment} {' '.join(key.of)}".lower() for key in keys()}
    fitting = [key for key, text in texts.items() if all(word in text for word in words)]
    if not fitting:
        problem = "no key has these words in its name or comment"
        raise KdrunError(f"kdrun list keys {' '.join(words)}", None, problem)
    lines = [f"keys ({len(fitting)})   KEY=VALUE; kdrun explain KEY"]
    for key in fitting:
        default = f"={key.default}" if key.default else ""
        of = f"  ({', '.join(key.of)})" if key.of else ""
        head = textwrap.shorten(f"{key.name}{default}{of}", columns - 2, placeholder=" ...")
        lines += [f"  {head}", *([hung(" " * 6, key.comment, columns)] if key.comment else [])]
    return "\n".join(lines)


def _entries(group: str, folders: Sequence[Path]) -> Iterator[Entry]:
    for folder in folders:
        yield from (entry._replace(name=plain(entry.name)) for entry in entries(folder, group))
    if group == "model":
        for library, names in zip(LIBRARIES, (torchvision_names(), timm_names()), strict=True):
            yield from (Entry(group, name, "", library, Path()) for name in names)


def as_json(listed: dict[str, list[Entry]]) -> str:
    """A list of `{list, name, description, extra}`; with `needs` and `adds` for methods and losses, and with
    `step` for methods.
    """
    rows = []
    for word, group in listed.items():
        for entry in group:
            row = {"list": word, "name": entry.name, "description": entry.description, "extra": entry.extra}
            costs = {"needs": list(entry.needs), "adds": entry.adds, "step": entry.step}
            rows.append(row | {key: costs[key] for key in COSTS.get(word, ())})
    return json.dumps(rows, indent=2)


def as_text(listed: dict[str, list[Entry]], columns: int, filtered: bool = False) -> str:
    """A line for each entry: name, costs, description, extra, needs; torchvision's models as a block."""
    blocks = []
    for word, group in listed.items():
        use = USE.get(word, f"{GROUP_OF[word]}=NAME")
        described = [entry for entry in group if entry.path != Path()]
        lines = [f"{word}   {use}", *_legend(word, columns), *_table(described, columns)]
        bare = {
            name: [entry.name for entry in group if entry.extra == name and entry.path == Path()]
            for name in LIBRARIES
        }
        if names := bare["torchvision"]:
            lines += ["", f"models of torchvision ({len(names)}), all with pretrained weights"]
            lines.append(hung("  ", ", ".join(names), columns - 2))
        names = bare["timm"]
        if word == "models" and not filtered:
            hint = f"({len(names):,}): timm/NAME or timm/NAME.TAG; --format json names all"
            lines += ["", f"models of timm {hint if names else ': pip install kdrun[timm]'}"]
        elif names:
            lines += ["", f"models of timm ({len(names):,})", hung("  ", ", ".join(names), columns - 2)]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _legend(word: str, columns: int) -> Iterator[str]:
    """The meaning of the columns of costs."""
    if word in COSTS:
        meanings = "; ".join(f"{key}: {MEANING[key]}" for key in COSTS[word] if key in MEANING)
        yield hung("  ", f"{meanings} ({' -> '.join(PAIR)}, 100 classes)", columns)


def _table(group: Sequence[Entry], columns: int) -> Iterator[str]:
    names = widest(entry.name for entry in group)
    costs = [_costs(entry) for entry in group]
    widths = {key: max((len(cost[key]) for cost in costs), default=0) for key in MEANING}
    shown = {key: max(wide, len(key)) for key, wide in widths.items() if wide}
    if shown:
        yield f"  {'':{names}}" + "".join(f"  {key:>{wide}}" for key, wide in shown.items())
    for entry, cost in zip(group, costs, strict=True):
        extra = f"  ({entry.extra})" if entry.extra not in ("", "-") else ""
        needs = f"; needs {', '.join(entry.needs)}" if entry.needs else ""
        before = f"  {padded(entry.name, names)}" + "".join(
            f"  {cost[key]:>{wide}}" for key, wide in shown.items()
        )
        if cell_len(before) + 2 > columns - DESCRIPTION:
            yield before.rstrip()
            before = " " * 4
        yield hung(f"{before}  ", f"{entry.description}{extra}{needs}", columns).rstrip()


def _costs(entry: Entry) -> dict[str, str]:
    step = "" if entry.step is None else f"x {entry.step:.2f}"
    return {"step": step, "adds": short(entry.adds) if entry.adds else ""}
