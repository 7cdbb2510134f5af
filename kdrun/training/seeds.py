"""Random numbers by purpose: each use has its own generator, seeded by (seed, purpose)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

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


class Draws:
    """One training's own random numbers: within the block the global generators continue from its `state`.

    state: of the generators of the CPU and of all CUDA devices.
    """

    def __init__(self, seed: int, purpose: str) -> None:
        with global_seed(seed, purpose):
            self.state = generators()

    def __enter__(self) -> None:
        self.others = generators()
        set_generators(self.state)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.state = generators()
        set_generators(self.others)


def generators() -> dict[str, Any]:
    """The states of the global generators."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def set_generators(states: dict[str, Any]) -> None:
    """Restores states that `generators` returned."""
    torch.set_rng_state(states["cpu"])
    if states["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states["cuda"])
