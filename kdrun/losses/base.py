"""What every loss is: `L = sum_i weight_i * loss_i(student, teacher, batch)` adds up modules of this kind."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor, nn

from kdrun.types import Batch, Outputs, Shapes


class Needs(NamedTuple):
    """The layers that a loss reads, by name (`logits` is always there): see `kdrun.types.Outputs.layer`.

    `stages` asks for all feature maps, `stage:-1` for the last. indices: whether `batch.rows` is read.
    """

    student: frozenset[str] = frozenset({"logits"})
    teacher: frozenset[str] = frozenset()
    indices: bool = False


class Loss(nn.Module, ABC):
    """A loss: abstract here or final below. Constructor arguments are the keys of its YAML.

    What `forward` returns: a loss that is a mean over images returns its value for each image, (N,), and the
    mix takes the mean. A loss of the batch as a whole (it compares images with each other, or with statistics
    of the batch or a memory bank) returns a scalar, (). So means over rows are taken in one place.

    uses_unlabelled: whether rows labelled -1 count. If not, the mix leaves them out of the mean over values
    (N,), which are finite for these rows too; a loss of the batch leaves them out itself, and is 0 if no row
    counts.
    prepared: whether a term of the same name must have trained its adapters in an earlier phase.
    reaches_student: whether it has a gradient on the student's weights, as all do that train more than an
    adapter; a run stops if such a term has none. capturable: whether a step with it can be a CUDA graph: each
    call does the same work on tensors that stay in place, and reads none on the host.
    """

    uses_unlabelled: bool = True
    reaches_student: bool = True
    prepared: bool = False
    capturable: bool = True

    @property
    @abstractmethod
    def needs(self) -> Needs:
        """Which layers of student and teacher the loss reads."""

    def build(self, student: Shapes, teacher: Shapes, images: int = 0) -> None:
        """Make what depends on the models' shapes (regressors) or on the number of training images (memory
        banks; 0: not known). Called once, before training, with random numbers from a seed of its own.

        Raises KdrunError when the pair of models does not fit, saying which layers there are.
        """

    @abstractmethod
    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """The unweighted loss: a value for each image (N,), or one for the batch (). See `Loss`."""

    @abstractmethod
    def formula(self) -> str:
        """The loss as it stands in the equation on the screen, such as `4^2 KL(teacher || student, T=4)`."""
