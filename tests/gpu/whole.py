"""Whole trainings by kdrun: with table, validation, checkpoints; broken off and continued; then evaluated."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch

from kdrun.config.schema import CheckpointSettings, TeacherModel
from kdrun.models.weights import read_weights
from kdrun.plan.plan import Plan
from kdrun.plan.training import Training
from kdrun.progress.record import Recorder
from kdrun.progress.watchers import Observers
from kdrun.stages.evaluate import _latency
from kdrun.stages.make import make
from kdrun.stages.saved import saved
from kdrun.stages.subject import subject_of
from tests.gpu.bench import Bench, Work, work
from tests.gpu.product import HOME, KD, Arm, Terms, node
from tests.gpu.timing import timed

EPOCHS, LONG = 2, 240
STEPS = 782 * LONG
"""Of 240 epochs of CIFAR-100 in batches of 64."""


class BrokenOff(Exception):
    """Stands for the end of the process."""


class Breaking:
    """A follower that ends a training after some steps."""

    def __init__(self, after: int) -> None:
        self.after = after

    def follow(self, training: Training) -> Breaking:
        return self

    def begin(self, epochs: int, steps: int, done: int) -> None: ...

    def epoch(self, row: Mapping[str, Any]) -> None: ...

    def steps(self, done: int) -> None:
        if done >= self.after:
            raise BrokenOff


def product(bench: Bench) -> Iterator[Work]:
    """Teacher, student with table; the same broken off in the second epoch; evaluation and latencies."""
    best = bench.best
    yield work("teacher, one epoch", 20, train_teacher, bench, best)
    yield work("student, its table empty", 20, student, bench, best, 0)
    yield work("student, its table full", 15, student, bench, best, 0, "again")
    yield work("broken off and continued", 25, continued, bench, best)
    yield work("evaluation", 20, evaluated, bench, best)


def plan_of(
    bench: Bench, precision: str, seed: int, folder: str = "whole", own: bool = True, **more: Any
) -> Plan:
    """A short run. own: whether its teacher is trained, not read from a file."""
    run = bench.product.plan(Arm("whole", precision)).run
    validation = run.dataset | {"validation": bench.scale.seen // 2, "test": bench.scale.seen // 2}
    recipe = replace(run.recipe.student, epochs=EPOCHS)
    recipes = replace(run.recipe, student=recipe, teacher=replace(recipe, epochs=1))
    outputs = str(bench.folder / folder)
    given = {"recipe": recipes, "dataset": validation, "outputs_dir": outputs, "seed": seed}
    if own:
        given["teacher"] = TeacherModel(**node("model", bench.scale.teacher))
    return bench.product.plan(Arm("whole", precision), **(given | more))


def trained(bench: Bench, plan: Plan, observers: Observers) -> dict[str, Any]:
    """Seconds of what was trained, and what kdrun said about graphs and tables."""
    bench.product.lines.text = ""
    seconds = timed(bench, lambda: _made(plan, observers))
    lines = bench.product.lines
    return {
        "seconds": seconds,
        "said": f"{lines.of('graph')} {lines.of('cache')} {lines.of('teacher  ')}".strip(),
    }


def _made(plan: Plan, observers: Observers) -> None:
    failures = make([plan], observers).failures
    if failures:
        raise next(iter(failures.values()))


def train_teacher(bench: Bench, precision: str) -> dict[str, Any]:
    plan = plan_of(bench, precision, 0, stages=["teacher"])
    return trained(bench, plan, bench.product.observers)


def student(bench: Bench, precision: str, seed: int, again: str = "") -> dict[str, Any]:
    plan = plan_of(
        bench, precision, seed, temperature=5.0 if again else 4.0, loss=_loss(5.0 if again else 4.0)
    )
    row = trained(bench, plan, bench.product.observers)
    record = saved(plan.student)
    assert record is not None
    seconds, steps = record.record["train_seconds"], EPOCHS * plan.student.row_set().steps
    row |= {"ms_a_step": 1e3 * seconds / steps, "laid_out_240_s": seconds / steps * STEPS}
    if "graph   none" in row["said"] or "not used" in row["said"]:
        bench.fail(f"student: {row['said']}")
    return row | {"teacher": record.record["teacher"]}


def _loss(temperature: float) -> Terms:
    return {"hard": KD["hard"], "soft": KD["soft"] | {"temperature": temperature}}


def continued(bench: Bench, precision: str) -> dict[str, Any]:
    """Bits of a training that was broken off in its second epoch against one that was not."""
    often = CheckpointSettings(0.0, 0.0)  # a state after every step
    plan = plan_of(bench, precision, 3, "broken", own=False, checkpoint=often)
    after = plan.student.row_set().steps + 3
    breaking = Observers(bench.product.observers.screen, cast(Recorder, Breaking(after)))
    try:
        _made(plan, breaking)
    except BrokenOff:
        pass
    else:
        raise RuntimeError("it was not broken off")
    whole = plan_of(bench, precision, 3, "unbroken", own=False)
    for each in (plan, whole):
        _made(each, bench.product.observers)
    one, other = (read_weights(p.student.folder / "last.safetensors") for p in (plan, whole))
    equal = all(torch.equal(one[name], other[name]) for name in one)
    gap = max(float((one[name].float() - other[name].float()).abs().max()) for name in one)
    if not equal:
        bench.fail(f"continued: weights differ by {gap:.2g}")
    return {"equal": equal, "gap": gap}


def evaluated(bench: Bench, precision: str) -> dict[str, Any]:
    """What the report would have: top-1 of both, and latencies with what could not be measured."""
    plan = plan_of(bench, precision, 0)
    models = {each.name: weights for each in plan.trainings if (weights := saved(each)) is not None}
    start = time.perf_counter()
    subject = subject_of(plan, models)
    times = _latency(plan, subject)
    rows = {
        f"{name} {row['device']} {row['mode']} {row['batch']}": round(row["p50_ms"], 4)
        for name, own in times.rows.items()
        for row in own
    }
    return {"seconds": time.perf_counter() - start, "notes": " ".join(times.notes), **rows}


def cli(bench: Bench) -> Iterator[Work]:
    """The command from its start to its report, on made-up images. Needs Hydra."""
    for more in ("seed=0", "seed=1", "seed=2 runtime.graph=off"):
        yield work(more, 40, command, bench, more.split())
        if bench.tiny:
            return


def command(bench: Bench, more: list[str]) -> dict[str, Any]:
    needed = ("hydra", "omegaconf", "matplotlib")
    if missing := [name for name in needed if importlib.util.find_spec(name) is None]:
        return {"said": f"left out: {', '.join(missing)} not installed"}
    scale, size = bench.scale, [] if bench.tiny else ["classes=100", "per_class=148", "validation=1000"]
    typed = [sys.executable, "-m", "kdrun", "dataset=fake", "dataset.views.name=crop_flip", "recipe=crd"]
    typed += [*(f"dataset.{key}" for key in size), f"teacher={scale.teacher}", f"student={scale.student}"]
    typed += [f"recipe.{role}.epochs=1" for role in ("teacher", "student")]
    typed += ["control=false", f"device={bench.device}", f"outputs_dir={bench.folder}/cli", *more]
    paths = str(Path(HOME))
    done = bench.called(typed, PYTHONPATH=f"{paths}:{':'.join(sys.path[1:2])}")
    if done.returncode:
        bench.fail(f"cli: {done.stderr[-300:]}")
    return {"exit": done.returncode, "output": (done.stdout + done.stderr)[-4000:]}
