"""Students of a thousand parameters on 8x8 images, where a step is mostly calls: one, and many together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.bench.arms import CPU, RIVALS, Kind
from tests.bench.ratios import Spread, ratios
from tests.bench.scene import ADAMW, BATCH, TAIL, Scene, at_random
from tests.bench.steps import measure as rounds_of

STEPS = 64

PAIRS = {
    "conv": ("cnn_digits", "cnn_digits_small", ()),
    "mlp": ("mlp", "mlp", ("student.args.widths=[12]",)),
}
"""Teacher, student and its size."""

MANY = {"conv": (10,), "mlp": (10, 30)}
"""How many at once."""


def measure(
    rounds: int, device: str, folder: Path, out: Path, say: Callable[[str], None]
) -> dict[str, Spread]:
    """Compares with the textbook's loop, on ready tensors and as it is. Returns the former's figures."""
    figures: dict[str, Spread] = {}
    for name in PAIRS:
        now = scene(name, rounds + 1, device, folder)
        cost = rounds_of(now, _kinds(MANY[name]), rounds, f"tiny-{name}", out, say)
        for count in MANY[name]:
            figures[f"tiny {name} {count}"] = ratios(cost["tensors"], cost[f"temperatures_{count}"])
        figures[f"tiny {name} one"] = ratios(cost["tensors"], cost["table_warm"])
    return figures


def scene(name: str, epochs: int, device: str, folder: Path) -> Scene:
    """Of a pair."""
    teacher, student, size = PAIRS[name]
    images = STEPS * BATCH + TAIL
    data = (*at_random(images, classes=10, size=8, channels=1), *size)
    made = Scene(teacher, student, images, epochs, data, "random 8x8 images", folder / name)
    return replace(made, recipe=ADAMW, device=device)


def _kinds(many: tuple[int, ...]) -> dict[str, Kind]:
    found = {
        "tensors": Kind("the textbook's loop on ready tensors", ("rivals.Tensors", {})),
        "textbook": RIVALS["textbook"],
        "table_warm": CPU["table_warm"],
    }
    for count in many:
        for key, values in (("seed", range(count)), ("temperature", [1 + n / 4 for n in range(count)])):
            arguments = {"name": f"{key}s_{count}", "runs": [[f"{key}={value}"] for value in values]}
            found[f"{key}s_{count}"] = _together(f"{count} students that differ in {key}", arguments)
    return found


def _together(note: str, arguments: dict[str, Any]) -> Kind:
    return Kind(note, ("ours.Whole", {**arguments, "filled": True}), True, len(arguments["runs"]))
