"""The input of an evaluator: all models, their answers, and the records of their trainings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor, nn

from kdrun.evaluation.figure import Figure
from kdrun.types import MISSING


class Answers(NamedTuple):
    """One model's answers to the images of one part.

    whose: teacher, student, control. weights: `last` or `val_best`. part: `validation` or `test`. logits:
    (N, K) float32 on the CPU. labels: (N,) int64, -1 for an unknown class.
    """

    whose: str
    weights: str
    part: str
    logits: Tensor
    labels: Tensor

    @property
    def whole(self) -> bool:
        """Whether the model always knows all classes: then a probability of each means something."""
        return bool((self.logits > MISSING).all())

    @property
    def labelled(self) -> Answers:
        """The answers to images with a label."""
        known = self.labels >= 0
        return self._replace(logits=self.logits[known], labels=self.labels[known])

    def figure(self, name: str, value: float, unit: str) -> Figure:
        """A figure of these answers."""
        return Figure(name, value, unit, self.whose, self.part, self.weights)


@dataclass(frozen=True)
class Subject:
    """One run, as its evaluators see it. Models have their names in the report.

    answers: of each model, with each of its weights, on each part that has images. networks: the models on
    the device of the run, with the headline's weights. records: of their trainings. headline: the weights
    that the report shows, `last` or `val_best`. taught_by: the model that the student learned from: teacher,
    one in between, or peer. settings: the keys of `evaluation`. missing: classes that the student was not
    taught on. kept_out: if there are any, the answers of student and control to training images of all
    classes that neither learned from; their part is `kept_out`. blocks: the classes that each of several
    teachers knows, by its name, if they do not all know all. headlines: by name, the weights that are
    shown of a model, if they are others. own: the answers of teachers to test images of their own data sets,
    which count their own classes; their part is `own_test`.
    """

    answers: tuple[Answers, ...]
    networks: Mapping[str, nn.Module]
    records: Mapping[str, Mapping[str, Any]]
    classes: tuple[str, ...]
    image_shape: tuple[int, int, int]
    headline: str
    taught_by: str
    settings: Mapping[str, Any]
    missing: tuple[int, ...] = ()
    kept_out: tuple[Answers, ...] = ()
    blocks: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    headlines: Mapping[str, str] = field(default_factory=dict)
    own: tuple[Answers, ...] = ()

    def on_test(self, whose: str) -> Answers | None:
        """A model's answers to the test images, with the headline's or its only weights; None without any."""
        return self.on_part(whose, "test")

    def on_part(self, whose: str, part: str) -> Answers | None:
        """The same for the images of a part: test or validation."""
        own = {each.weights: each for each in self.answers if (each.whose, each.part) == (whose, part)}
        return own.get(self.headlines.get(whose, self.headline)) or own.get("last")
