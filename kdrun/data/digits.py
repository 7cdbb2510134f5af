"""The 1,797 digits of 8x8 pixels that come with kdrun (licence and origin: `files/DIGITS.md`)."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import torch

from kdrun.data.images import Part, Raw
from kdrun.errors import KdrunError

FILE = Path(__file__).with_name("files") / "digits.npz"
SHA256 = "b2dab7b501728c22e9119ad76740b2e17c77a231e42d1e592380d90886f1a05e"


def read(data_dir: Path) -> Raw:
    """All digits as one part, pixels 0..16. Raises KdrunError for a file that is not the shipped one."""
    with np.load(io.BytesIO(shipped(FILE)), allow_pickle=False) as arrays:
        images = torch.from_numpy(arrays["images"]).unsqueeze(1)
        labels = torch.from_numpy(arrays["labels"]).long()
    return Raw(Part(images, labels), None, tuple("0123456789"))


def shipped(file: Path) -> bytes:
    """The bytes of the shipped file, checked."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise KdrunError("dataset", "digits", f"{file} cannot be read; install kdrun again") from error
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise KdrunError("dataset", "digits", f"{file} is damaged; install kdrun again")
    return content
