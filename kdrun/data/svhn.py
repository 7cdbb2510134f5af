"""SVHN, cropped house numbers: `train_32x32.mat` and `test_32x32.mat`, where torchvision has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from kdrun.data.fetch import damaged, ensure
from kdrun.data.images import Part, Raw
from kdrun.data.mat5 import read_mat

FILES = ("train_32x32.mat", "test_32x32.mat")


def read(data_dir: Path) -> Raw:
    """The 32x32 colour images of digits (without the extra part), with their own test part.

    Raises KdrunError for files that are missing or damaged.
    """
    files = [[data_dir / name] for name in FILES]
    train, test = ensure("svhn", files, data_dir, lambda: download(data_dir))
    return Raw(read_part(train), read_part(test), tuple("0123456789"))


def download(data_dir: Path) -> None:
    """Let torchvision fetch and check both files (its own reading of them would need scipy)."""
    from torchvision.datasets import SVHN
    from torchvision.datasets.utils import download_url

    for split in ("train", "test"):
        url, name, md5 = SVHN.split_list[split]
        download_url(url, str(data_dir), name, md5)


def read_part(path: Path) -> Part:
    """One part. The file stores X (32, 32, 3, N) and y (N, 1), in which the digit 0 is class 10."""
    try:
        arrays = read_mat(path.read_bytes())
        pixels, classes = arrays["X"], arrays["y"].reshape(-1)
    except (ValueError, OSError) as error:
        raise damaged("svhn", path, str(error)) from error
    except KeyError as error:
        raise damaged("svhn", path, f"it holds no array {error}") from error
    if pixels.shape != (32, 32, 3, classes.size) or pixels.dtype != np.uint8:
        raise damaged("svhn", path, f"{classes.size} labels for images of {pixels.shape}")
    images = torch.from_numpy(np.ascontiguousarray(pixels.transpose(3, 2, 0, 1)))
    labels = torch.from_numpy(classes.astype(np.int64))
    if labels.min() < 1 or labels.max() > 10:
        raise damaged("svhn", path, "a label outside 1 to 10")
    return Part(images, labels % 10)
