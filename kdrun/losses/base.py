"""The base class of losses, which `L = sum_i weight_i * loss_i(student, teacher, batch)` adds up."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor, nn

from kdrun.losses.numeric import number
from kdrun.types import Batch, Outputs, Rows, Shapes


class Needs(NamedTuple):
    """The layers that a loss reads, by name (`logits` is always there): see `kdrun.types.Outputs.layer`.

    `stages` asks for all feature maps, `stage:-1` for the last. indices: whether `batch.rows` is read.
    """

    student: frozenset[str] = frozenset({"logits"})
    teacher: frozenset[str] = frozenset()
    indices: bool = False


class Loss(nn.Module, ABC):
    """A loss. The constructor's arguments are the keys of its YAML.

    A loss that is a mean over images returns a value for each image, (N,), and the mix takes the mean. A loss
    that compares images with each other, or with statistics of the batch or a memory bank, returns a scalar.

    of_the_batch: whether the value of an image depends on others in the batch, as in every loss that returns
    a scalar. If several processes share a batch, such a loss reads the outputs of all.
    uses_unlabelled: whether rows labelled -1 count. If not, the mix leaves them out of the mean over values
    (N,), which must be finite for these rows too. A scalar loss leaves them out itself, and is 0 if no row
    counts.
    prepared: whether a term of the same name must have trained its adapters in an earlier phase.
    reaches_student: whether the student's weights get a gradient. False for a loss that trains its adapter
    only. If it is True and there is no gradient, the run stops.
    takes_missing: whether it is meaningful if a teacher does not know all classes, whose logits are then
    `kdrun.types.MISSING`. Such a loss returns a value for each image, and does not read the teacher's logit
    of the label.
    capturable: whether a CUDA graph can hold a step with this loss: every call does the same work on tensors
    that stay in place, and copies nothing to the host.
    draws: whether a call draws random numbers.
    unordered: what in its backward pass is added up in an order left to chance on a GPU, so that two runs
    there differ in their last bits; empty if nothing is.
    """

    of_the_batch: bool = False
    uses_unlabelled: bool = True
    reaches_student: bool = True
    prepared: bool = False
    takes_missing: bool = False
    capturable: bool = True
    draws: bool = False
    unordered: str = ""

    def hold(
        self, key: str, value: float, *, above: float | None = None, least: float | None = None
    ) -> Tensor:
        """Keep a constructor's argument as a buffer, so that it can follow a schedule. Raises as `number`."""
        buffer = number(key, value, above=above, least=least)
        self.register_buffer(key, buffer, persistent=False)
        return buffer

    @property
    @abstractmethod
    def needs(self) -> Needs:
        """Which layers of student and teacher the loss reads."""

    def build(self, student: Shapes, teacher: Shapes, images: int = 0) -> None:
        """Create the modules that depend on the models' shapes (regressors) or on the number of training
        images (memory banks; 0: not known). Called once, before training, with a seed of its own.

        Raises KdrunError if the pair of models does not fit, with the layers to choose from.
        """

    def prepare(self, rows: Rows, labels: Tensor) -> None:
        """Called before an epoch with all its rows, in order. labels: (M,) int64 of all training images."""

    @property
    def form(self) -> object:
        """Which work the calls of this epoch do, if there are several kinds; a CUDA graph holds one."""
        return None

    @abstractmethod
    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """The unweighted loss: a value for each image (N,), or one for the batch (). See `Loss`."""

    @abstractmethod
    def formula(self) -> str:
        """The loss in the equation on the screen, such as `4^2 KL(teacher || student, T=4)`."""
