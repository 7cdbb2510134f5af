"""Which losses add up in an order that a GPU leaves to chance, and which draw random numbers: as they say."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.contracts.losses import LOSSES, batch, leaves, made, outputs

ROWS = 6


class Chance(TorchDispatchMode):
    """Keeps the operations whose kernels for a GPU add atomically to one place from several."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__.rstrip("_")
        if name == "scatter_add" and twice(args[2], args[1]):
            self.found.add(name)
        if name in ("index_add", "_index_put_impl") and len(args[2]) > len(args[2].unique()):
            self.found.add(name)
        if name == "_adaptive_avg_pool2d_backward":
            pulls, given = args[0].shape[-2:], args[1].shape[-2:]
            if any(large % small for large, small in zip(given, pulls, strict=True)):
                self.found.add(name)
        if name in ("upsample_bilinear2d_backward", "grid_sampler_2d_backward", "_cdist_backward"):
            self.found.add(name)
        return func(*args, **(kwargs or {}))


def twice(index: Tensor, dim: int) -> bool:
    """Whether an index along `dim` comes more than once."""
    ordered = index.sort(dim).values
    return bool((ordered.diff(dim=dim) == 0).any())


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_says_whether_a_gpu_repeats_it_to_the_bit(name: str) -> None:
    loss, student, teacher = made(name, seed=3)
    said, taught = (outputs(what, ROWS, n, torch.float32) for n, what in enumerate((student, teacher)))
    for tensor in leaves(said):
        tensor.requires_grad_()
    state = torch.get_rng_state()
    with Chance() as chance:
        value = loss(said, taught, batch(ROWS)).mean()
        value.backward()
    assert bool(chance.found) is bool(loss.unordered), chance.found
    assert loss.draws is not torch.equal(state, torch.get_rng_state())
