"""Notes during a training that its loss on the labels is worse than guessing: the rate may be too high."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from kdrun.plan.training import Training
from kdrun.progress.screen import Screen

FAR = 2.0
"""A training diverges if its loss is this many times that of guessing (the logarithm of the classes)."""


class Diverging:
    """A follower that notes once that a training diverges: from its second epoch on, or at its last."""

    def __init__(self, shown: Screen, training: Training) -> None:
        self.shown, self.training, self.noted = shown, training, training.ground.run.quick
        self.guess = math.log(len(training.ground.data.classes))
        names = {name for mix in training.mixes for name in mix.names}
        self.terms = [name for name in names if _is_of_labels(training, name)]

    def begin(self, epochs: int, steps: int, done: int) -> None:
        """Does nothing: a continued training is judged by its further epochs."""

    def steps(self, done: int) -> None:
        """Does nothing: single batches say too little."""

    def epoch(self, row: Mapping[str, Any]) -> None:
        loss = max((row.get("terms", {}).get(name, 0.0) for name in self.terms), default=0.0)
        late = row["epoch"] > 1 or row["epoch"] == row["epochs"]
        if self.noted or not late or not loss > FAR * self.guess:
            return
        self.noted = True
        key = f"recipe.{self.training.section}.lr"
        self.shown.say(
            f"note   the {self.training.name} diverges: its loss on the labels is {loss:.3g}, "
            f"that of guessing {self.guess:.3g}. A lower learning rate may help: {key} is "
            f"{self.training.recipe.lr:g}"
        )


def _is_of_labels(training: Training, term: str) -> bool:
    return any(dict(phase.loss).get(term, {}).get("name") == "cross_entropy" for phase in training.phases)
