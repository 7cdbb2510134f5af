"""What pulls at the student: the gradient of every weighted term, on a fixed batch after an epoch.

Nothing of the training is touched: model and mix are in evaluation mode meanwhile (so dropout is off, and
batch norm uses its running statistics), random numbers are put back, and `.grad` stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from kdrun.evaluation.eval_mode import evaluating
from kdrun.losses.cross_entropy import cross_entropy
from kdrun.training.plan import Drawing
from kdrun.training.seeds import generator, global_seed
from kdrun.training.step import Images, Learner
from kdrun.types import UNLABELLED, Batch, Outputs, Rows

ROWS = 64
"""Images of the fixed batch, or as many as there are."""


def fixed_batch(images: Images, labels: Tensor, rows: Tensor, views: Drawing, seed: int) -> Batch:
    """At most 64 of the rows that a run sees, in drawn views: those with a label first.

    labels: (N,) int64 of the whole training part, on the device. rows: (R,) int64.
    """
    draw = generator(seed, "gradients")
    order = rows[torch.randperm(len(rows), generator=draw)].to(labels.device)
    unlabelled = (labels[order] == UNLABELLED).to(torch.int8)
    index = order[unlabelled.argsort(stable=True)][:ROWS]
    chosen = Rows(index, views.draw(draw, len(index)).to(labels.device))
    return Batch(images(chosen), labels[index], chosen)


class Gradients:
    """Called after an epoch; gives `{term: {norm, cosine}}`.

    norm: of the weighted term's gradient with respect to the student's parameters. cosine: of the angle
    between it and the gradient of plain cross-entropy on the labelled images; absent where one is zero.
    teacher: images (N, C, H, W) -> Outputs, who is asked about the batch; None where no term asks.
    """

    def __init__(
        self,
        learner: Learner,
        batch: Batch,
        teacher: nn.Module | None,
        precision: Callable[[], torch.autocast],
        seed: int,
    ) -> None:
        self.learner, self.batch, self.precision, self.seed = learner, batch, precision, seed
        self.teacher = teacher

    def __call__(self) -> dict[str, dict[str, float]]:
        mix = self.learner.mix
        with evaluating(self.learner.model), evaluating(mix), global_seed(self.seed, "gradients"):
            told = self._told()
            with self.precision():
                student = self.learner.ask(self.batch.images)
            with torch.autocast(self.batch.images.device.type, enabled=False):
                values = [term.loss(student, told, self.batch) for term in mix.terms]
                labels = cross_entropy(student.logits, self.batch.labels)
            reference, *gradients = self._flat([labels, *values])
        weights: list[float] = mix.weights.tolist()
        described = (_described(g, w, reference) for g, w in zip(gradients, weights, strict=True))
        return dict(zip(mix.names, described, strict=True))

    def _told(self) -> Outputs:
        if self.teacher is None:
            return Outputs(self.batch.images.new_empty((len(self.batch.images), 0)))
        with evaluating(self.teacher), torch.no_grad(), self.precision():
            said: Outputs = self.teacher(self.batch.images)
        return said

    def _flat(self, values: list[Tensor]) -> list[Tensor]:
        """The gradient of each value as one vector, in float64 on the CPU."""
        parameters = [p for p in self.learner.model.parameters() if p.requires_grad]
        found = []
        for value in values:
            parts: tuple[Tensor | None, ...] = (None,) * len(parameters)
            if value.requires_grad:
                parts = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
            whole = [torch.zeros_like(p) if g is None else g for g, p in zip(parts, parameters, strict=True)]
            found.append(torch.cat([part.flatten() for part in whole]).to("cpu", torch.float64))
        return found


def _described(gradient: Tensor, weight: float, reference: Tensor) -> dict[str, float]:
    norm, other = gradient.norm().item(), reference.norm().item()
    found = {"norm": float(f"{weight * norm:.6g}")}
    if norm > 0 and other > 0:
        found["cosine"] = round(torch.dot(gradient, reference).item() / (norm * other), 4)
    return found
