"""Chooses the savings of a GPU's step, by its learners, teacher and images."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from kdrun.data.resident import Resident
from kdrun.losses.soft_targets import SoftTargets, log_softened
from kdrun.plan.ground import Ground
from kdrun.training.optimisers import Dot
from kdrun.training.savings import COUNTERS, PIXELS, SHADOWS, SOFTMAX, Saving, convolution_reads_first
from kdrun.training.step import Images, Learner
from kdrun.training.tabled import Tabled
from kdrun.training.teachers import Teacher
from kdrun.users_code import is_users


def save(
    names: Collection[str], learners: Sequence[Learner], teacher: Teacher, images: Images, ground: Ground
) -> None:
    """Turns on the possible savings of a step. names: some of SAVINGS. A compiler does the first two."""
    bf16 = ground.machine.precision == "bf16"
    for learner in () if ground.run.runtime.compile else learners:
        # DOT reads gradients between two backward passes, so it has no shadows
        possible = {COUNTERS, SHADOWS} if bf16 and not isinstance(learner.optimiser, Dot) else {COUNTERS}
        if wanted := possible.intersection(names):
            learner.saving = Saving(learner.model, wanted, ground.data.image_shape)
    if SOFTMAX in names and isinstance(teacher, Tabled):
        teacher.derived = dict(_softened(learners))
    if PIXELS in names and bf16 and isinstance(images, Resident) and _convolve(learners, teacher, ground):
        images.normal.ends_in = torch.bfloat16


def _softened(learners: Sequence[Learner]) -> Iterator[tuple[str, Callable[[Tensor], Tensor]]]:
    """What terms with a fixed temperature compute from the teacher's logits. These terms then look it up."""
    for term in (term for learner in learners for term in learner.mix.terms):
        loss = term.loss
        if type(loss) is SoftTargets and loss.per_class is None and "temperature" not in term.others:
            loss.kept = f"log_softmax/{float(loss.temperature):.9g}"
            yield loss.kept, partial(log_softened, temperature=loss.temperature)


def _convolve(learners: Sequence[Learner], teacher: Teacher, ground: Ground) -> bool:
    """Whether all readers of the images convert them to bf16 first: models that begin with a convolution."""
    losses = [term.loss for learner in learners for term in learner.mix.terms]
    if any(map(is_users, losses)):
        return False  # users' losses may read images
    models = [learner.model for learner in learners] + list(teacher.models())
    return all(convolution_reads_first(model, ground.data.image_shape) for model in models)
