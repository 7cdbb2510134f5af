"""A graph without a GPU: the operations of one run are kept with the very tensors they read and write, and
done again on these. What Python did is not repeated, and what waits for a device is refused, as by CUDA.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from kdrun.graphs import Lane

WAITING = {
    "item", "_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "_unique2", "bincount",
    "unique_dim", "unique_consecutive", "repeat_interleave", "_linalg_eigh", "_linalg_svd", "lift_fresh",
}  # fmt: skip
"""Operations that on a GPU read values on the host (decompositions: if they converged), or copy from it."""


class Recorded:
    """`Graphs` on the CPU. used: the lanes, in the order in which work was done in them."""

    def __init__(self) -> None:
        self.used: list[int] = []

    @contextmanager
    def lanes(self) -> Iterator[Lane]:
        def lane(number: int) -> AbstractContextManager[None]:
            self.used.append(number)
            return nullcontext()

        yield lane

    def rehearse(self, act: Callable[[], None]) -> None:
        act()
        with _Recording():
            act()

    def record(self, act: Callable[[], None]) -> Callable[[], None]:
        with _Recording() as recording:
            act()
        return recording.again


class _Recording(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[_Call] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        masks = name in ("index", "index_put", "index_put_") and _masked(args[1])
        if name in WAITING or masks:
            raise RuntimeError(f"operation not permitted when stream is capturing: {name}")
        act = partial(func, *args, **(kwargs or {}))
        modes = torch.is_inference_mode_enabled(), torch.is_grad_enabled()
        result = act()
        given = {_place(tensor) for tensor in _tensors((args, kwargs))}
        made = {n: tensor for n, tensor in enumerate(_tensors(result)) if _place(tensor) not in given}
        self.calls.append(_Call(act, modes, made))
        return result

    def again(self) -> None:
        with torch._C._AutoDispatchBelowAutograd():
            for call in self.calls:
                inference, gradients = call.modes  # which a kernel's choice may depend on
                with torch.inference_mode(inference), torch.set_grad_enabled(gradients):
                    results = list(_tensors(call.act()))
                    for number, tensor in call.made.items():
                        tensor.copy_(results[number])


class _Call(NamedTuple):
    """made: its results that are not parts of what it was given, by number."""

    act: Callable[[], Any]
    modes: tuple[bool, bool]
    made: dict[int, Tensor]


def _tensors(values: Any) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor))


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _masked(indices: Any) -> bool:
    return any(index is not None and index.dtype == torch.bool for index in indices)
