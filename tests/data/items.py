"""Data sets of torch as users write them, for the tests of their reader."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

DRAW = torch.Generator().manual_seed(0)
PIXELS = torch.randint(0, 256, (12, 8, 8, 3), dtype=torch.uint8, generator=DRAW).numpy()


class Items(Dataset[Any]):
    """Any list of items as a data set."""

    def __init__(self, kind: str = "pil", n: int = 12) -> None:
        self.kind, self.n = kind, n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, position: int) -> Any:
        array = PIXELS[position % 12]
        image: Any = {
            "pil": lambda: Image.fromarray(array),
            "array": lambda: array,
            "float array": lambda: array / 255,
            "tensor": lambda: torch.from_numpy(array).permute(2, 0, 1),
            "float tensor": lambda: torch.from_numpy(array).permute(2, 0, 1) / 255,
            "grey": lambda: array[:, :, 0],
            "sizes": lambda: Image.fromarray(array).resize((8 + position, 8)),
            "random": lambda: np.random.default_rng().integers(0, 256, (8, 8, 3), dtype=np.uint8),
            "normalised": lambda: torch.from_numpy(array).permute(2, 0, 1) / 255 - 0.5,
            "list": lambda: array.tolist(),
            "integers": lambda: array.astype(np.int32),
            "float picture": lambda: Image.fromarray((array[:, :, 0] / 255).astype(np.float32)),
            "integer picture": lambda: Image.fromarray(array[:, :, 0].astype(np.int32)),
            "deep picture": lambda: Image.fromarray(array[:, :, 0].astype(np.uint16) * 256),
            "too deep": lambda: Image.fromarray(array[:, :, 0].astype(np.int32) * 256),
            "channels first": lambda: array.transpose(2, 0, 1),
            "grey channel first": lambda: array[None, :, :, 0],
            "floats channels first": lambda: array.transpose(2, 0, 1) / 255,
            "tensor channels last": lambda: torch.from_numpy(array),
            "many": lambda: np.concatenate([array] * 4, 2)[:3],
            "many tensor": lambda: torch.from_numpy(np.concatenate([array] * 4, 2)[:3]).permute(2, 0, 1),
        }[self.kind]()
        return image, position % 3


class NoPair(Items):
    def __getitem__(self, position: int) -> Any:
        return PIXELS[position]


class Named(Items):
    """Says its labels beforehand."""

    targets: Any = (0, 1, 2) * 4


class Wrong(Items):
    targets = torch.tensor([0, 1, 2, 0, 1, 2, 1, 1, 2, 0, 1, 2])


class Names(Items):
    classes = ("bus", "car", "train")

    def __getitem__(self, position: int) -> Any:
        image, label = super().__getitem__(position)
        return image, None if position == 0 else torch.tensor(label)
