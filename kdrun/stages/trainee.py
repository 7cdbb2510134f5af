"""One model in a training loop: built for a phase, watched, validated, and written at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from kdrun.artefacts import write_json
from kdrun.data.batches import plain_batches, wait_share
from kdrun.data.lazy import Unread
from kdrun.evaluation.cost import bytes_per_image
from kdrun.evaluation.validation import Validation
from kdrun.losses.mix import Mix
from kdrun.models.taps import Tapped
from kdrun.models.weights import PEER, save_weights
from kdrun.plan.objective import Phase
from kdrun.plan.training import Training
from kdrun.progress.watchers import Watchers
from kdrun.stages.noted import forget
from kdrun.stages.saved import initial_model, started, state_file, weights_file
from kdrun.stages.teacher import Say
from kdrun.training.checkpoint import Best, Checkpoint, SavePace
from kdrun.training.fit import Strand
from kdrun.training.learning_rate import Rates
from kdrun.training.mutual import Peer
from kdrun.training.optimisers import optimiser
from kdrun.training.pulls import GradientDiagnostics, fixed_batch
from kdrun.training.seeds import Draws
from kdrun.training.step import Learner, Step
from kdrun.training.teachers import NoTeacher, Teacher


@dataclass(frozen=True)
class Trainee:
    """The model of a training in one of its phases, and the model of its peer if it has one.

    learners: its own first, then the peer's. begins: whether the training starts here.
    """

    training: Training
    phase: Phase
    learners: tuple[Learner, ...]
    begins: bool

    @property
    def model(self) -> nn.Module:
        return self.learners[0].model

    @property
    def mix(self) -> Mix:
        return self.learners[0].mix

    def close(self) -> None:
        """Takes the taps off the models."""
        for learner in self.learners:
            assert isinstance(learner.tapped, Tapped)
            learner.tapped.close()


def begin(
    training: Training,
    phase: Phase,
    stream: int = 0,
    *,
    resumed: bool = False,
    alone: bool = True,
    rates: Rates | None = None,
) -> Trainee:
    """The trainee of the first phase in this process. resumed: whether a state is restored afterwards.

    stream: which of a step's rows it learns from. alone: whether no other training shares its loop, so that
    its random numbers can be the global ones. rates: its own learning rates, if the loop has others.
    """
    draws = None if alone else Draws(training.seed, "dropout")
    models = [initial_model(each, warm=not resumed) for each in _with_peer(training)]
    return _trainee(training, phase, models, not resumed, draws, stream, rates)


def next_phase(before: Trainee, phase: Phase) -> Trainee:
    """The same models in the next phase. Adapters of the same name and shape keep their weights."""
    models, first = [each.model for each in before.learners], before.learners[0]
    trainee = _trainee(before.training, phase, models, False, first.draws, first.stream, first.rates)
    for learner, earlier in zip(trainee.learners, before.learners, strict=True):
        learner.mix.take(earlier.mix)
    return trainee


def strand(
    trainee: Trainee, facts: dict[str, Any], watchers: Watchers, step: Step, live: Teacher | None, say: Say
) -> Strand:
    """A trainee's part of the training loop. facts: stored with its states."""
    training, leads = trainee.training, trainee.training.ground.machine.ranks.leads
    pace = training.ground.run.checkpoint
    diagnose = _diagnosis(trainee, step, live) if leads else dict
    return Strand(
        stage=training.name,
        seed=training.seed,
        learners=trainee.learners,
        checkpoint=Checkpoint(
            state_file(training),
            trainee.learners,
            SavePace(pace.seconds, pace.minutes) if leads else None,
            facts,
        ),
        watcher=watchers if leads else Watchers(training.name, 0, ()),
        validate=_validator(trainee.model, training, say) if leads else dict,
        diagnose=lambda: diagnose() | wait_share(step.images),
    )


def finish(trainee: Trainee, best: Best | None, about: Mapping[str, Any]) -> None:
    """Writes the weights, then the mark; then removes the state. On rank 0. about: what the mark says of the
    training's loop.
    """
    training = trainee.training
    if not training.ground.machine.ranks.leads:
        return
    weights: dict[str, dict[str, Tensor]] = {"last": trainee.model.state_dict()}
    if best is not None:
        weights["val_best"] = best.weights
    peers = {PEER: trainee.learners[1].model.state_dict()} if trainee.learners[1:] else {}
    files = (weights | peers).items()
    # without class names: renaming a class keeps the trainings, so their files must not have the old name
    written = {name: save_weights(weights_file(training, name), tensors, {}) for name, tensors in files}
    record = {
        "role": training.kind,
        "name": training.model.name,
        "fingerprint": training.fingerprint,
        "epochs": trainee.phase.until,
        "best_epoch": best.epoch if best else None,
        **about,
        "weights": list(weights),
        "peers": list(peers),
        "sha256": written,
        "call": started(),
        "finished": time.time(),
        "key": dict(training.key),
    }
    write_json(training.mark, record)
    state_file(training).unlink(missing_ok=True)
    forget(training.folder)


def _with_peer(training: Training) -> tuple[Training, ...]:
    return (training,) if training.peer is None else (training, training.peer)


def _trainee(
    training: Training,
    phase: Phase,
    models: Sequence[nn.Module],
    begins: bool,
    draws: Draws | None,
    stream: int,
    rates: Rates | None,
) -> Trainee:
    both, machine = _with_peer(training), training.ground.machine
    mixes = [training.new_mix(phase).to(machine.device)]
    if training.peer is not None:
        mixes.append(training.peer.new_mix(phase, training).to(machine.device))
    read = [mix.needs.student for mix in mixes]
    if len(mixes) > 1:  # each model is read by the other's mix, too
        read = [own | mix.needs.teacher for own, mix in zip(read, reversed(mixes), strict=True)]
    learners = []
    for each, model, mix, layers in zip(both, models, mixes, read, strict=True):
        chosen = optimiser(each.recipe, [*model.parameters(), *mix.parameters()], each.momentum_delta)
        tapped, about = Tapped(model, layers, "loss"), (each.recipe.clip, draws, stream, rates)
        learners.append(Learner(model, tapped, machine.autocast(), mix, chosen, *about))
    return Trainee(training, phase, tuple(learners), begins)


def _diagnosis(trainee: Trainee, step: Step, live: Teacher | None) -> Callable[[], dict[str, Any]]:
    """The measurements of `diagnostics` after each epoch of a student."""
    training, ground = trainee.training, trainee.training.ground
    if training.kind != "student" or "gradients" not in ground.run.diagnostics:
        return dict
    rows = training.row_set(trainee.mix).rows
    batch = fixed_batch(step.images, step.labels, rows, ground.views, training.seed)
    teacher = live or (Peer(trainee.learners[1]) if trainee.learners[1:] else NoTeacher())
    gradients = GradientDiagnostics(trainee.learners[0], batch, teacher, training.seed)
    return lambda: {"gradients": gradients()}


def _validator(model: nn.Module, training: Training, say: Say) -> Callable[[], dict[str, float]]:
    ground = training.ground
    part, machine = ground.data.validation, ground.machine
    if not len(part.labels):
        return dict
    image_bytes = bytes_per_image(model, ground.data.image_shape)
    batches = plain_batches(part, ground.data, machine.device, image_bytes)
    graphs = None if isinstance(part.images, Unread) else machine.graphs(ground.run.runtime.graph)
    labels = part.labels.to(machine.device)
    return Validation(model, batches, labels, machine.autocast(), graphs, say)
