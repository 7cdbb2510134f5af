"""What was aimed at, and whether it was reached."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from tests.bench.ratios import Spread

VIEWS = 162
"""Of an image that is cropped from a border of 4 pixels, mirrored or not."""


class Target(NamedTuple):
    """figure: what it is measured as. least: `most` where a low figure is the aim."""

    case: str
    figure: str
    least: float = 0.0
    most: float = 0.0


TARGETS = (
    Target("r56->r20, fp32, teacher live", "resnet56-resnet20 live", 1.3),
    Target("r56->r20, fp32, table warm", "resnet56-resnet20 table_warm", 2.3),
    Target("r56->r20, first 240-epoch run, table filled on the way", "resnet56-resnet20 first_run", 1.5),
    Target("r32x4->r8x4, fp32, teacher live", "resnet32x4-resnet8x4 live", 1.2),
    Target("r32x4->r8x4, fp32, table warm", "resnet32x4-resnet8x4 table_warm", 3.0),
    Target(
        "r32x4->r8x4, first 240-epoch run, table filled on the way", "resnet32x4-resnet8x4 first_run", 1.65
    ),
    Target("r56->r20, bf16 on a CPU that has it, table warm", "resnet56-resnet20 bf16_warm", 3.5),
    Target("r32x4->r8x4, bf16 on a CPU that has it, table warm", "resnet32x4-resnet8x4 bf16_warm", 5.5),
    Target("tiny, one run, convolutions", "tiny conv one", 1.2),
    Target("tiny, one run, MLP", "tiny mlp one", 1.2),
    Target("tiny, 10 runs together, MLP", "tiny mlp 10", 8.0),
    Target("tiny, 10 runs together, convolutions", "tiny conv 10", 2.2),
    Target("tiny, 30 runs together, MLP", "tiny mlp 30", 14.0),
    Target("start to first step, CPU seconds", "start", most=2.6),
    Target(
        "GPU, r32x4->r8x4, 240 epochs, table warm, minutes",
        "resnet32x4-resnet8x4 table_warm minutes",
        most=2.5,
    ),
    Target("GPU, the same in fp32", "resnet32x4-resnet8x4 fp32_warm minutes", most=3.5),
    Target("GPU, the first such run, in bf16", "resnet32x4-resnet8x4 first_run minutes", most=3.2),
    Target("cost over epochs, log-log slope", "growth epochs", most=1.05),
    Target("cost over images, log-log slope", "growth images", most=1.05),
    Target("cost over students, log-log slope", "growth students", most=1.05),
)


def lines(figures: Mapping[str, Spread]) -> list[str]:
    """One for each target that was measured: met or missed by the median, with the range."""
    return [_line(target, figures[target.figure]) for target in TARGETS if target.figure in figures]


def _line(target: Target, found: Spread) -> str:
    met = found.median <= target.most if target.most else found.median >= target.least
    aim = f"at most {target.most:g}" if target.most else f"at least {target.least:g}"
    return f"{'met' if met else 'MISSED':6} {target.case}: {found} (aim: {aim})"


def computed_share(epochs: int) -> float:
    """Of all answers that a training needs, the part that the teacher is asked for: each view once."""
    seen = VIEWS * (1 - (1 - 1 / VIEWS) ** epochs)
    return seen / epochs
