"""Many values of one promise: some in every run of the tests, all in the long one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def sampled(values: Iterable[Any], every: int) -> list[Any]:
    """The values for `parametrize`, all but each `every`-th marked `long`. A tuple is several arguments."""
    return [
        pytest.param(
            *(value if isinstance(value, tuple) else (value,)),
            marks=[pytest.mark.long] if place % every else [],
        )
        for place, value in enumerate(values)
    ]
