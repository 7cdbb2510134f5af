"""One thread: tensors here are tiny, and threads that wait for one another take most of the time."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True, scope="module")
def on_one_thread(one_thread: None) -> None:
    """All tensors here are tiny."""
