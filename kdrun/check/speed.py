"""The training speed of this machine, from timed steps of resnet20 on 32x32 images."""

from __future__ import annotations

import time
from collections.abc import Iterator
from statistics import median

import torch
from torch.nn.functional import cross_entropy

from kdrun.evaluation.cost import macs
from kdrun.machine import Machine, machine, threads_for, torch_threads
from kdrun.models.build import build
from kdrun.training.seeds import kept_generators

SHAPE, BATCH, CLASSES = (3, 32, 32), 64, 10
BACKWARD = 3
"""A training step costs about this many forward passes: one, and two for the gradients."""

WARM_UP, SECONDS = 2, 1.0


def training_speed() -> tuple[str, float]:
    """The device of `device=auto`, and its multiply-accumulates per second in training."""
    place = machine("auto", "fp32", "auto")
    node = {
        "name": "resnet20",
        "family": "cifar_resnet",
        "args": {"depth": 20, "stem_width": 16, "widths": [16, 32, 64]},
    }
    model = build(node, CLASSES, SHAPE, "none", seed=0).model.to(place.device)
    work = BACKWARD * macs(model, SHAPE) * BATCH
    threads = place.threads or threads_for(work)
    with torch_threads(threads), kept_generators():
        return place.device.type, work / median([*_steps(model, place)][WARM_UP:])


def _steps(model: torch.nn.Module, place: Machine) -> Iterator[float]:
    """The seconds of each step: at least WARM_UP + 1 steps, and SECONDS in all."""
    images = torch.randn(BATCH, *SHAPE, device=place.device)
    labels = torch.zeros(BATCH, dtype=torch.long, device=place.device)
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    spent, count = 0.0, 0
    while count <= WARM_UP or spent < SECONDS:
        began = time.perf_counter()
        optimiser.zero_grad()
        cross_entropy(model(images), labels).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if place.device.type == "cuda":
            torch.cuda.synchronize(place.device)
        took = time.perf_counter() - began
        spent, count = spent + took, count + 1
        yield took
