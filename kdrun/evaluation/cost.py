"""The cost of a model, counted and not timed: parameters, multiply-accumulates of an image, bytes, memory."""

from __future__ import annotations

import weakref
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from kdrun.eval_mode import untouched
from kdrun.evaluation.figure import Figure
from kdrun.evaluation.subject import Subject

IMAGES = 2
"""The batch that memory is measured of: two, since some models drop a dimension of length one."""


def figures(subject: Subject) -> Iterator[Figure]:
    """`params`, `macs`, `bytes` of each model; `compression`: the teacher's parameters over the student's."""
    units = {"params": "", "macs": "", "bytes": "B"}
    for whose, model in subject.networks.items():
        for name, value in cost(model, subject.image_shape).items():
            yield Figure(name, value, units[name], whose)
    counts = {whose: params(model) for whose, model in subject.networks.items()}
    if counts.get("teacher") and counts["student"]:
        yield Figure("compression", counts["teacher"] / counts["student"], "x", "student")


def cost(model: nn.Module, image_shape: tuple[int, int, int]) -> dict[str, int]:
    """`params`, `macs` of one image (C, H, W), `bytes` of the state dict. A shared tensor counts once."""
    return {"params": params(model), "macs": macs(model, image_shape), "bytes": state_bytes(model)}


def params(model: nn.Module) -> int:
    """The number of parameters, frozen ones included."""
    return sum(parameter.numel() for parameter in model.parameters())


def state_bytes(model: nn.Module) -> int:
    """Bytes of parameters and buffers, as a weights file holds them, without its header."""
    tensors = {(t.data_ptr(), t.shape, t.stride()): t for t in model.state_dict().values()}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def macs(model: nn.Module, image_shape: tuple[int, int, int]) -> int:
    """Multiply-accumulates of one image in convolutions, matrix products, attention and recurrent layers.

    Half of torch's count, which counts a multiply and an add as two. Normalisation, activations and pooling
    are left out, as is customary. Measured in one forward of a black image on the model's device, in
    evaluation mode. Weights, statistics and the random state do not change.
    """
    counted = _Flops()
    with untouched(model) as device, torch.no_grad(), _plain_attention(), counted:
        model(torch.zeros(1, *image_shape, device=device))
    return counted.flops // 2


def bytes_per_image(model: nn.Module, image_shape: tuple[int, int, int]) -> int:
    """Bytes for one image (C, H, W), its own included, at the peak of a forward in evaluation mode.

    Measured in one forward of two black images on the model's device. Weights, statistics and the random
    state do not change. Buffers within an operation are not counted: a convolution can need as much again.
    """
    with untouched(model) as device:
        black = torch.zeros(IMAGES, *image_shape, device=device)
        images = black.contiguous(memory_format=torch.channels_last)
        live = _Live(images)
        with torch.inference_mode(), live:
            model(images)
    return max(1, live.peak // IMAGES)


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees each operation with its arguments and its result."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Otherwise torch wraps the method below in a call that imports the compiler. A torch without this
        # hook ignores it.
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        self.see(func, args, kwargs or {}, out)
        return out

    @abstractmethod
    def see(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: Any) -> None: ...


class _Live(_Watch):  # type: ignore[no-untyped-call]
    """Adds up the storages of all tensors that are still referenced. peak: the largest sum, in bytes."""

    def __init__(self, first: Tensor) -> None:
        super().__init__()
        self.tensors = [weakref.ref(first)]
        self.peak = 0

    def see(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: Any) -> None:
        made = out if isinstance(out, (tuple, list)) else (out,)
        self.tensors += [weakref.ref(each) for each in made if isinstance(each, Tensor)]
        alive = [(ref, tensor) for ref in self.tensors if (tensor := ref()) is not None]
        self.tensors = [ref for ref, _ in alive]
        sizes = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for _, t in alive}
        self.peak = max(self.peak, sum(sizes.values()))


class _Flops(_Watch):  # type: ignore[no-untyped-call]
    """Adds up the formula of every operation that has one.

    `torch.utils.flop_counter.FlopCounterMode` gives the same sum, but its first use takes 1.5 s, since it
    imports torch's compiler.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops: int = 0
        self.formulas = _formulas()

    def see(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: Any) -> None:
        formula: Callable[..., int] | None = self.formulas.get(func.overloadpacket)
        if formula is not None:
            self.flops += int(formula(*args, **kwargs, out_val=out))


def _formulas() -> dict[Any, Callable[..., int]]:
    """Torch's formulas, and those for fused operations that torch would count as zero."""
    from torch.utils.flop_counter import flop_registry

    aten = torch.ops.aten
    attention = flop_registry[aten._scaled_dot_product_flash_attention]
    return flop_registry | {
        aten._scaled_dot_product_attention_math_for_mps: attention,
        aten.mkldnn_rnn_layer: _recurrent_flops,
        aten._cudnn_rnn: _recurrent_flops,
    }


def _recurrent_flops(inputs: Tensor, *args: Any, **_: Any) -> int:
    """Recurrent layers: each weight matrix is multiplied once at every position of inputs (..., D).

    args: the weights first, as one list (cuDNN) or as four tensors (oneDNN).
    """
    weights: Sequence[Tensor] = args[:4] if isinstance(args[0], Tensor) else args[0]
    return 2 * inputs.shape[:-1].numel() * sum(weight.numel() for weight in weights if weight.dim() == 2)


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Attention as matrix products, which torch can count on every device.

    It has no formulas for its fused encoder layer and for fused attention on CPUs.
    """
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
