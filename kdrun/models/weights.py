"""Weight files: safetensors with readable metadata and a checksum, read without executing anything."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from kdrun.artefacts import write_whole
from kdrun.errors import KdrunError
from kdrun.models.checkpoints import NotPlain, load_plain, state_dict
from kdrun.models.fit_names import fitted, under_prefix
from kdrun.models.inputs import attach_from
from kdrun.paths import expanded

PEER = "peer"
"""What the weights are called of a peer that was trained along with a student, in the student's folder."""

BLANK = b"0" * 64
"""Stands for a file's own checksum while that is computed."""

OWN = "kdrun_sha256"
"""The checksum in a file's metadata, as JSON text like the rest."""

STATED = re.compile(rb'"kdrun_sha256":"\\"([0-9a-f]{64})\\""')


def save_weights(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> str:
    """Writes tensors under their own keys; metadata values become JSON text. Equal content is equal bytes.
    Returns the SHA-256 of the file as it is with zeros in place of the metadata's OWN, which states it.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    content = save(plain)
    size = int.from_bytes(content[:8], "little")
    text = {"format": "pt"} | {name: json.dumps(value) for name, value in metadata.items()}
    header = json.loads(content[8 : 8 + size])
    about = dict(sorted(text.items())) | {OWN: json.dumps(BLANK.decode())}
    head = _framed({"__metadata__": about} | header)
    data = memoryview(content)[8 + size :]
    digest = hashlib.sha256(head)
    digest.update(data)
    stated = head.replace(_stating(BLANK), _stating(digest.hexdigest().encode()))

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            file.write(stated)
            file.write(data)

    write_whole(path, write)
    return digest.hexdigest()


def _stating(digest: bytes) -> bytes:
    return b'"kdrun_sha256":"\\"' + digest + b'\\""'


def _framed(header: Mapping[str, Any]) -> bytes:
    """A header as it begins a safetensors file: its length, and blanks up to a multiple of eight."""
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def read_weights(path: Path, sha256: str | None = None) -> dict[str, Tensor]:
    """A state dict from a .safetensors or a torch file (only tensors and plain values are read). sha256: what
    the file must be. Raises KdrunError for a missing, damaged or foreign file.
    """
    path = expanded(path)
    if not path.is_file():
        raise KdrunError("checkpoint", str(path), "no such file")
    try:
        if path.suffix != ".safetensors":
            return state_dict(load_plain(path), path)
        path.open("rb").close()  # safetensors calls a file that may not be read one that is not there
        with safe_open(path, framework="pt") as file:  # before the digest, since a foreign file can be large
            if problem := damage(path, sha256):
                raise KdrunError("checkpoint", str(path), problem)
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except OSError as error:
        raise KdrunError("checkpoint", str(path), f"cannot be read ({error.strerror or error})") from error
    except NotPlain as error:
        problem = (
            f"holds a {error.args[0]}, with more in it than tensors and plain values: save a state_dict()"
        )
        raise KdrunError("checkpoint", str(path), problem) from error
    except (SafetensorError, ValueError) as error:
        problem = "cannot be read: damaged, truncated, or no file of weights"
        raise KdrunError("checkpoint", str(path), problem) from error


def damage(path: Path, sha256: str | None = None) -> str:
    """What is wrong with a file of `save_weights`, in words; nothing if it is as it was written. Files of
    earlier versions state nothing of themselves. Raises OSError where it may not be read.
    """
    if not path.is_file():
        return "is damaged: a pipe, a device or a folder"
    about = path.stat()
    actual, stated = _digest(str(path), about.st_ino, about.st_mtime_ns, about.st_size)
    if any(wanted not in (None, actual) for wanted in (sha256, stated)):
        return "is damaged: its content is not what was written (SHA-256)"
    return ""


@lru_cache(maxsize=4096)
def _digest(path: str, inode: int, changed: int, size: int) -> tuple[str, str | None]:
    """The SHA-256 of a file with zeros in place of its own, and what it states: once for each state of it."""
    with open(path, "rb") as file:
        head = file.read(8)
        head += file.read(min(int.from_bytes(head, "little"), size))
        stated = STATED.findall(head)
        digest = hashlib.sha256(head.replace(_stating(stated[0]), _stating(BLANK)) if stated else head)
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest(), stated[0].decode() if stated else None


def load_into(model: nn.Module, tensors: Mapping[str, Tensor], key: str, value: str) -> None:
    """Puts all weights into the model, and the normalisation of images that they bring along, if any. Raises
    KdrunError if names or shapes are not the model's, or weights are no finite real numbers.
    """
    under = under_prefix(model, tensors, key, value)
    attach_from(model, under)
    kept = fitted(model, under, key, value)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name in kept:
                tensor.copy_(kept[name])
