"""SGD, Adam and AdamW with torch's fused kernels, and DOT, which gives any of them two momenta.

`torch.optim` runs the same kernels, and a test compares the two. But its constructors import the compiler,
which takes longer than the training of a small student. The learning rate is a tensor.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class Settings(Protocol):
    """The part of a recipe that sets the optimiser."""

    optimiser: str
    momentum: float
    nesterov: bool
    weight_decay: float

    @property
    def betas(self) -> Sequence[float]: ...


class Optimiser(ABC):
    """Updates parameters by their gradients. A parameter without a gradient stays as it is. means: the moving
    mean of each gradient, empty without momentum: times `momentum` and plus `share` gradients in each step.
    """

    means: list[Tensor]
    momentum: float
    share: float = 1.0

    def __init__(self, parameters: Iterable[Tensor], weight_decay: float) -> None:
        self.parameters = [p for p in parameters if p.requires_grad]
        self.weight_decay = weight_decay

    def clip(self, most: float) -> None:
        """Scales the gradients to a norm of at most `most`."""
        nn.utils.clip_grad_norm_(self.parameters, most)

    @abstractmethod
    def step(self, lr: Tensor) -> None:
        """One update. lr: 0-dim float tensor on the parameters' device."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """All that a checkpoint needs: lists of tensors, in the order of the parameters."""

    def load(self, state: dict[str, Any]) -> None:
        """Copies a state that `state` returned, in place."""
        for name, tensors in self.state().items():
            for here, there in zip(tensors, state[name], strict=True):
                here.copy_(there)

    def clear(self) -> None:
        """Drops the gradients."""
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
        self.means = [torch.zeros_like(p) for p in self.parameters] if momentum else []

    @torch.no_grad()
    def step(self, lr: Tensor) -> None:
        parameters, gradients, *buffers = self._with_gradient(*([self.means] if self.means else []))
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
            is_first_step=False,  # buffers start at zero, which gives the same and fits a CUDA graph
        )

    def state(self) -> dict[str, Any]:
        return {"momentum": self.means}


class Adam(Optimiser):
    """Adam (Kingma & Ba 2015), or AdamW (Loshchilov & Hutter 2019) if weight decay is decoupled."""

    def __init__(
        self, parameters: Iterable[Tensor], betas: Sequence[float], weight_decay: float, decoupled: bool
    ) -> None:
        super().__init__(parameters, weight_decay)
        self.betas, self.decoupled = (float(betas[0]), float(betas[1])), decoupled
        self.momentum, self.share = self.betas[0], 1 - self.betas[0]
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


class Dot(Optimiser):
    """Another optimiser with two momenta: `delta` more for the terms that read the teacher, `delta` less for
    the others.

    Zhao et al., "DOT: A Distillation-Oriented Trainer", ICCV 2023: v_task = (m - delta) v_task + g_task,
    v_kd = (m + delta) v_kd + g_kd, and a step along their sum. As in the authors' code, weight decay is part
    of g_task, and a parameter that only one of the gradients reaches has momentum m. Departure: Adam's first
    moment is split in the same way.

    The inner optimiser's `means` are v_task + v_kd. taught: v_kd. pulls: g_kd of the next step, None for a
    parameter that only one of the gradients reaches.
    """

    def __init__(self, inner: Optimiser, delta: float) -> None:
        super().__init__(inner.parameters, inner.weight_decay)
        self.inner, self.delta = inner, delta
        self.taught = [torch.zeros_like(p) for p in self.parameters]
        self.pulls: list[Tensor | None] = [None] * len(self.parameters)

    def take(self, pulls: Sequence[Tensor | None]) -> None:
        """Adds g_kd, in the order of the parameters, to g_task, which is in `.grad`."""
        for place, (parameter, pull) in enumerate(zip(self.parameters, pulls, strict=True)):
            if parameter.grad is None:
                parameter.grad = pull
            elif pull is not None:
                parameter.grad += pull
                self.pulls[place] = pull

    def clip(self, most: float) -> None:
        norm = nn.utils.clip_grad_norm_(self.parameters, most)
        if pulls := self._both()[0]:
            torch._foreach_mul_(pulls, (most / (norm + 1e-6)).clamp(max=1.0))

    @torch.no_grad()
    def step(self, lr: Tensor) -> None:
        pulls, means, taught = self._both()
        momentum, share = self.inner.momentum, self.inner.share
        if pulls:
            # v_task + v_kd becomes ((m - delta) v_task + (m + delta) v_kd) / m; the step multiplies by m.
            torch._foreach_mul_(means, 1 - self.delta / momentum)
            torch._foreach_add_(means, taught, alpha=2 * self.delta / momentum)
            torch._foreach_mul_(taught, momentum + self.delta)
            torch._foreach_add_(taught, pulls, alpha=share)
        self.pulls = [None] * len(self.parameters)
        self.inner.step(lr)

    def state(self) -> dict[str, Any]:
        return self.inner.state() | {"taught": self.taught}

    def _both(self) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Of the parameters that both gradients reach: g_kd, the sum of both momenta, and v_kd."""
        rows = zip(self.pulls, self.inner.means, self.taught, strict=True)
        both = [(pull, mean, taught) for pull, mean, taught in rows if pull is not None]
        return [b[0] for b in both], [b[1] for b in both], [b[2] for b in both]


def optimiser(settings: Settings, parameters: Iterable[Tensor], delta: float | None = None) -> Optimiser:
    """The optimiser that a recipe names: `sgd`, `adam` or `adamw`. delta: of `Dot`, if not None."""
    if settings.optimiser == "sgd":
        plain: Optimiser = Sgd(parameters, settings.momentum, settings.nesterov, settings.weight_decay)
    else:
        decoupled = settings.optimiser == "adamw"
        plain = Adam(parameters, settings.betas, settings.weight_decay, decoupled)
    return plain if delta is None else Dot(plain, delta)
