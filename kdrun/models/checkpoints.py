"""Torch files of weights, also of other tools: read without executing anything in them.

A state dict is found in the usual containers. Settings that tools save beside it are passed over.
"""

from __future__ import annotations

import errno
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdrun.errors import KdrunError

CONTAINERS = (
    *("state_dict", "model_state_dict", "model", "net", "network", "weights", "params"),
    *("student", "state_dict_ema", "model_ema", "ema"),
)
"""Where tools keep the state dict in a checkpoint, the likeliest first."""

DEPTH = 3
"""So many containers may lie one in another."""

HARMLESS = ("argparse", "numpy", "pathlib", "datetime", "types", "omegaconf", "typing", "collections")
"""Packages whose objects people save along with weights. Nothing of theirs is called: each becomes Inert."""

UNKNOWN = re.compile(r"GLOBAL (\S+) was not an allowed global|GLOBAL (\S+) whose module")


class Inert:
    """Stands in a checkpoint for an object of HARMLESS."""

    def __new__(cls, *_: Any, **__: Any) -> Inert:
        return object.__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


class NotPlain(ValueError):
    """A file holds an object of a class that is not read. `args[0]`: its name."""


def load_plain(path: Path) -> Any:
    """The content of a torch file: tensors, plain values, and Inert. Raises OSError where it may not be read,
    NotPlain for objects of other classes, and ValueError for what is damaged or no such file.
    """
    if _damaged_records(path):
        raise ValueError("damaged")
    names: list[str] = []
    while True:
        try:
            return _load(path, names)
        except pickle.UnpicklingError as error:
            match = UNKNOWN.search(str(error))
            if match is None:
                raise ValueError("damaged") from error
            name = match[1] or match[2]
            if name.partition(".")[0] not in HARMLESS or name in names:
                raise NotPlain(name) from error
            names.append(name)
        # torch raises anything from IndexError to AssertionError for files that are none
        except Exception as error:
            if isinstance(error, OSError) and error.errno == errno.EIO:
                raise
            raise ValueError("damaged") from error


def _load(path: Path, names: Iterable[str]) -> Any:
    stand_ins: list[Any] = [(Inert, name) for name in names]
    with torch.serialization.safe_globals(stand_ins), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of other pickle protocols
        return torch.load(path, map_location="cpu", weights_only=True)


def _damaged_records(path: Path) -> bool:
    """Whether checksums in a file are wrong, which torch does not look at; not in a file without any."""
    with path.open("rb") as file:
        try:
            if not zipfile.is_zipfile(file):
                return False
            with zipfile.ZipFile(file) as records:
                right = [_is_right(records, each) for each in records.infolist()]
        except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, EOFError):
            return True
    return not all(right) and any(right)


def _is_right(records: zipfile.ZipFile, record: zipfile.ZipInfo) -> bool:
    try:
        with records.open(record) as content:
            while content.read(1 << 20):
                pass
    except zipfile.BadZipFile:
        return False
    return True


def state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    """The mapping of names to tensors in a checkpoint. Raises KdrunError that says what there is instead."""
    inner = content
    for _ in range(DEPTH):
        if not isinstance(inner, Mapping):
            break
        tensors = {str(name): value for name, value in inner.items() if isinstance(value, Tensor)}
        container = next((name for name in CONTAINERS if isinstance(inner.get(name), Mapping)), None)
        if tensors and container is None:
            return tensors
        if container is None:
            break
        inner = inner[container]
    problem = f"holds no state dict (a mapping of names to tensors){_instead(content)}"
    raise KdrunError("checkpoint", str(path), problem)


def _instead(content: Any) -> str:
    if isinstance(content, Mapping):
        names = [str(name) for name in content][:5]
        return f", but {', '.join(names)}{' ...' if len(content) > len(names) else ''}" if names else ""
    return f", but a {type(content).__name__}"
