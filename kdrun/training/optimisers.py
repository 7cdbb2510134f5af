"""SGD, Adam and AdamW: torch's own fused kernels, called directly, with the learning rate in a tensor.

`torch.optim` runs the same kernels (tests hold the two equal); constructing one imports the compiler, which
costs more than a small student's whole training.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor


class Settings(Protocol):
    """The part of a recipe that makes the optimiser."""

    optimiser: str
    momentum: float
    nesterov: bool
    weight_decay: float

    @property
    def betas(self) -> Sequence[float]: ...


class Optimiser(ABC):
    """Updates parameters from their gradients; those without a gradient are left alone."""

    def __init__(self, parameters: Iterable[Tensor], weight_decay: float) -> None:
        self.parameters = [p for p in parameters if p.requires_grad]
        self.weight_decay = weight_decay

    @abstractmethod
    def step(self, lr: Tensor) -> None:
        """One update. lr: 0-dim float tensor on the parameters' device."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold: lists of tensors, in the order of the parameters."""

    def load(self, state: dict[str, Any]) -> None:
        """Takes over a state that `state` gave, in place."""
        for name, tensors in self.state().items():
            for here, there in zip(tensors, state[name], strict=True):
                here.copy_(there)

    def clear(self) -> None:
        """Forgets the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    def _with_gradient(self, *states: list[Tensor]) -> tuple[list[Tensor], ...]:
        rows = [row for row in zip(self.parameters, *states, strict=True) if row[0].grad is not None]
        columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in range(1 + len(states))]
        return columns[0], [p.grad for p in columns[0] if p.grad is not None], *columns[1:]


class Sgd(Optimiser):
    """Stochastic gradient descent with momentum; weight decay is added to the gradient."""

    def __init__(
        self, parameters: Iterable[Tensor], momentum: float, nesterov: bool, weight_decay: float
    ) -> None:
        super().__init__(parameters, weight_decay)
        self.momentum, self.nesterov = momentum, nesterov
        self.buffers = [torch.zeros_like(p) for p in self.parameters] if momentum else []

    @torch.no_grad()
    def step(self, lr: Tensor) -> None:
        parameters, gradients, *buffers = self._with_gradient(*([self.buffers] if self.buffers else []))
        torch._fused_sgd_(
            parameters,
            gradients,
            buffers[0] if buffers else [],
            weight_decay=self.weight_decay,
            momentum=self.momentum,
            lr=lr,
            dampening=0.0,
            nesterov=self.nesterov,
            maximize=False,
            is_first_step=False,  # buffers start at zero, which is the same and can be captured
        )

    def state(self) -> dict[str, Any]:
        return {"momentum": self.buffers}


class Adam(Optimiser):
    """Adam (Kingma & Ba 2015), or AdamW (Loshchilov & Hutter 2019) where weight decay is decoupled."""

    def __init__(
        self, parameters: Iterable[Tensor], betas: Sequence[float], weight_decay: float, decoupled: bool
    ) -> None:
        super().__init__(parameters, weight_decay)
        self.betas, self.decoupled = (float(betas[0]), float(betas[1])), decoupled
        self.means = [torch.zeros_like(p) for p in self.parameters]
        self.squares = [torch.zeros_like(p) for p in self.parameters]
        self.steps = [torch.zeros((), device=p.device) for p in self.parameters]

    @torch.no_grad()
    def step(self, lr: Tensor) -> None:
        parameters, gradients, means, squares, steps = self._with_gradient(
            self.means, self.squares, self.steps
        )
        torch._foreach_add_(steps, 1)
        update = torch._fused_adamw_ if self.decoupled else torch._fused_adam_
        update(
            parameters,
            gradients,
            means,
            squares,
            [],
            steps,
            amsgrad=False,
            lr=lr,
            beta1=self.betas[0],
            beta2=self.betas[1],
            weight_decay=self.weight_decay,
            eps=1e-8,
            maximize=False,
        )

    def state(self) -> dict[str, Any]:
        return {"means": self.means, "squares": self.squares, "steps": self.steps}


def optimiser(settings: Settings, parameters: Iterable[Tensor]) -> Optimiser:
    """The optimiser that a recipe names: `sgd`, `adam` or `adamw`."""
    if settings.optimiser == "sgd":
        return Sgd(parameters, settings.momentum, settings.nesterov, settings.weight_decay)
    return Adam(parameters, settings.betas, settings.weight_decay, decoupled=settings.optimiser == "adamw")
