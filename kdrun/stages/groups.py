"""Which trainings may share a loop, and gain by it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import mul
from typing import Any

from kdrun.artefacts import fingerprint
from kdrun.losses.mix import make_mix
from kdrun.plan.answers import plan
from kdrun.stages.trainee import Member
from kdrun.types import CLASSIFIER

STACKED_MACS = 60e6
"""Models whose step has fewer multiply-accumulates are worth batching: calls are most of their time."""

STACKED, SHARED = 32, 8
"""Learners at once, at most: of one batched model, and of those that only share a live teacher."""

STEP_SECONDS, MACS_A_SECOND = 0.5e-3, 2e10
"""What a step takes at least, and what one core does; for an estimate, no more."""

WORTH_STACKING = 8.0
"""Estimated seconds of training below which a batched model is not worth making: tracing it takes about 3."""

Group = list[Member]


def groups(members: Sequence[Member]) -> list[Group]:
    """Those that can be trained in one loop, and gain by it; most often each alone."""
    found: dict[str, Group] = {}
    for member in members:
        found.setdefault(_kind(member), []).append(member)
    return [chunk for kind, group in found.items() for chunk in _chunks(kind, group)]


def seconds(group: Group) -> float:
    """About how long the trainings take on one core, one after the other."""
    steps = [m.training.epochs * m.assembly.row_set(m.training).steps for m in group]
    one = [STEP_SECONDS + m.training.macs / MACS_A_SECOND for m in group]
    return float(sum(map(mul, steps, one)))


def _chunks(kind: str, group: Group) -> list[Group]:
    most = SHARED if kind.startswith("live") else STACKED
    if kind.startswith("stacked") and seconds(group) < WORTH_STACKING:
        most = 1
    return [group[first : first + most] for first in range(0, len(group), most)]


def _kind(member: Member) -> str:
    """Equal for members of one group."""
    training, assembly = member.training, member.assembly
    if len(training.phases) > 1 or assembly.mutual or not assembly.run.runtime.together:
        return "alone" + training.folder.name
    own = {name: value for name, value in training.key.items() if name not in ("seed", "model", "loss")}
    about = [own, training.role, assembly.headline, len(training.rows), assembly.run.outputs_dir]
    about += [str(assembly.place), sorted(assembly.teacher_needs)]
    if stackable(member):
        terms = {name: _numberless(term) for name, term in training.loss.items()}
        names = make_mix(training.loss).names
        return "stacked" + fingerprint([about, training.key["model"], terms, names])
    if _asks_live(member):
        return "live" + fingerprint([about, training.seed])
    return "alone" + training.folder.name


def stackable(member: Member) -> bool:
    """Whether the learner can be, and gains by being, one of a batched model."""
    training = member.training
    mix = make_mix(training.loss)
    plain = CLASSIFIER not in mix.needs.student | mix.needs.teacher and not mix.needs.indices
    steady = all(term.loss.capturable for term in mix.terms)
    one = training.momentum_delta is None and len(training.phases) == 1 and not mix.mutual
    return plain and steady and one and training.macs < STACKED_MACS


def _asks_live(member: Member) -> bool:
    """Whether the teacher is asked about every batch, which those with the same batches can share."""
    assembly = member.assembly
    kinds = ("live", "ahead")
    return member.training.role == "student" and plan(assembly, assembly.teacher_needs).kind in kinds


def _numberless(term: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in term.items() if name not in ("weight", "temperature")}
