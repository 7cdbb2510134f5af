"""Every loss as part of a graph: repeated on other data, it says and pulls what it does afresh."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from kdrun.graphs import CudaGraphs, Graphs
from kdrun.types import Batch, Outputs, Rows
from tests.contracts.losses import LOSSES, batch, leaves, made, outputs
from tests.recorded import Recorded

ROWS = 6


class Case:
    """A loss with places for what student, teacher and batch say; `act` fills gradients and the value."""

    def __init__(self, name: str, device: str = "cpu") -> None:
        self.loss, student, teacher = made(name, seed=3)
        self.device, self.shapes = device, (student, teacher)
        self.loss.to(device)
        self.student, self.teacher, self.batch = self.other(0)
        self.value = torch.zeros((), device=device)
        for tensor in leaves(self.student):
            tensor.requires_grad_()

    def other(self, seed: int) -> tuple[Outputs, Outputs, Batch]:
        student, teacher = (
            outputs(what, ROWS, seed + n, torch.float32) for n, what in enumerate(self.shapes)
        )
        given = batch(ROWS)
        assert given.rows is not None
        rows = Rows((given.rows.index + seed) % 40, given.rows.view)
        moved: tuple[Outputs, Outputs, Batch] = tree_map_only(
            Tensor,
            lambda tensor: tensor.to(self.device),
            (student, teacher, Batch(given.images, (given.labels + seed) % 7, rows)),
        )
        return moved

    def fill(self, seed: int) -> None:
        """Puts other numbers into the same places."""
        student, teacher, given = self.other(seed)
        assert given.rows is not None and self.batch.rows is not None
        there = [*leaves(self.student), *leaves(self.teacher), self.batch.labels, self.batch.rows.index]
        here = [*leaves(student), *leaves(teacher), given.labels, given.rows.index]
        for one, other in zip(there, here, strict=True):
            one.data.copy_(other)

    def act(self) -> None:
        """The value, and gradients where the loss sends some."""
        for tensor in self.learned():
            tensor.grad = None
        value = self.loss(self.student, self.teacher, self.batch).mean()
        value.backward()
        self.value.copy_(value.detach())

    def learned(self) -> list[Tensor]:
        return [*leaves(self.student), *self.loss.parameters()]

    def results(self) -> list[Tensor]:
        found = [self.value, *self.loss.buffers(), *(t.grad for t in self.learned() if t.grad is not None)]
        return [tensor.clone() for tensor in found]


def after(case: Case, graphs: Graphs | None) -> list[list[Tensor]]:
    """Results of two steps on other data than the first, which is not recorded."""
    case.act()
    state = {name: tensor.clone() for name, tensor in case.loss.state_dict().items()}
    again = case.act
    if graphs is not None:
        graphs.rehearse(case.act)
        again = graphs.record(case.act)
    case.loss.load_state_dict(state)
    found = []
    for seed in (5, 9):
        case.fill(seed)
        torch.manual_seed(seed)
        again()
        found.append(case.results())
    return found


def check(name: str, device: str, graphs: Graphs) -> None:
    case = Case(name, device)
    if not case.loss.capturable:
        with pytest.raises(RuntimeError):
            graphs.rehearse(case.act)
        return
    alone, repeated = after(case, None), after(Case(name, device), graphs)
    for one, other in zip(alone, repeated, strict=True):
        assert len(one) == len(other) > 1
        assert all(map(torch.equal, one, other)) if device == "cpu" else all(map(close, one, other))


def close(one: Tensor, other: Tensor) -> bool:
    """Equal but for the order of sums, which some kernels of a GPU leave to chance."""
    return torch.allclose(one.float(), other.float(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_repeated_on_other_data_is_the_same(name: str) -> None:
    check(name, "cpu", Recorded())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", LOSSES)
def test_repeated_on_other_data_is_the_same_on_a_gpu(name: str) -> None:
    check(name, "cuda", CudaGraphs(torch.device("cuda")))
