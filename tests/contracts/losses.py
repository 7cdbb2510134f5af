"""Every loss of conf/loss with its defaults, and outputs of two models for it, for tests over all losses."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from kdrun.errors import KdrunError
from kdrun.losses.base import Loss
from kdrun.losses.mix import Mix, Term, make_mix
from kdrun.schedule import Schedule
from kdrun.types import POOLED, Batch, HeadWeights, Outputs, Rows, Shapes

CONF = Path(__file__).parents[2] / "conf"
LOSSES = sorted(path.stem for path in (CONF / "loss").glob("*.yaml"))
IMAGES = 40
STUDENT = ((4, 8, 8), (4, 8, 8), (6, 4, 4), (8, 2, 2))
TEACHER = ((6, 8, 8), (6, 8, 8), (8, 4, 4), (12, 2, 2))


def node(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((CONF / "loss" / f"{name}.yaml").read_text())
    return loaded


def shapes(maps: tuple[tuple[int, ...], ...], classes: int) -> Shapes:
    layers = {"logits": (classes,), "embedding": (maps[-1][0],)}
    layers |= {f"stage:{i}{at}": size for at in ("", "@pre") for i, size in enumerate(maps)}
    layers[POOLED] = maps[-1]
    return Shapes(layers, len(maps), (classes, maps[-1][0]))


def made(name: str, classes: int = 7, seed: int = 0) -> tuple[Loss, Shapes, Shapes]:
    """The loss with its defaults, built for a student and a larger teacher, or for equal models."""
    mix = make_mix({"term": node(name) | {"weight": 1.0}})
    mix.advance(10)
    loss = mix.terms[0].loss
    student, teacher = shapes(STUDENT, classes), shapes(TEACHER, classes)
    torch.manual_seed(seed)
    try:
        loss.build(student, teacher, IMAGES)
    except KdrunError as error:
        assert "\n" not in str(error)
        loss.build(student, student, IMAGES)
        teacher = student
    return loss, student, teacher


def outputs(what: Shapes, rows: int, seed: int, dtype: torch.dtype = torch.float64) -> Outputs:
    generator = torch.Generator().manual_seed(seed)

    def draw(name: str) -> Tensor:
        values = torch.randn(rows, *what.layer(name), generator=generator, dtype=torch.float64)
        return (values.relu() if name.startswith("stage") and "@" not in name else values).to(dtype)

    stages = tuple(draw(f"stage:{i}") for i in range(what.stages))
    pre = {f"stage:{i}@pre": draw(f"stage:{i}@pre") for i in range(-what.stages, what.stages)}
    embedding = stages[-1].mean((2, 3))  # as in models whose head reads the mean of the last map
    assert what.classifier is not None
    weight = torch.randn(*what.classifier, generator=generator, dtype=torch.float64).to(dtype)
    return Outputs(draw("logits"), embedding, stages, pre | {POOLED: stages[-1].clone()}, HeadWeights(weight))


def both(student: Shapes, teacher: Shapes, dtype: torch.dtype = torch.float64) -> tuple[Outputs, Outputs]:
    """Six rows of each."""
    return outputs(student, 6, 1, dtype), outputs(teacher, 6, 2, dtype)


def batch(rows: int, classes: int = 7, labelled: bool = True) -> Batch:
    labels = torch.arange(rows) % classes if labelled else torch.full((rows,), -1)
    where = torch.arange(rows) * 3 + 1
    return Batch(torch.zeros(rows, 3, 8, 8), labels, Rows(where, torch.zeros_like(where)))


def leaves(given: Outputs) -> list[Tensor]:
    assert given.embedding is not None
    assert given.classifier is not None
    some = [given.logits, given.embedding, *given.layers.values(), given.classifier.weight]
    return [*some, *(stage for stage in given.stages if stage is not None)]


def returned(loss: Loss, student: Outputs, teacher: Outputs, given: Batch) -> Tensor:
    """What a copy of the loss returns, so that neither its state nor earlier draws count."""
    torch.manual_seed(11)
    result: Tensor = copy.deepcopy(loss)(student, teacher, given)
    return result


def value(loss: Loss, student: Outputs, teacher: Outputs, given: Batch) -> Tensor:
    """The same as one number, as a mix makes it."""
    torch.manual_seed(11)
    term = Term("term", copy.deepcopy(loss), Schedule(1.0, 1.0))
    return Mix([term]).value(term, student, teacher, given)


def taken(given: Outputs, rows: Tensor) -> Outputs:
    """Some rows of the outputs, in that order."""
    return Outputs(
        given.logits[rows],
        None if given.embedding is None else given.embedding[rows],
        tuple(None if stage is None else stage[rows] for stage in given.stages),
        {name: layer[rows] for name, layer in given.layers.items()},
        given.classifier,
    )


def taken_batch(given: Batch, rows: Tensor) -> Batch:
    return Batch(given.images[rows], given.labels[rows], given.rows and given.rows.at(rows))
