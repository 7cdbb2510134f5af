"""Our optimisers are torch's: the same parameters after the same gradients, also after a round trip of the
state.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from kdrun.training.optimisers import optimiser

CASES: dict[str, tuple[dict[str, Any], Any]] = {
    "sgd": (
        {"optimiser": "sgd", "momentum": 0.9, "nesterov": False, "weight_decay": 5e-4},
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=5e-4),
    ),
    "sgd nesterov": (
        {"optimiser": "sgd", "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4},
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True),
    ),
    "plain sgd": (
        {"optimiser": "sgd", "momentum": 0.0, "nesterov": False, "weight_decay": 0.0},
        lambda p: torch.optim.SGD(p, lr=0.1),
    ),
    "adam": (
        {"optimiser": "adam", "betas": [0.9, 0.99], "weight_decay": 1e-2},
        lambda p: torch.optim.Adam(p, lr=0.1, betas=(0.9, 0.99), weight_decay=1e-2),
    ),
    "adamw": (
        {"optimiser": "adamw", "betas": [0.9, 0.999], "weight_decay": 1e-2},
        lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=1e-2),
    ),
}


def settings(values: dict[str, Any]) -> Any:
    return SimpleNamespace(**{"momentum": 0.0, "nesterov": False, "betas": [0.9, 0.999], **values})


def parameters(dtype: torch.dtype = torch.float64) -> list[Tensor]:
    g = torch.Generator().manual_seed(1)
    return [torch.randn(s, generator=g, dtype=dtype).requires_grad_() for s in ((3, 4), (5,), ())]


def gradients(step: int, like: list[Tensor]) -> list[Tensor]:
    g = torch.Generator().manual_seed(100 + step)
    return [torch.randn(p.shape, generator=g, dtype=p.dtype) for p in like]


@pytest.mark.parametrize("case", CASES)
def test_equals_torch_optim(case: str) -> None:
    values, reference = CASES[case]
    ours, theirs = parameters(), parameters()
    one, two = optimiser(settings(values), ours), reference(theirs)
    for step in range(7):
        lr = 0.1 / (1 + step)
        for group in two.param_groups:
            group["lr"] = lr
        for mine, other, gradient in zip(ours, theirs, gradients(step, ours), strict=True):
            mine.grad, other.grad = gradient.clone(), gradient.clone()
        one.step(torch.tensor(lr))
        two.step()
    for mine, other in zip(ours, theirs, strict=True):
        # The learning rate is a float32 tensor, torch's a Python float: equal to its precision, not to the
        # last bit.
        torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-8)
        assert not torch.equal(mine, parameters()[0]) or mine.shape != (3, 4)


@pytest.mark.parametrize("case", CASES)
def test_continues_bit_for_bit_from_its_state(case: str) -> None:
    values, _ = CASES[case]
    straight, halved = parameters(torch.float32), parameters(torch.float32)
    one, two = optimiser(settings(values), straight), optimiser(settings(values), halved)
    for step in range(6):
        if step == 3:
            copies = {name: [t.clone() for t in tensors] for name, tensors in two.state().items()}
            two = optimiser(settings(values), halved)
            two.load(copies)
        for mine, other, gradient in zip(straight, halved, gradients(step, straight), strict=True):
            mine.grad, other.grad = gradient.clone(), gradient.clone()
        one.step(torch.tensor(0.05))
        two.step(torch.tensor(0.05))
    assert all(torch.equal(a, b) for a, b in zip(straight, halved, strict=True))


def test_leaves_parameters_without_a_gradient_alone() -> None:
    values, _ = CASES["adamw"]
    some = parameters()
    before = some[1].detach().clone()
    one = optimiser(settings(values), some)
    some[0].grad, some[2].grad = torch.ones(3, 4, dtype=torch.float64), torch.ones((), dtype=torch.float64)
    one.step(torch.tensor(0.1))
    assert torch.equal(some[1], before)
    assert [float(step) for step in one.state()["steps"]] == [1.0, 0.0, 1.0]


def test_does_not_import_the_compiler() -> None:
    import subprocess
    import sys

    code = (
        "import torch, sys; from types import SimpleNamespace as S\n"
        "from kdrun.training.optimisers import optimiser;"
        "p = torch.ones(2, requires_grad=True); p.grad = torch.ones(2);"
        "optimiser(S(optimiser='adamw', betas=[0.9, 0.99], weight_decay=0.0), [p]).step(torch.tensor(0.1));"
        "assert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
