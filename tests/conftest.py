"""What every test may rely on: the packages of a user that one test writes are not found by the next."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: workers share the cores, and threads spin


@pytest.fixture(autouse=True)
def no_packages_left_behind() -> Iterator[None]:
    """Takes folders and packages called `mine` off Python's lists again, where kdrun has put them."""
    before = list(sys.path)
    forget()
    yield
    sys.path[:] = before
    forget()


def forget() -> None:
    """As if a user's package had not been imported."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "mine"]:
        del sys.modules[name]
    importlib.invalidate_caches()
