"""`diagnostics=gradients`: how hard every weighted term pulls at the student after an epoch.

It is measured on a fixed batch, in evaluation mode. It does not change the training: random numbers are
restored and `.grad` is not written.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kdrun.losses.cross_entropy import CrossEntropy
from kdrun.losses.mix import Term
from kdrun.schedule import Schedule
from kdrun.training.plan import Drawing
from kdrun.training.pulls import Pull, pulls, undisturbed
from kdrun.training.seeds import generator
from kdrun.training.step import Images, Learner
from kdrun.training.teachers import Teacher, uncounted
from kdrun.types import UNLABELLED, Batch, Rows

ROWS = 64
"""The most images of the fixed batch."""

LABELS = Term("labels", CrossEntropy(), Schedule(1.0, 1.0))
"""The term whose direction the others are compared with: plain cross-entropy on the labelled images."""


def fixed_batch(images: Images, labels: Tensor, rows: Tensor, views: Drawing, seed: int) -> Batch:
    """At most ROWS rows of the training, those with a label first, in drawn views.

    labels: (N,) int64 of the whole training part, on the device. rows: (R,) int64.
    """
    draw = generator(seed, "gradients")
    order = rows[torch.randperm(len(rows), generator=draw)].to(labels.device)
    unlabelled = (labels[order] == UNLABELLED).to(torch.int8)
    index = order[unlabelled.argsort(stable=True)][:ROWS]
    chosen = Rows(index, views.draw(draw, len(index)).to(labels.device))
    return Batch(images(chosen), labels[index], chosen)


class Gradients:
    """Called after an epoch; returns `{term: {norm, cosine}}`.

    norm: of the weighted term's gradient with respect to the student's parameters. cosine: of the angle
    between it and the gradient of LABELS; absent if one of the two is 0.
    teacher: one that answers for any images, not only for those of the next step.
    """

    def __init__(self, learner: Learner, batch: Batch, teacher: Teacher, seed: int) -> None:
        self.learner, self.batch, self.teacher, self.seed = learner, batch, teacher, seed

    def __call__(self) -> dict[str, dict[str, float]]:
        mix = self.learner.mix
        with undisturbed(self.learner, self.seed), uncounted(self.teacher):
            teacher = self.teacher(self.batch)
            reference, *terms = pulls(self.learner, self.batch, teacher, [LABELS, *mix.terms])
        weights: list[float] = mix.weights.tolist()
        described = (_described(pull, weight, reference) for pull, weight in zip(terms, weights, strict=True))
        return dict(zip(mix.names, described, strict=True))


def _described(pull: Pull, weight: float, reference: Pull) -> dict[str, float]:
    norm, other = pull.norm(), reference.norm()
    figures = {"norm": float(f"{weight * norm:.6g}")}
    if norm > 0 and other > 0:
        figures["cosine"] = round(pull.dot(reference) / (norm * other), 4)
    return figures
