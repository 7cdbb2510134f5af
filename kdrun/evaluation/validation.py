"""The scores of a model on the same images, after every epoch of its training."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdrun.eval_mode import evaluating
from kdrun.evaluation.accuracy import correct, halved, joined
from kdrun.graphs import Graphs
from kdrun.machine import widest
from kdrun.types import UNLABELLED


class Validation:
    """A call returns the model's current `top1` in percent and `nll` in nats; empty if no image has a label.

    Nothing else is copied from the device.
    """

    def __init__(
        self,
        model: nn.Module,
        batches: Callable[[], Iterable[Tensor]],
        labels: Tensor,
        precision: Callable[[], AbstractContextManager[object]] = nullcontext,
        graphs: Graphs | None = None,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        """batches: returns those of a pass, (B, C, H, W) each. labels: (N,) int64, on the device. precision:
        returns the context in which the model runs. graphs: records a pass from the second on; None launches
        each piece by piece. say: receives a line if a pass cannot be recorded.
        """
        self.model, self.batches, self.labels, self.precision = model, batches, labels, precision
        self.graphs, self.say = graphs, say
        self.known = int((labels != UNLABELLED).sum())
        self.scores, self.passes = torch.zeros(2), 0
        self.launch: Callable[[], None] = self._pass

    def __call__(self) -> dict[str, float]:
        if not self.known:
            return {}
        if self.passes == 1 and self.graphs is not None:
            self._record(self.graphs)
        self.launch()
        self.passes += 1
        return dict(zip(("top1", "nll"), self.scores.tolist(), strict=True))

    def _record(self, graphs: Graphs) -> None:
        try:
            graphs.rehearse(self._pass)
            self.launch = graphs.record(self._pass)
        except RuntimeError as error:
            reason = str(error).partition("\n")[0]
            self.say(f"graph   none, validation is launched piece by piece: {reason}")

    @torch.inference_mode()
    def _pass(self) -> None:
        with evaluating(self.model), self.precision():
            answers = (halved(self.model, images).float() for images in self.batches())
            logits = joined(answers, len(self.labels))
        right = correct(logits, self.labels.clamp(min=0)) & (self.labels != UNLABELLED)
        nll = F.cross_entropy(widest(logits), self.labels, ignore_index=UNLABELLED)
        self.scores = torch.stack((100.0 * (widest(right.sum()) / self.known), nll))
