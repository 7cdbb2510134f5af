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
    with kept_generators():
        if torch.cuda.is_available() or torch.backends.mps.is_available():
            torch.manual_seed(derived(seed, purpose))
        else:  # there it would note a stack of calls for each kind of GPU
            torch.default_generator.manual_seed(derived(seed, purpose))
        yield


@contextmanager
def kept_generators() -> Iterator[None]:
    """After the block the global generators are as they were: of the CPU, and of the GPU that is used."""
    with torch.random.fork_rng(gpus_in_use(), enabled=True):
        yield


def gpus_in_use() -> list[int]:
    """The GPU of this process, if it has used one. The others are not touched, which would start them."""
    used = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return [torch.cuda.current_device()] if used else []


class Draws:
    """One training's own random numbers: within the block the global generators (of the CPU and of the GPU
    that is used) continue from its `state`.
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
    return {"cpu": torch.get_rng_state(), "cuda": [torch.cuda.get_rng_state(n) for n in gpus_in_use()]}


def set_generators(states: dict[str, Any]) -> None:
    """Restores states that `generators` returned."""
    torch.set_rng_state(states["cpu"])
    for number, state in zip(gpus_in_use(), states["cuda"], strict=False):
        torch.cuda.set_rng_state(state, number)
