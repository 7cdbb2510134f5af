"""One model in training: built, watched, validated, and written when it is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from kdrun.artefacts import write_json
from kdrun.evaluation.accuracy import logits_of, scores
from kdrun.models.taps import Tapped
from kdrun.stages.assemble import Assembly, Training
from kdrun.stages.images import plain_batches
from kdrun.stages.trained import Trained, initial, mix_of, weights_file
from kdrun.stages.weights import save_weights
from kdrun.training.checkpoint import Checkpoint, Pace, read_state
from kdrun.training.fit import Strand
from kdrun.training.gradients import Gradients, fixed_batch
from kdrun.training.journal import Journal
from kdrun.training.optimisers import optimiser
from kdrun.training.progress import Screen
from kdrun.training.seeds import Draws
from kdrun.training.step import Learner, Step
from kdrun.training.teachers import Live, Teacher


@dataclass(frozen=True)
class Member:
    """A training that is to be done, with whom it learns from."""

    training: Training
    assembly: Assembly
    teacher: Trained | None

    @property
    def state_path(self) -> Path:
        return self.training.folder / "state.pt"

    @property
    def state(self) -> dict[str, Any] | None:
        """Where it was broken off, None where it has not begun."""
        return read_state(self.state_path)


class Pupil:
    """The model of a member, the mix it minimises, and where both stand.

    alone: whether its random numbers are the global ones.
    """

    def __init__(self, member: Member, state: dict[str, Any] | None, alone: bool) -> None:
        training, assembly = member.training, member.assembly
        self.member, self.state = member, state
        self.model = initial(training, assembly, warm=state is None)
        self.mix = mix_of(training, assembly).to(assembly.place.device)
        self.tapped = Tapped(self.model, self.mix.needs.student, "loss")
        self.learner = Learner(
            self.model,
            self.tapped,
            self.mix,
            optimiser(training.recipe, [*self.model.parameters(), *self.mix.parameters()]),
            training.recipe.clip,
            None if alone else Draws(training.seed, "dropout"),
        )

    def strand(self, facts: dict[str, Any], shown: Screen, step: Step, live: Live | None) -> Strand:
        """Its part of a loop."""
        training, assembly = self.member.training, self.member.assembly
        pace = assembly.run.checkpoint
        rows = assembly.row_set(training)
        return Strand(
            stage=training.role,
            seed=training.seed,
            learners=(self.learner,),
            checkpoint=Checkpoint(
                self.member.state_path, [self.learner], Pace(pace.seconds, pace.minutes), facts
            ),
            watcher=Journal(training.folder, training.role, shown, rows.length),
            validate=_validator(self.model, assembly),
            diagnose=self._diagnosis(step, live),
        )

    def finish(
        self, strand: Strand, seconds: float, told: Teacher, facts: dict[str, Any], companions: Sequence[str]
    ) -> None:
        """Writes the weights, then the mark; after it the state is not needed any more."""
        training, checkpoint = self.member.training, strand.checkpoint
        weights: dict[str, dict[str, Tensor]] = {"last": self.model.state_dict()}
        if checkpoint.best is not None:
            weights["val_best"] = checkpoint.best.weights
        for name, tensors in weights.items():
            save_weights(weights_file(training, name), tensors, {})
        record = {
            "role": training.role,
            "name": training.node.name,
            "fingerprint": training.fingerprint,
            "epochs": training.recipe.epochs,
            "best_epoch": checkpoint.best.epoch if checkpoint.best else None,
            "train_seconds": round(seconds, 3),
            "teacher": {"forwards": told.forwards, "forwards_saved": told.saved},
            "companions": list(companions),
            "weights": list(weights),
            "finished": time.time(),
            "environment": facts,
            "key": dict(training.key),
        }
        write_json(training.mark, record)
        self.member.state_path.unlink(missing_ok=True)

    def _diagnosis(self, step: Step, live: Live | None) -> Callable[[], dict[str, Any]]:
        """What `diagnostics` asks for about each epoch of a student."""
        training, assembly = self.member.training, self.member.assembly
        if training.role != "student" or "gradients" not in assembly.run.diagnostics:
            return dict
        rows = fixed_batch(step.images, step.labels, training.rows, assembly.views, training.seed)
        gradients = Gradients(self.learner, rows, live, step.precision, training.seed)
        return lambda: {"gradients": gradients()}


def _validator(model: nn.Module, assembly: Assembly) -> Callable[[], dict[str, float]]:
    part, place = assembly.data.validation, assembly.place
    if not len(part.labels):
        return dict
    batches = plain_batches(part, assembly.data, place.device)

    def validate() -> dict[str, float]:
        with place.autocast()():
            found = scores(logits_of(model, batches()), part.labels)
        return {name: found[name] for name in ("top1", "nll")}

    return validate
