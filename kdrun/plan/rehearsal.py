"""Tries each mix with the user's own losses on a few images of noise, before anything is trained."""

from __future__ import annotations

import torch
from torch import nn

from kdrun.config.schema import Run
from kdrun.errors import KdrunError
from kdrun.eval_mode import evaluating
from kdrun.losses.mix import Mix
from kdrun.models.taps import Tapped
from kdrun.plan.build import Models, build_mix
from kdrun.plan.objective import Phase
from kdrun.training.seeds import derived, global_seed
from kdrun.types import Batch, Rows
from kdrun.users_code import is_users

IMAGES = 4


def rehearse(
    run: Run, phases: tuple[Phase, ...], student: nn.Module, teacher: nn.Module, models: Models
) -> None:
    """Calls each phase with a user's loss once. Weights and random numbers are the same afterwards.

    student, teacher: planned models, images to logits. Raises KdrunError for a loss that raises, or returns
    something other than a tensor, a tensor of another shape, or NaN.
    """
    for phase in phases if run.packages else ():
        if not any(is_users(term.loss) for term in phase.mix().terms):
            continue
        with global_seed(derived(run.seed, "rehearsal"), "rehearsal"):
            mix = build_mix(phase.mix(), student, teacher, models, run.seed)
            _step(mix, student, teacher, models)


def _step(mix: Mix, student: nn.Module, teacher: nn.Module, models: Models) -> None:
    shape, classes = models.data.image_shape, len(models.data.classes)
    index = torch.arange(IMAGES)
    batch = Batch(torch.randn(IMAGES, *shape), index % classes, Rows(index, torch.zeros_like(index)))
    tapped = Tapped(student, mix.needs.student, "loss"), Tapped(teacher, mix.needs.teacher, "loss")
    try:
        with torch.no_grad():
            with evaluating(student), evaluating(teacher):
                outputs = [each(batch.images) for each in tapped]
            mixture = mix(*outputs, batch)
    finally:
        for each in tapped:
            each.close()
    for term, value in zip(mix.terms, mixture.values, strict=True):
        if is_users(term.loss) and torch.isnan(value):
            problem = f"is not a number (nan) for {IMAGES} images of noise"
            raise KdrunError(f"{mix.key}.{term.name}", None, problem)
