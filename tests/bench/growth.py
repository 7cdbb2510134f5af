"""How the cost of a training grows with epochs, images and students: in proportion, or it is a fault."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from kdrun.machine import keep_memory
from tests.bench import record
from tests.bench.ratios import Spread, slope
from tests.bench.rounds import Spent
from tests.bench.scene import ADAMW, BATCH, Scene, at_random, plan, settle

SIZES: Mapping[str, Sequence[int]] = {
    "epochs": (4, 8, 16, 32),
    "images": (16 * BATCH, 64 * BATCH, 256 * BATCH, 1024 * BATCH),
    "students": (1, 2, 4, 8, 16),
}
LEAST = {"epochs": 2, "images": 16 * BATCH, "students": 1}
"""What the other two are while one grows."""


def measure(
    repeats: int, device: str, threads: int, folder: Path, out: Path, say: Callable[[str], None]
) -> dict[str, Spread]:
    """Prints a curve each with its slope, the least cost of the repeats at each size. Returns the slopes."""
    keep_memory()
    where, found = record.conditions(device, threads), {}
    clock = "cpu" if device == "cpu" and threads == 1 else "wall"
    for grows, sizes in SIZES.items():
        costs: dict[int, list[Spent]] = {size: [] for size in sizes}
        for repeat in range(repeats):
            for size in sizes if repeat % 2 == 0 else reversed(sizes):
                place = folder / f"{grows}-{size}-{repeat}"
                costs[size].append(_cost(_scene(grows, size, place, device, threads), _count(grows, size)))
        least = [min(getattr(one, clock) for one in costs[size]) for size in sizes]
        power = slope(sizes, least)
        curve = ", ".join(f"{size}: {cost:.2f} s" for size, cost in zip(sizes, least, strict=True))
        say(f"{grows:9} slope {power:.2f} | {curve} ({clock})")
        runs = {str(size): [one._asdict() for one in spent] for size, spent in costs.items()}
        record.write(
            out, "growth", grows, {"slope": power, "clock": clock, "runs": runs, "environment": where}
        )
        found[f"growth {grows}"] = Spread(power, power, power)
    return found


def _count(grows: str, size: int) -> int:
    return size if grows == "students" else LEAST["students"]


def _scene(grows: str, size: int, folder: Path, device: str, threads: int) -> Scene:
    now = LEAST | {grows: size}
    data = at_random(now["images"], classes=10, size=8, channels=1)
    scene = Scene(
        "cnn_digits", "cnn_digits_small", now["images"], now["epochs"], data, "random 8x8 images", folder
    )
    return replace(scene, recipe=ADAMW, device=device, threads=threads)


def _cost(scene: Scene, students: int) -> Spent:
    """Of training so many students together, each with a seed of its own, a new table filled on the way."""
    from rich.console import Console

    from kdrun.progress.screen import screen
    from kdrun.progress.watchers import Observers
    from kdrun.stages.make import make_group

    settle(scene)
    trainings = [plan([*scene.taught(), f"seed={seed}"]).student for seed in range(students)]
    cpu, wall = time.process_time(), time.perf_counter()
    make_group(trainings, Observers(screen(Console(quiet=True))))
    return Spent(time.process_time() - cpu, time.perf_counter() - wall, 0.0, 0.0)
