"""The tensors of a file under a model's own names, without prefixes and without what only training needs.

For what does not fit, one line says what is in the file and which key would help.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from kdrun.errors import KdrunError
from kdrun.models.heads import removed_head

AUXILIARY = re.compile(r"(AuxLogits|aux\d*|aux_head|aux_classifier|auxiliary_head)\.")
"""Heads beside the classifier, which are read while training only."""

COUNTERS = re.compile(r"(.*\.)?(total_ops|total_params)")
"""What tools that count operations leave in a state dict."""

FILLED = "num_batches_tracked"
"""Is in no file of old versions of torch, and changes nothing."""

SHOWN = 3


def fitted(model: nn.Module, tensors: Mapping[str, Tensor], key: str, value: str) -> dict[str, Tensor]:
    """The tensors that are the model's, without a removed head. Raises KdrunError for another model's."""
    own, head = model.state_dict(), removed_head(model)
    kept = {
        name: tensor
        for name, tensor in tensors.items()
        if not (_dispensable(name, own) or (head and name.startswith(f"{head}.")))
    }
    missing = [name for name in _needed(model) if name not in kept]
    extra = [name for name in kept if name not in own]
    other = [name for name in own if name in kept and own[name].shape != kept[name].shape]
    if missing or extra or other:
        raise KdrunError(key, value, _misfit(own, kept, missing, extra, other, key))
    _refuse_unusable(model, kept, key, value)
    return kept


def under_prefix(model: nn.Module, tensors: Mapping[str, Tensor], key: str, value: str) -> dict[str, Tensor]:
    """The tensors whose names have the prefix under which all of the model's names stand, without it; all, if
    there is none. Raises KdrunError for several.
    """
    names = _needed(model)
    if not names or all(name in tensors for name in names):
        return dict(tensors)
    candidates = [name.removesuffix(names[0]) for name in tensors if name.endswith(f".{names[0]}")]
    whole = [prefix for prefix in candidates if all(prefix + name in tensors for name in names)]
    if len(whole) > 1:
        problem = (
            f"holds such a model several times: below {' and below '.join(whole)}; save one of them alone"
        )
        raise KdrunError(key, value, problem)
    prefix = whole[0] if whole else _common_prefix(tensors)
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _needed(model: nn.Module) -> list[str]:
    return [name for name in model.state_dict() if not name.endswith(FILLED)]


def _common_prefix(names: Iterable[str]) -> str:
    """What parallel training and compilation put before every name."""
    prefix = ""
    every = list(names)
    while every:
        step = next((word for word in ("module.", "_orig_mod.") if every[0].startswith(prefix + word)), None)
        if step is None or not all(name.startswith(prefix + step) for name in every):
            return prefix
        prefix += step
    return prefix


def _dispensable(name: str, own: Mapping[str, Tensor]) -> bool:
    return name not in own and bool(AUXILIARY.match(name) or COUNTERS.fullmatch(name))


def _misfit(
    own: Mapping[str, Tensor],
    kept: Mapping[str, Tensor],
    missing: list[str],
    extra: list[str],
    other: list[str],
    key: str,
) -> str:
    """What does not fit, the first of it by name, and how to go on if that is known."""
    if other:
        shapes = [list(each[other[0]].shape) for each in (kept, own)]
        first = f"{other[0]} has shape {shapes[0]}, the model's {shapes[1]}"
    elif missing:
        first = f"{missing[0]} is missing"
    else:
        first = f"{extra[0]} is not in the model"
    counts = f"{len(missing)} missing, {len(extra)} unknown, {len(other)} of another shape"
    parts = [f"weights of another architecture: {first} ({counts})"]
    if missing and extra:
        parts.append(f"its names begin with {', '.join(extra[:SHOWN])}")
    if hint := _stem_hint(own, kept, [*missing, *extra, *other], key):
        parts.append(hint)
    return "; ".join(parts)


def _stem_hint(own: Mapping[str, Tensor], kept: Mapping[str, Tensor], wrong: list[str], key: str) -> str:
    """Names the stem of the file, if the first convolution is all that differs."""
    role, _, named = key.partition(".")
    if named != "checkpoint" or len(wrong) != 1 or wrong[0] not in own or wrong[0] not in kept:
        return ""
    theirs, ours = kept[wrong[0]].shape, own[wrong[0]].shape
    if len(theirs) != 4 or len(ours) != 4 or theirs[:2] != ours[:2]:
        return ""
    stem = "imagenet" if theirs[-1] > ours[-1] else "cifar"
    size = f"{theirs[-2]}x{theirs[-1]}"
    return f"only the first convolution differs, {size} in the file: {role}.stem={stem} fits"


def _refuse_unusable(model: nn.Module, kept: Mapping[str, Tensor], key: str, value: str) -> None:
    """Raises KdrunError for weights that are not real finite numbers."""
    parameters = dict(model.named_parameters())
    for name, own in model.state_dict().items():
        tensor = kept.get(name, own)
        problem = ""
        if tensor.is_complex():
            problem = "holds complex numbers"
        elif tensor.layout != torch.strided or own.is_floating_point() != tensor.is_floating_point():
            problem = f"is {tensor.dtype}, quantised or sparse: {own.dtype} is needed"
        elif name in parameters and not bool(torch.isfinite(tensor).all()):
            problem = "is not finite: such a model answers nothing"
        if problem:
            raise KdrunError(key, value, f"{name} {problem}")
