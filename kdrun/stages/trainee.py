"""One model in training: built, watched, validated, and written when it is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from kdrun.artefacts import write_json
from kdrun.data.batches import plain_batches, waited
from kdrun.data.lazy import Unread
from kdrun.evaluation.validation import Validation
from kdrun.losses.mix import Mix
from kdrun.models.taps import Tapped
from kdrun.models.weights import PEER, save_weights
from kdrun.plan.phases import Phase
from kdrun.plan.plan import Assembly
from kdrun.plan.training import Training
from kdrun.progress.journal import Journal
from kdrun.progress.screen import Screen
from kdrun.stages.saved import Trained, initial, mix_of, weights_file
from kdrun.training.checkpoint import Checkpoint, Pace, read_state
from kdrun.training.fit import Strand
from kdrun.training.gradients import Gradients, fixed_batch
from kdrun.training.mutual import Peer
from kdrun.training.optimisers import optimiser
from kdrun.training.seeds import Draws
from kdrun.training.step import Images, Learner, Step
from kdrun.training.teachers import Live, NoTeacher, Teacher


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
    """The model of a member in a phase of its training: what it minimises there, and where both stand.

    state: where the phase was broken off. alone: whether its random numbers are the global ones. before: the
    pupil in the phase before, which this one goes on from. stream: which of a step's rows it learns from.
    learners: that of the model, then that of a peer which learns along with it. forwards, saved: of its
    teachers in all phases.
    """

    models: list[nn.Module]
    mixes: list[Mix]

    def __init__(
        self,
        member: Member,
        phase: Phase,
        state: dict[str, Any] | None = None,
        alone: bool = True,
        before: Pupil | None = None,
        stream: int = 0,
    ) -> None:
        self.member, self.phase, self.stream = member, phase, stream
        self.begins = state is None and before is None
        self.draws = None if alone else Draws(member.training.seed, "dropout")
        self.forwards, self.saved = 0, 0
        if before is not None:
            self.draws, self.forwards, self.saved = before.draws, before.forwards, before.saved
        trained, assembly = _trained(member), member.assembly
        self.models = before.models if before else [initial(t, assembly, self.begins) for t in trained]
        self.mixes = [mix_of(each, assembly, phase) for each in trained]
        for mix, earlier in zip(self.mixes, before.mixes if before else (), strict=False):
            mix.take(earlier)
        self.taps = [Tapped(*pair, "loss") for pair in zip(self.models, _read(self.mixes), strict=True)]
        self.learners = tuple(map(self._learner, trained, self.models, self.taps, self.mixes))
        self.model, self.mix = self.models[0], self.mixes[0]

    def close(self) -> None:
        """Takes the taps off the models."""
        for tapped in self.taps:
            tapped.close()

    def strand(self, facts: dict[str, Any], shown: Screen, step: Step, live: Live | None) -> Strand:
        """Its part of a loop."""
        training, assembly = self.member.training, self.member.assembly
        pace = assembly.run.checkpoint
        rows = assembly.row_set(training)
        diagnosis = self._diagnosis(step, live)
        self.checkpoint = Checkpoint(
            self.member.state_path, self.learners, Pace(pace.seconds, pace.minutes), facts
        )
        return Strand(
            stage=training.role,
            seed=training.seed,
            learners=self.learners,
            checkpoint=self.checkpoint,
            watcher=Journal(training.folder, training.role, shown, rows.length),
            validate=_validator(self.model, assembly, shown),
            diagnose=lambda: diagnosis() | waited(step.images),
        )

    def passed(self, told: Teacher, images: Images) -> None:
        """After a phase: counts what its teacher was asked, and how long its steps waited for images."""
        self.forwards += told.forwards
        self.saved += told.saved
        self.record = told.record()
        self.waited = waited(images, epochs=True)

    def finish(self, seconds: float, facts: dict[str, Any], companions: Sequence[str]) -> None:
        """Writes the weights, then the mark; after it the state is not needed any more."""
        training, best = self.member.training, self.checkpoint.best
        weights: dict[str, dict[str, Tensor]] = {"last": self.model.state_dict()}
        if best is not None:
            weights["val_best"] = best.weights
        peers = {PEER: self.models[1].state_dict()} if self.models[1:] else {}
        for name, tensors in (weights | peers).items():
            save_weights(weights_file(training, name), tensors, {})
        record = {
            "role": training.role,
            "name": training.node.name,
            "fingerprint": training.fingerprint,
            "epochs": self.phase.until,
            "best_epoch": best.epoch if best else None,
            "train_seconds": round(seconds, 3),
            "teacher": self.record | {"forwards": self.forwards, "forwards_saved": self.saved},
            "companions": list(companions),
            **self.waited,
            "weights": list(weights),
            "peers": list(peers),
            "finished": time.time(),
            "environment": facts,
            "key": dict(training.key),
        }
        write_json(training.mark, record)
        self.member.state_path.unlink(missing_ok=True)

    def _learner(self, trained: Training, model: nn.Module, tapped: Tapped, mix: Mix) -> Learner:
        learned = [*model.parameters(), *mix.parameters()]
        chosen = optimiser(trained.recipe, learned, trained.momentum_delta)
        precision, clip = self.member.assembly.place.autocast(), trained.recipe.clip
        return Learner(model, tapped, precision, mix, chosen, clip, self.draws, self.stream)

    def _diagnosis(self, step: Step, live: Live | None) -> Callable[[], dict[str, Any]]:
        """What `diagnostics` asks for about each epoch of a student."""
        training, assembly = self.member.training, self.member.assembly
        if training.role != "student" or "gradients" not in assembly.run.diagnostics:
            return dict
        seen = assembly.row_set(training, self.mix).rows
        rows = fixed_batch(step.images, step.labels, seen, assembly.views, training.seed)
        teacher = live or (Peer(self.learners[1]) if self.learners[1:] else NoTeacher())
        gradients = Gradients(self.learners[0], rows, teacher, training.seed)
        return lambda: {"gradients": gradients()}


def _trained(member: Member) -> list[Training]:
    """The training, and that of the peer if it has one."""
    training, assembly = member.training, member.assembly
    peers = [assembly.teacher] if assembly.mutual and training.role == "student" else []
    return [training, *peers]


def _read(mixes: Sequence[Mix]) -> list[frozenset[str]]:
    """The layers that are read of each model: by its own mix, and by that of its peer."""
    peers = reversed(mixes) if len(mixes) > 1 else [None]
    return [
        mix.needs.student | (peer.needs.teacher if peer else frozenset())
        for mix, peer in zip(mixes, peers, strict=True)
    ]


def _validator(model: nn.Module, assembly: Assembly, shown: Screen) -> Callable[[], dict[str, float]]:
    part, place = assembly.data.validation, assembly.place
    if not len(part.labels):
        return dict
    batches = plain_batches(part, assembly.data, place.device)
    graphs = None if isinstance(part.images, Unread) else place.graphs(assembly.run.runtime.graph)
    labels = part.labels.to(place.device)
    return Validation(model, batches, labels, place.autocast(), graphs, shown.say)
