"""How long work takes on a device, and how much memory."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from kdrun.training.captured import Captured
from tests.gpu.bench import Bench
from tests.gpu.world import Arm, World


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


def measured(bench: Bench, arm: Arm, seeds: Sequence[int] = (0,)) -> dict[str, Any]:
    """Milliseconds of a step, the median of rounds, and how it was done."""
    scale, row = bench.scale, dict[str, Any](arm=arm.name)
    with memory(bench, row):
        world = World(bench, arm, seeds)
        row["warm_s"] = timed(bench, lambda: world.steps(scale.warm, stay=True))
        if arm.teacher == "table":  # from then on all rows of the epoch are found
            row["fill_s"] = timed(bench, lambda: world.steps(world.plans[0].steps, stay=True))
        rounds = [timed(bench, lambda: world.steps(scale.steps, stay=True)) for _ in range(scale.rounds)]
    world.teacher.close()
    row["rounds_ms"] = [1e3 * seconds / scale.steps for seconds in rounds]
    row["ms"] = statistics.median(row["rounds_ms"])
    if arm.graph:
        step = world.step
        row |= {"graph": isinstance(step, Captured) and not step.failed, "said": " ".join(world.said)}
    elif bench.cuda:
        row["kernels"] = kernels(world)
    bench.say(f"   {arm.name:42} {row['ms']:9.3f} ms/step  {' '.join(world.said)}")
    return row


def kernels(world: World) -> int:
    """How many a step launches when it is not captured."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        world.steps(1, stay=True)
        wait(world.bench)
    return sum(event.count for event in profile.key_averages() if not event.key.startswith(("Mem", "cuda")))
