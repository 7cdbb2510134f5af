"""One trained model as a folder that is made once: found finished, continued, or trained from the start."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kdrun.artefacts import empty, locked, read_json, sweep_parts, write_json
from kdrun.data.resident import Resident
from kdrun.errors import KdrunError
from kdrun.evaluation.accuracy import logits_of, scores
from kdrun.losses.mix import Mix
from kdrun.models.fold import folded
from kdrun.models.reused import Reused
from kdrun.models.taps import Tapped, classifier
from kdrun.stages.asking import asked
from kdrun.stages.assemble import Assembly, Training, build_mix, rebuild, threads_of
from kdrun.stages.images import plain_batches
from kdrun.stages.machine import environment
from kdrun.stages.weights import load_into, read_weights, save_weights
from kdrun.training.checkpoint import Checkpoint, Pace, read_state
from kdrun.training.fit import Course, fit
from kdrun.training.gradients import Gradients, fixed_batch
from kdrun.training.journal import Journal
from kdrun.training.optimisers import optimiser
from kdrun.training.progress import Screen
from kdrun.training.seeds import derived
from kdrun.training.step import Learner, Step
from kdrun.training.teachers import Live, NoTeacher, Teacher

STARTED = float(os.environ.setdefault("KDRUN_STARTED", str(time.time())))
"""When the command began; `fresh=true` starts over what was finished before that, so a sweep trains each
teacher once.
"""

WEIGHTS = ("last", "val_best")


@dataclass(frozen=True)
class Trained:
    """A model whose weights are there. weights: files by name (`last`, `val_best`). record: the content of
    its mark.

    source: trained, cache, checkpoint or pretrained.
    """

    role: str
    source: str
    weights: Mapping[str, Path]
    record: Mapping[str, Any]
    metrics: Path | None


def finished(training: Training, fresh: bool) -> dict[str, Any] | None:
    """The record of a finished training, None where it is not there or is to be made anew."""
    try:
        record: dict[str, Any] = read_json(training.mark)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, OSError) as error:
        problem = "cannot be read (damaged); fresh=true starts over"
        raise KdrunError(str(training.mark), None, problem) from error
    missing = [name for name in record["weights"] if not _file(training, name).exists()]
    if missing:  # a file that someone removed: the mark no longer holds
        return None
    return None if fresh and record["finished"] < STARTED else record


def obtain(
    training: Training, assembly: Assembly, teacher: Trained | None, screen: Screen, allowed: bool = True
) -> Trained:
    """The trained model: found, continued or trained. Raises KdrunError where training is needed and not
    `allowed`.
    """
    fresh = assembly.run.fresh and allowed
    record = finished(training, fresh)
    if record is None and not allowed:
        stage = "teacher" if training.role == "teacher" else "student"
        problem = f"the {training.role} is not trained yet ({training.folder}); add the stage {stage}"
        raise KdrunError("stages", "[" + ",".join(assembly.run.stages) + "]", problem)
    source = "cache"
    if record is None:
        with locked(
            training.folder, lambda who: screen.say(f"{training.role:8} waits for {who}, which trains it")
        ):
            sweep_parts(training.folder)
            record = finished(training, fresh)
            if record is None:
                _start_over(training, fresh)
                record, source = _train(training, assembly, teacher, screen), "trained"
    (training.folder / "state.pt").unlink(missing_ok=True)  # left by a kill right after the mark was written
    files = {name: _file(training, name) for name in record["weights"]}
    return Trained(training.role, source, files, record, training.folder / "metrics.jsonl")


def _start_over(training: Training, fresh: bool) -> None:
    training.mark.unlink(missing_ok=True)
    state = training.folder / "state.pt"
    if fresh and (not state.exists() or state.stat().st_mtime < STARTED):
        empty(training.folder)


def _file(training: Training, name: str) -> Path:
    return training.folder / f"{name}.safetensors"


def _train(training: Training, assembly: Assembly, teacher: Trained | None, screen: Screen) -> dict[str, Any]:
    state = read_state(training.folder / "state.pt")
    threads = threads_of(training, assembly.place)
    if state is not None and assembly.place.threads is None:
        threads = state["facts"]["threads"]
    facts = environment(assembly.place, threads)
    if state is not None:
        _say_changes(state["facts"], facts, screen)
    with threaded(threads), torch.random.fork_rng(enabled=True):
        torch.manual_seed(derived(training.seed, "dropout"))
        return _fit(training, assembly, teacher, screen, state, facts)


def _fit(
    training: Training,
    assembly: Assembly,
    teacher: Trained | None,
    screen: Screen,
    state: dict[str, Any] | None,
    facts: dict[str, Any],
) -> dict[str, Any]:
    place, data, run = assembly.place, assembly.data, assembly.run
    model = initial(training, assembly, warm=state is None)
    mix = mix_of(training, assembly).to(place.device)
    tapped = Tapped(model, mix.needs.student, "loss")
    learner = Learner(
        model,
        tapped,
        mix,
        optimiser(training.recipe, [*model.parameters(), *mix.parameters()]),
        training.recipe.clip,
    )
    images = Resident(data.train.images, assembly.views, data.mean, data.std, data.white, place.device)
    live = _live(assembly, mix, teacher)
    if state is None and live is not None:
        _lend_classifier(live, model)
    told = asked(assembly, mix, live, images, screen) if live else NoTeacher()
    step = Step((learner,), told, images, data.train.labels.to(place.device), place.autocast())
    checkpoint = Checkpoint(
        training.folder / "state.pt", learner, Pace(run.checkpoint.seconds, run.checkpoint.minutes), facts
    )
    position = checkpoint.restore(state)
    row_set = assembly.row_set(training)
    course = Course(
        stage=training.role,
        seed=training.seed,
        epochs=training.recipe.epochs,
        row_set=row_set,
        views=assembly.views,
        rates=training.recipe,
        validate=_validator(model, assembly),
        diagnose=_diagnosis(training, assembly, step, live),
    )
    journal = Journal(training.folder, training.role, screen, row_set.length)
    journal.begin(course.epochs, row_set.steps, position.epoch * row_set.steps + position.step)
    try:
        seconds = fit(course, step, checkpoint, position, journal)
    finally:
        screen.end()
        tapped.close()
        told.close()
    return _finish(training, checkpoint, seconds, told, facts)


def initial(training: Training, assembly: Assembly, warm: bool) -> nn.Module:
    """The model as training begins: seeded weights, or those of `checkpoint` where the node names one."""
    model = rebuild(assembly, training.role).model
    if warm and training.node.checkpoint:
        role = "teacher" if training.role == "teacher" else "student"
        load_into(
            model,
            read_weights(Path(training.node.checkpoint)),
            f"{role}.checkpoint",
            training.node.checkpoint,
        )
    return placed(model, assembly)


def placed(model: nn.Module, assembly: Assembly) -> nn.Module:
    """The model on the run's device, channels last."""
    there: nn.Module = model.to(assembly.place.device).to(memory_format=torch.channels_last)
    return there


def mix_of(training: Training, assembly: Assembly) -> Mix:
    """What a training minimises, with adapters seeded as for the training itself."""
    return build_mix(training.loss, assembly.built, assembly.data, derived(training.seed, "adapters"))


def _lend_classifier(live: Live, student: nn.Module) -> None:
    """Gives the teacher's trained classifier to a student that is to be read by it."""
    head = classifier(live.network)
    if isinstance(student, Reused) and head is not None:
        student.take(head)


def _live(assembly: Assembly, mix: Mix, teacher: Trained | None) -> Live | None:
    if not mix.needs.teacher or teacher is None:
        return None
    model = load_trained(assembly, teacher, assembly.headline)
    model = folded(model, assembly.image_shape, mix.needs.teacher)
    return Live(Tapped(model, mix.needs.teacher, "loss"), assembly.place.autocast())


def load_trained(assembly: Assembly, trained: Trained, which: str) -> nn.Module:
    """A trained model on the run's device, with its `last` or `val_best` weights (its only ones, if there are
    no others; a pretrained model is built with its weights).
    """
    model = rebuild(assembly, trained.role).model
    if not trained.weights:
        return placed(model, assembly)
    path = trained.weights.get(which) or next(iter(trained.weights.values()))
    load_into(model, read_weights(path), f"{trained.role}.checkpoint", str(path))
    return placed(model, assembly)


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


def _diagnosis(
    training: Training, assembly: Assembly, step: Step, live: Live | None
) -> Callable[[], dict[str, Any]]:
    """What `diagnostics` asks for about each epoch of a student."""
    if training.role != "student" or "gradients" not in assembly.run.diagnostics:
        return dict
    rows = fixed_batch(step.images, step.labels, training.rows, assembly.views, training.seed)
    gradients = Gradients(step.learners[0], rows, live, step.precision, training.seed)
    return lambda: {"gradients": gradients()}


def _finish(
    training: Training, checkpoint: Checkpoint, seconds: float, told: Teacher, facts: dict[str, Any]
) -> dict[str, Any]:
    weights: dict[str, dict[str, Tensor]] = {"last": checkpoint.learner.model.state_dict()}
    if checkpoint.best is not None:
        weights["val_best"] = checkpoint.best.weights
    for name, tensors in weights.items():
        save_weights(_file(training, name), tensors, {})
    record = {
        "role": training.role,
        "name": training.node.name,
        "fingerprint": training.fingerprint,
        "epochs": training.recipe.epochs,
        "best_epoch": checkpoint.best.epoch if checkpoint.best else None,
        "train_seconds": round(seconds, 3),
        "teacher": {"forwards": told.forwards, "forwards_saved": told.saved},
        "weights": list(weights),
        "finished": time.time(),
        "environment": facts,
        "key": dict(training.key),
    }
    write_json(training.mark, record)
    (training.folder / "state.pt").unlink(missing_ok=True)
    return record


def _say_changes(before: Mapping[str, Any], now: Mapping[str, Any], screen: Screen) -> None:
    changed = [
        f"{key} {before[key]} -> {now[key]}" for key in now if key in before and before[key] != now[key]
    ]
    if changed:
        screen.say(f"continued under other conditions, so bits may differ: {', '.join(changed)}")


@contextmanager
def threaded(count: int) -> Iterator[None]:
    """So many threads within the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def check_weights(assembly: Assembly, role: str, path: str) -> None:
    """Raises KdrunError where a checkpoint that the configuration names does not fit its model."""
    load_into(rebuild(assembly, role).model, read_weights(Path(path)), f"{role}.checkpoint", path)
