"""CIFAR-10, CIFAR-100, MNIST, Fashion-MNIST and SVHN: found, downloaded and read by torchvision."""

from __future__ import annotations

import contextlib
import gzip
import importlib.util
import io
import logging
import socket
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdrun.artefacts import locked
from kdrun.data.images import Part, Raw
from kdrun.errors import KdrunError, first_line
from kdrun.extras import install
from kdrun.paths import no_folder

DIGITS = tuple("0123456789")
CLOTHES = (
    *("T-shirt/top", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)
IDX = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")

SECONDS = 10.0
"""How long a server may stay silent before a download counts as failed."""


def read(data_dir: Path, *, variant: str) -> Raw:
    """The images of `cifar10`, `cifar100` (its 100 fine classes), `mnist`, `fashion_mnist` or `svhn` (without
    its extra part), with their own test part. Raises KdrunError for files that are missing or damaged,
    another variant, a missing scipy.
    """
    if variant not in VARIANTS:
        raise KdrunError("dataset.variant", variant, "no such variant", VARIANTS)
    return VARIANTS[variant](variant, data_dir)


def _cifar(variant: str, data_dir: Path) -> Raw:
    """Two or more pickles, which torchvision opens only if they are the published ones to the byte."""
    from torchvision import datasets

    source = datasets.CIFAR10 if variant == "cifar10" else datasets.CIFAR100
    meta = (source.meta["filename"], source.meta["md5"])
    sums = {
        data_dir / source.base_folder / name: md5
        for name, md5 in (*source.train_list, *source.test_list, meta)
    }
    ensure(variant, [[path] for path in sums], data_dir, lambda: source(str(data_dir), download=True))
    train, test = (_published(variant, sums, source, str(data_dir), train=part) for part in (True, False))
    classes = tuple(map(str, train.classes))
    return Raw(_cifar_part(train), _cifar_part(test), classes)


def _cifar_part(source: Any) -> Part:
    """From (N, 32, 32, 3), as torchvision turns them for Pillow."""
    return Part(torch.from_numpy(source.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(source.targets))


def _mnist(variant: str, data_dir: Path) -> Raw:
    """Four idx files, gzipped or not."""
    from torchvision import datasets
    from torchvision.datasets.mnist import read_image_file, read_label_file

    source = datasets.MNIST if variant == "mnist" else datasets.FashionMNIST
    folder = data_dir / source.__name__ / "raw"
    files = [[folder / f"{stem}-ubyte", folder / f"{stem}-ubyte.gz"] for stem in IDX]
    paths = ensure(variant, files, data_dir, lambda: source(str(data_dir), download=True))
    parts: list[Part] = []
    for images, labels in (paths[:2], paths[2:]):
        pixels, classes = _idx(variant, images, read_image_file), _idx(variant, labels, read_label_file)
        if len(pixels) != len(classes):
            raise damaged(variant, labels, f"{len(classes)} labels for {len(pixels)} images")
        if len(classes) and classes.max() > 9:
            raise damaged(variant, labels, f"a label of {classes.max()}")
        parts.append(Part(pixels.unsqueeze(1), classes))
    train, test = parts
    return Raw(train, test, DIGITS if variant == "mnist" else CLOTHES)


def _idx(variant: str, path: Path, read_file: Callable[[str], Tensor]) -> Tensor:
    """The array of bytes in an idx file, which torchvision reads only if it is unpacked."""
    try:
        if path.suffix != ".gz":
            return read_file(str(path))
        with tempfile.TemporaryDirectory() as folder:
            unpacked = Path(folder) / path.stem
            unpacked.write_bytes(gzip.decompress(path.read_bytes()))
            return read_file(str(unpacked))
    # What is no idx file makes torchvision raise anything from AssertionError to RuntimeError.
    except Exception as error:
        raise damaged(variant, path, f"no idx file ({first_line(error)})") from error


def _svhn(variant: str, data_dir: Path) -> Raw:
    """Two MATLAB files, which torchvision reads by scipy and only if they are the published ones."""
    from torchvision import datasets

    if not _has_scipy():
        raise KdrunError("dataset", variant, f"needs scipy to read its files: {install('svhn')}")
    splits = {name: datasets.SVHN.split_list[name] for name in ("train", "test")}
    sums = {data_dir / name: md5 for _, name, md5 in splits.values()}

    def download() -> None:
        for name in splits:
            datasets.SVHN(str(data_dir), split=name, download=True)

    ensure(variant, [[path] for path in sums], data_dir, download)
    parts: list[Part] = []
    for name in splits:
        source = _published(variant, sums, datasets.SVHN, str(data_dir), split=name)
        parts.append(Part(torch.from_numpy(source.data).contiguous(), torch.from_numpy(source.labels)))
    train, test = parts
    return Raw(train, test, DIGITS)


def _has_scipy() -> bool:
    return importlib.util.find_spec("scipy") is not None


def _published(
    variant: str, sums: dict[Path, str], source: Callable[..., Any], *folder: str, **part: Any
) -> Any:
    """torchvision's data set of one part. sums: the MD5 of each file. Raises KdrunError for other files."""
    from torchvision.datasets.utils import check_integrity

    try:
        return source(*folder, **part)
    except RuntimeError as error:
        wrong = next((path for path, md5 in sums.items() if not check_integrity(str(path), md5)), None)
        if wrong is None:
            raise
        raise damaged(variant, wrong, "its MD5 is not that of the published file") from error


def ensure(
    name: str, files: Sequence[Sequence[Path]], data_dir: Path, download: Callable[[], object]
) -> list[Path]:
    """The files of data set `name`: the first of each group of alternatives that exists. download: called
    once if a file is missing, without its output. Raises KdrunError if one is still missing afterwards.
    """
    if problem := no_folder(data_dir):
        raise KdrunError("data_dir", data_dir, problem)
    reason = "" if present(files) else fetched(name, files, data_dir, download)
    paths = present(files)
    if paths is None:
        missing = next(group[0] for group in files if not any(path.is_file() for path in group))
        what = missing if missing.parent.is_dir() else missing.parent
        problem = f"{what} is not there and could not be downloaded ({reason}). Put it there or set data_dir="
        raise KdrunError("dataset", name, problem)
    return paths


def present(files: Sequence[Sequence[Path]]) -> list[Path] | None:
    """The first file of each group that exists, or None if a group has none."""
    first = [next((path for path in group if path.is_file()), None) for group in files]
    return None if None in first else [path for path in first if path]


def fetched(
    name: str, files: Sequence[Sequence[Path]], data_dir: Path, download: Callable[[], object]
) -> str:
    """Downloads without output, with a time limit on silence. Returns a short reason if that fails."""
    logging.getLogger(__name__).info("downloading %s into %s", name, data_dir)
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SECONDS)
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with (
            locked(data_dir),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            if present(files) is None:
                download()
    # Whatever goes wrong on the way to a server means the same to the user: the files are not there.
    except Exception as error:
        last = [type(error).__name__, *str(getattr(error, "reason", error)).strip().splitlines()][-1]
        return last.strip()[:80]
    finally:
        socket.setdefaulttimeout(before)
    return "nothing arrived"


def damaged(name: str, path: Path, problem: str) -> KdrunError:
    """The error for a file that is there and cannot be used."""
    return KdrunError("dataset", name, f"{path} is damaged: {problem}. Remove it to have it downloaded again")


VARIANTS: dict[str, Callable[[str, Path], Raw]] = {
    "cifar10": _cifar,
    "cifar100": _cifar,
    "mnist": _mnist,
    "fashion_mnist": _mnist,
    "svhn": _svhn,
}
