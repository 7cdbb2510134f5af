"""What every test may rely on: the packages of a user that one test writes are not found by the next, and
each choice of configuration files is composed once. And in which order files of tests begin.
"""

from __future__ import annotations

import gc
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: workers share the cores, and threads spin
os.environ.setdefault(
    "TORCH_CPP_LOG_LEVEL", "ERROR"
)  # before the server that tests fork from, whoever starts it


FIRST = ("stages", "commands", "gpu", "attack", "test_wheel.py")
"""Where long tests are. If one of these files began last, it would run alone beside idle workers."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    tests = Path(__file__).parent
    items.sort(key=lambda item: item.path.relative_to(tests).parts[0] not in FIRST)


def pytest_collection_finish() -> None:
    """What collecting made stays to the end, so Python need not search it for cycles again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """For tiny tensors: threads that wait for one another would take most of the time."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True, scope="session")
def composing_is_shared() -> Iterator[None]:
    if importlib.util.find_spec("hydra") is None:  # where only tests run that compose nothing
        yield
        return
    from tests.shared_composing import sharing

    with sharing():
        yield


@pytest.fixture(scope="module")
def hydra_composes_each() -> Iterator[None]:
    """For tests of composing itself."""
    from tests.shared_composing import not_sharing

    with not_sharing():
        yield


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
