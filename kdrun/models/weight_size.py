"""Refuses a model whose weights do not fit into memory, before any is allocated."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import nn

from kdrun.errors import KdrunError
from kdrun.figures import as_typed, file_size
from kdrun.resources import free_memory

LARGE = 4096
"""Models with no larger number among their arguments are small. Torch's meta device, on which others are
tried, imports the compiler when it is first used.
"""


def refuse_huge(make: Callable[[], nn.Module], args: Mapping[str, Any], key: str) -> None:
    """Raises KdrunError below `key` for arguments that ask for more weights than there is free memory.

    make: builds the model.
    """
    largest = {name: max(_numbers(value), default=0) for name, value in args.items()}
    name = max(largest, key=lambda name: largest[name], default="")
    free = free_memory()
    if not name or largest[name] <= LARGE or free is None:
        return
    needed = 0
    with suppress(Exception), torch.device("meta"):  # the real building fails too, and says why
        needed = sum(weight.numel() * weight.element_size() for weight in make().parameters())
    if needed > free:
        problem = f"the weights alone would take {file_size(needed)}; {file_size(free)} are free"
        raise KdrunError(f"{key}.{name}", as_typed(args[name]), problem)


def _numbers(value: Any) -> Iterator[float]:
    for each in value if isinstance(value, (list, tuple)) else [value]:
        if isinstance(each, (int, float)):
            yield each
