"""Weight files: written as safetensors with readable metadata, read without executing anything."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from kdrun.artefacts import write_whole
from kdrun.errors import KdrunError
from kdrun.models.renormalise import attach_from

CONTAINERS = ("state_dict", "model", "net", "model_state_dict", "weights")
"""Where other tools keep the state dict in a checkpoint."""

PEER = "peer"
"""What the weights are called of a peer that was trained along with a student, in the student's folder."""


def save_weights(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Writes tensors under their own keys; metadata values become JSON text."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = {"format": "pt"} | {name: json.dumps(value) for name, value in metadata.items()}
    write_whole(path, lambda temporary: save_file(plain, temporary, metadata=text))


def read_weights(path: Path) -> dict[str, Tensor]:
    """A state dict from a .safetensors or a torch file (only tensors and plain values are accepted).

    Checkpoints of other tools are searched for their state dict; the prefix of data-parallel training is
    taken off. Raises KdrunError for a missing, damaged or foreign file.
    """
    path = path.expanduser()
    if not path.is_file():
        raise KdrunError("checkpoint", str(path), "no such file")
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (
        RuntimeError,
        SafetensorError,
        EOFError,
        OSError,
        ValueError,
        KeyError,
        pickle.UnpicklingError,
    ) as error:
        problem = "cannot be read: damaged, truncated, or with more in it than tensors and plain values"
        raise KdrunError("checkpoint", str(path), problem) from error
    return _state_dict(content, path)


def _state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    inner = content
    for name in CONTAINERS:
        if isinstance(inner, dict) and isinstance(inner.get(name), dict):
            inner = inner[name]
            break
    if (
        not isinstance(inner, dict)
        or not all(isinstance(value, Tensor) for value in inner.values())
        or not inner
    ):
        raise KdrunError("checkpoint", str(path), "holds no state dict (a mapping of names to tensors)")
    return {name.removeprefix("module."): tensor for name, tensor in inner.items()}


def load_into(model: nn.Module, tensors: Mapping[str, Tensor], key: str, value: str) -> None:
    """Puts all weights into the model, and the normalisation of images that they bring along, if any.

    Raises KdrunError where names or shapes are not the model's.
    """
    attach_from(model, tensors)
    own = model.state_dict()
    missing, extra = [n for n in own if n not in tensors], [n for n in tensors if n not in own]
    other = [n for n in own if n in tensors and own[n].shape != tensors[n].shape]
    if missing or extra or other:
        first = (
            f"{other[0]} has shape {list(tensors[other[0]].shape)}, the model's {list(own[other[0]].shape)}"
            if other
            else f"{missing[0]} is missing"
            if missing
            else f"{extra[0]} is not in the model"
        )
        counts = f"{len(missing)} missing, {len(extra)} unknown, {len(other)} of another shape"
        raise KdrunError(key, value, f"weights of another architecture: {first} ({counts})")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(tensors[name])
