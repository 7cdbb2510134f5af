"""The cost of a model, counted and not timed: parameters, multiply-accumulates of an image, bytes."""

from __future__ import annotations

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


class _Flops(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the formula of every operation that has one.

    `torch.utils.flop_counter.FlopCounterMode` gives the same sum, but its first use takes 1.5 s, since it
    imports torch's compiler.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops: int = 0
        self.formulas = _formulas()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Otherwise torch wraps the method below in a call that imports the compiler. A torch without this
        # hook ignores it.
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        formula: Callable[..., int] | None = self.formulas.get(func.overloadpacket)
        if formula is not None:
            self.flops += int(formula(*args, **(kwargs or {}), out_val=out))
        return out


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
