"""The names of the classes that a file of weights states, and how they differ from those of a data set."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from kdrun.models.checkpoints import NotPlain, load_plain

BY_NUMBER = ("classes", "class_names", "labels", "label_names", "id2label", "idx_to_class")
"""Where tools keep the names in the order of the outputs: a list, or a mapping from number to name."""

BY_NAME = ("class_to_idx", "label2id")
"""Where they keep a mapping from name to number."""

AROUND = ("meta", "metadata", "hyper_parameters", "hparams", "args", "config")
"""What such a list may lie in."""

NUMBERED = re.compile(r"(\D*?)0*(\d{1,9})", re.ASCII)
"""A name that is a number, perhaps behind a word."""

SHOWN = 3
"""How many classes are named."""


def stated_classes(file: Path) -> tuple[str, ...]:
    """The names of the classes, in the order of the outputs, that a file of weights states, if it does."""
    try:
        if file.suffix != ".safetensors":
            content = load_plain(file)
            return _names(content) if isinstance(content, Mapping) else ()
        with safe_open(file, framework="pt") as opened:
            return _names({key: _plain(text) for key, text in (opened.metadata() or {}).items()})
    except (OSError, SafetensorError, NotPlain, ValueError):
        return ()


def _plain(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _names(content: Mapping[Any, Any]) -> tuple[str, ...]:
    """The first list of names in a checkpoint, or in what tools put around it."""
    around = [content[key] for key in AROUND if isinstance(content.get(key), Mapping)]
    for each in (content, *around):
        for key in BY_NUMBER:
            if names := _by_number(each.get(key)):
                return names
        for key in BY_NAME:
            numbers = each.get(key)
            if isinstance(numbers, Mapping):
                turned = {number: name for name, number in numbers.items() if isinstance(number, int)}
                if names := _by_number(turned):
                    return names
    return ()


def _by_number(names: Any) -> tuple[str, ...]:
    """A list of names, or a mapping from 0, 1, 2 ... to names, as JSON has them or not."""
    if isinstance(names, Mapping):
        numbered = {str(number): name for number, name in names.items()}
        names = [numbered.get(str(number)) for number in range(len(numbered))]
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        return ()
    return tuple(names)


def moved(stated: Sequence[str], here: Sequence[str]) -> bool:
    """Whether a class of the data set is another output of the model: the model would be misread."""
    there = {_alike(name) for name in stated}
    return any(_alike(a) != _alike(b) and _alike(b) in there for a, b in zip(stated, here, strict=False))


def renamed(stated: Sequence[str], here: Sequence[str]) -> list[tuple[str, str]]:
    """The pairs (of the file, of the data set) of other names for one output; none if a side only numbers."""
    if len(stated) != len(here) or _numbered(stated) or _numbered(here):
        return []
    return [pair for pair in zip(stated, here, strict=True) if _alike(pair[0]) != _alike(pair[1])]


def _numbered(names: Sequence[str]) -> bool:
    """Whether names say no more than the number of an output: `3`, `class 3`, `LABEL_3`, from 0 or from 1."""
    found = [NUMBERED.fullmatch(name.strip()) for name in names]
    parts = [(match[1], int(match[2])) for match in found if match is not None]
    first = parts[0] if parts else ("", -1)
    return first[1] in (0, 1) and parts == [(first[0], first[1] + place) for place in range(len(names))]


def differences(stated: Sequence[str], here: Sequence[str]) -> str:
    """How the classes of a file differ from those of the data set, by name; empty if they are the same."""
    pairs = list(zip(stated, here, strict=False))
    other = [number for number, pair in enumerate(pairs) if _alike(pair[0]) != _alike(pair[1])]
    if len(stated) != len(here) or not other:
        return ""
    first = ", ".join(f"class {n} is {stated[n]} there and {here[n]} here" for n in other[:SHOWN])
    text = f"its classes are {_which(stated, here)}: {first}"
    return text + (f", and {len(other) - SHOWN} more" if len(other) > SHOWN else "")


def _which(stated: Sequence[str], here: Sequence[str]) -> str:
    there, ours = {_alike(name) for name in stated}, {_alike(name) for name in here}
    if there == ours:
        return "in another order"
    foreign = [name for name in stated if _alike(name) not in ours]
    absent = [name for name in here if _alike(name) not in there]
    return f"other ones (it has {_listed(foreign)}, the data set {_listed(absent)})"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (" ..." if len(names) > SHOWN else "")


def _alike(name: str) -> str:
    """A name without what people write in two ways."""
    return name.strip().casefold().replace("_", " ").replace("-", " ")
