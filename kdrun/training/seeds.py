"""Random numbers by purpose: each use draws from a generator of its own, keyed by (seed, purpose)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derived(seed: int, purpose: str, *more: int) -> int:
    """A seed in [0, 2^63) that depends on all of its arguments."""
    text = "/".join(map(str, (seed, purpose, *more)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, purpose: str, *more: int) -> torch.Generator:
    """A CPU generator for one purpose."""
    return torch.Generator().manual_seed(derived(seed, purpose, *more))


@contextmanager
def global_seed(seed: int, purpose: str) -> Iterator[None]:
    """The global generator, which layers use for initial weights and dropout, seeded; restored afterwards."""
    with torch.random.fork_rng():
        torch.manual_seed(derived(seed, purpose))
        yield
