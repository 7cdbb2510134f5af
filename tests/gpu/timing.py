"""How long work takes on a device, and how much memory."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from tests.gpu.bench import Bench
from tests.gpu.product import Arm, Steps


def wait(bench: Bench) -> None:
    """Until the device has done what it was given."""
    if bench.cuda:
        torch.cuda.synchronize(bench.device)


def timed(bench: Bench, act: Callable[[], Any], count: int = 1) -> float:
    """Seconds of doing it so often, until the device is done."""
    wait(bench)
    start = time.perf_counter()
    for _ in range(count):
        act()
    wait(bench)
    return time.perf_counter() - start


@contextmanager
def memory(bench: Bench, row: dict[str, Any]) -> Iterator[None]:
    """Notes the most memory that the block took, in MB, where that is known."""
    if bench.cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(bench.device)
    yield
    if bench.cuda:
        row["allocated_mb"] = round(torch.cuda.max_memory_allocated(bench.device) / 1e6)
        row["reserved_mb"] = round(torch.cuda.max_memory_reserved(bench.device) / 1e6)


def measured(bench: Bench, arm: Arm, seeds: Sequence[int] = (0,), rounds: int = 0) -> dict[str, Any]:
    """Milliseconds of a step, the median of rounds, and how it was done."""
    scale, row = bench.scale, dict[str, Any]()
    rounds, steps = rounds or scale.rounds, scale.steps
    with memory(bench, row), Steps(bench.product, arm, seeds) as world:
        row["warm_s"] = timed(bench, lambda: world.steps(scale.warm, stay=True))
        if arm.table:  # from then on all rows of the epoch are there
            world.steps(world.plans[0].steps, stay=True)
        took = [timed(bench, lambda: world.steps(steps, stay=True)) for _ in range(rounds)]
        row |= {"teacher": world.loop.teacher.kind, "graph": world.recorded}
        row["said"] = bench.product.lines.of("graph")
    row["rounds_ms"] = [1e3 * seconds / steps for seconds in took]
    return {"ms": statistics.median(row["rounds_ms"])} | row
