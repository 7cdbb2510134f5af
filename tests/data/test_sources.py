"""Sources that read published files: tiny files in the same formats, damaged ones, missing ones."""

from __future__ import annotations

import gzip
import hashlib
import pickle
import socket
import struct
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import datasets

from kdrun.data import fake
from kdrun.data import torchvision as published
from kdrun.errors import KdrunError
from kdrun.extras import install

PIXELS = np.random.RandomState(0)
FOLDERS = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST"}
CIFAR = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}
MATLAB = ("train_32x32.mat", "test_32x32.mat")


def bytes_of(*shape):
    return PIXELS.randint(0, 256, shape).astype(np.uint8)


def idx(values):
    return bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def write_mnist(data_dir, folder="MNIST", packed=False, n=(6, 4)):
    raw = data_dir / folder / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    parts = []
    for stem, count in zip(("train", "t10k"), n, strict=True):
        images, labels = bytes_of(count, 28, 28), np.arange(count, dtype=np.uint8)
        parts.append((images, labels))
        for name, values in ((f"{stem}-images-idx3-ubyte", images), (f"{stem}-labels-idx1-ubyte", labels)):
            path = raw / (name + ".gz" * packed)
            path.write_bytes(gzip.compress(idx(values)) if packed else idx(values))
    return parts


def write_cifar(data_dir, variant="cifar100"):
    source = CIFAR[variant]
    folder = data_dir / source.base_folder
    folder.mkdir(parents=True)
    classes, labelled = (10, "labels") if variant == "cifar10" else (100, "fine_labels")
    written = {}
    for n, (name, _) in enumerate((*source.train_list, *source.test_list)):
        data, labels = bytes_of(3, 3072), [n, n + 1, classes - 1]
        written[name] = data, labels
        text = {"data": data, labelled: labels, "filenames": ["a", "b", "c"]}
        (folder / name).write_bytes(pickle.dumps(text, protocol=2))
    names = [f"class {n}" for n in range(classes)]
    meta = {source.meta["key"]: names}
    (folder / source.meta["filename"]).write_bytes(pickle.dumps(meta, protocol=2))
    return written


def publish_cifar(monkeypatch, data_dir, variant="cifar100"):
    """Make torchvision take the files that are there for the published ones."""
    source = CIFAR[variant]
    folder = data_dir / source.base_folder
    for name in ("train_list", "test_list"):
        files = [[file, md5(folder / file)] for file, _ in getattr(source, name)]
        monkeypatch.setattr(source, name, files)
    monkeypatch.setattr(source, "meta", source.meta | {"md5": md5(folder / source.meta["filename"])})


def write_svhn(data_dir, n=5):
    """As scipy writes them, compressed as the published ones are."""
    io = pytest.importorskip("scipy.io")
    data_dir.mkdir(exist_ok=True)
    images, labels = bytes_of(32, 32, 3, n), np.array([[10], [1], [9], [2], [10]], np.uint8)[:n]
    for name in MATLAB:
        io.savemat(data_dir / name, {"X": images, "y": labels}, do_compression=True)
    return images


def publish_svhn(monkeypatch, data_dir):
    files = {
        part: [url, name, md5(data_dir / name)]
        for part, (url, name, _) in datasets.SVHN.split_list.items()
        if part != "extra"
    }
    monkeypatch.setattr(datasets.SVHN, "split_list", files)


@pytest.fixture
def offline(monkeypatch):
    """Any attempt to reach a server fails at once."""

    def refuse(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.parametrize(("variant", "folder"), FOLDERS.items())
@pytest.mark.parametrize("packed", [False, True])
def test_mnist_is_read_packed_or_not(tmp_path, variant, folder, packed, offline):
    written = write_mnist(tmp_path, folder, packed)
    files = sorted(tmp_path.rglob("*"))
    raw = published.read(tmp_path, variant=variant)
    for part, (images, labels) in zip((raw.train, raw.test), written, strict=True):
        assert part.images.equal(torch.from_numpy(images).unsqueeze(1))
        assert part.labels.equal(torch.from_numpy(labels).long())
    assert sorted(tmp_path.rglob("*")) == files


def test_classes_have_the_names_that_they_always_had(tmp_path):
    for variant, folder in FOLDERS.items():
        write_mnist(tmp_path, folder)
        names = published.read(tmp_path, variant=variant).classes
        theirs = getattr(datasets, folder).classes
        assert [name.lower() for name in names] == [name.lower().split(" - ")[0] for name in theirs]
    assert tuple("0123456789") == published.DIGITS and published.CLOTHES[-1] == "ankle boot"


@pytest.mark.parametrize(
    ("name", "change", "problem"),
    [
        ("train-images-idx3-ubyte", lambda b: b[:-1], r"no idx file \(.*4703"),
        ("train-images-idx3-ubyte", lambda b: b[:3], "no idx file"),
        ("train-images-idx3-ubyte", lambda b: b"", "no idx file"),
        ("train-labels-idx1-ubyte", lambda b: b"\0\0\x09" + b[3:], "no idx file"),
        ("t10k-labels-idx1-ubyte", lambda b: idx(np.arange(3, dtype=np.uint8)), "3 labels for 4 images"),
        ("t10k-labels-idx1-ubyte", lambda b: b[:-1] + b"\x0a", "a label of 10"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_damaged_mnist_file_is_named(tmp_path, name, change, problem, packed):
    write_mnist(tmp_path, packed=packed)
    path = tmp_path / "MNIST" / "raw" / (name + ".gz" * packed)
    path.write_bytes(
        gzip.compress(change(gzip.decompress(path.read_bytes()))) if packed else change(path.read_bytes())
    )
    with pytest.raises(
        KdrunError, match=rf"^dataset=mnist: .*{path.name} is damaged: {problem}.*\. Remove it"
    ):
        published.read(tmp_path, variant="mnist")


@pytest.mark.parametrize("change", [lambda b: b[:-20], lambda b: b"x" + b, lambda b: b[:60] + b"xx" + b[62:]])
def test_a_damaged_gzip_is_named(tmp_path, change):
    write_mnist(tmp_path, packed=True)
    path = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte.gz"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(KdrunError, match=r"train-images-idx3-ubyte\.gz is damaged"):
        published.read(tmp_path, variant="mnist")


@pytest.mark.parametrize("variant", CIFAR)
def test_cifar_is_read_as_stored(tmp_path, monkeypatch, variant):
    written = list(write_cifar(tmp_path, variant).values())
    publish_cifar(monkeypatch, tmp_path, variant)
    raw = published.read(tmp_path, variant=variant)
    train = np.concatenate([data for data, _ in written[:-1]]).reshape(-1, 3, 32, 32)
    assert raw.train.images.equal(torch.from_numpy(train)) and raw.train.images.is_contiguous()
    assert raw.train.labels.tolist() == [label for _, labels in written[:-1] for label in labels]
    assert raw.test.images.equal(torch.from_numpy(written[-1][0].reshape(-1, 3, 32, 32)))
    assert raw.test.labels.tolist() == written[-1][1]
    assert raw.classes[3] == "class 3"
    assert len(raw.classes) == (10 if variant == "cifar10" else 100)


class Malicious:
    """What it asks for is called while it is read, by anything that trusts it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return exec, (f"open({str(self.path)!r}, 'w')",)


@pytest.mark.parametrize("variant", CIFAR)
def test_nothing_in_a_file_is_run_and_a_changed_one_is_named(tmp_path, monkeypatch, variant):
    write_cifar(tmp_path, variant)
    publish_cifar(monkeypatch, tmp_path, variant)
    trace, folder = tmp_path / "trace", tmp_path / CIFAR[variant].base_folder
    for path in folder.iterdir():
        content = path.read_bytes()
        for changed in (pickle.dumps(Malicious(trace)), content[:-1], content[:40], b""):
            path.write_bytes(changed)
            with pytest.raises(KdrunError) as caught:
                published.read(tmp_path, variant=variant)
            problem = "is damaged: its MD5 is not that of the published file. Remove it"
            assert str(caught.value).startswith(f"dataset={variant}: {path} {problem}")
        path.write_bytes(content)
    assert published.read(tmp_path, variant=variant) and not trace.exists()


def test_a_reader_that_fails_for_another_reason_is_not_hidden(tmp_path, monkeypatch):
    write_cifar(tmp_path)
    publish_cifar(monkeypatch, tmp_path)

    def fail(*_, **__):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(datasets.CIFAR100, "__init__", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        published.read(tmp_path, variant="cifar100")


def test_svhn_is_read_with_ten_as_the_digit_zero(tmp_path, monkeypatch):
    images = write_svhn(tmp_path)
    publish_svhn(monkeypatch, tmp_path)
    raw = published.read(tmp_path, variant="svhn")
    assert raw.train.images.equal(torch.from_numpy(images).permute(3, 2, 0, 1))
    assert raw.train.labels.tolist() == [0, 1, 9, 2, 0] and raw.train.labels.dtype == torch.int64
    assert raw.test.images.is_contiguous() and raw.train.images.dtype == torch.uint8


def test_a_damaged_svhn_file_is_named(tmp_path, monkeypatch):
    write_svhn(tmp_path)
    publish_svhn(monkeypatch, tmp_path)
    path = tmp_path / MATLAB[1]
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(KdrunError, match=r"^dataset=svhn: .*test_32x32\.mat is damaged: its MD5"):
        published.read(tmp_path, variant="svhn")


def test_svhn_without_scipy_is_one_line_and_downloads_nothing(tmp_path, monkeypatch, offline):
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(KdrunError) as caught:
        published.read(tmp_path, variant="svhn")
    assert str(caught.value) == f"dataset=svhn: needs scipy to read its files: {install('svhn')}"


@pytest.fixture
def scipy(monkeypatch):
    """As if it were installed: what is tested comes before it reads anything."""
    monkeypatch.setattr(published, "_has_scipy", lambda: True)


@pytest.mark.parametrize("name", published.VARIANTS)
def test_missing_files_are_one_line_and_nothing_is_printed(tmp_path, offline, scipy, capfd, name):
    with pytest.raises(KdrunError) as caught:
        published.read(tmp_path / "data", variant=name)
    message = str(caught.value)
    assert message.startswith(f"dataset={name}: {tmp_path / 'data'}")
    assert "is not there and could not be downloaded (" in message
    assert message.endswith("Put it there or set data_dir=")
    assert "\n" not in message
    assert "no network" in message
    assert capfd.readouterr() == ("", "")
    assert socket.getdefaulttimeout() is None


def test_a_folder_that_cannot_be_made_is_the_same_error(scipy):
    with pytest.raises(KdrunError, match="could not be downloaded"):
        published.read(Path("/proc/nope"), variant="svhn")


def test_nothing_is_downloaded_into_a_file(tmp_path, scipy, monkeypatch):
    (tmp_path / "data").write_text("a file where the folder should be")
    monkeypatch.setattr("kdrun.data.torchvision.fetched", lambda *given: pytest.fail("downloaded"))
    with pytest.raises(KdrunError, match=r"^data_dir=.*data: is a file, not a folder$"):
        published.read(tmp_path / "data", variant="svhn")


@pytest.mark.parametrize("variant", published.VARIANTS)
def test_missing_files_are_downloaded_once(tmp_path, monkeypatch, capfd, scipy, variant):
    """Down to the function with which torchvision fetches a file."""
    if variant == "svhn":
        pytest.importorskip("scipy")
    fetched = []

    def arrive(*_, **__):
        print("100%")
        fetched.append(variant)
        if variant in CIFAR:
            write_cifar(tmp_path, variant)
            publish_cifar(monkeypatch, tmp_path, variant)
        elif variant in FOLDERS and len(fetched) == 1:
            write_mnist(tmp_path, FOLDERS[variant])
        elif variant == "svhn":
            write_svhn(tmp_path)
            publish_svhn(monkeypatch, tmp_path)

    module = {"cifar10": "cifar", "cifar100": "cifar", "svhn": "svhn"}.get(variant, "mnist")
    fetch_file = "download_url" if variant == "svhn" else "download_and_extract_archive"
    monkeypatch.setattr(f"torchvision.datasets.{module}.{fetch_file}", arrive)
    first = published.read(tmp_path, variant=variant)
    count = len(fetched)
    again = published.read(tmp_path, variant=variant)
    assert len(fetched) == count and count <= 4
    assert again.train.images.equal(first.train.images)
    assert capfd.readouterr() == ("", "")


def test_downloads_into_one_folder_wait_for_each_other(tmp_path):
    calls, started, go = [], threading.Event(), threading.Event()

    def download():
        calls.append(1)
        started.set()
        assert go.wait(10)
        (tmp_path / "a").write_text("here")

    def ensure():
        published.ensure("x", [[tmp_path / "a"]], tmp_path, download)

    first, second = threading.Thread(target=ensure), threading.Thread(target=ensure)
    first.start()
    assert started.wait(10)
    second.start()
    go.set()
    first.join(10)
    second.join(10)
    assert calls == [1]


def test_an_unknown_variant_is_refused(tmp_path):
    with pytest.raises(KdrunError, match=r"dataset\.variant=mnits: no such variant\. Choices: "):
        published.read(tmp_path, variant="mnits")


def test_fake_images_are_seeded_balanced_and_can_be_learnt(tmp_path):
    raw = fake.read(tmp_path, per_class=20, classes=4, size=12, channels=2)
    assert raw.test is None
    assert raw.train.images.shape == (80, 2, 12, 12)
    assert raw.train.labels.bincount().tolist() == [20] * 4
    assert raw.train.images.equal(
        fake.read(tmp_path, per_class=20, classes=4, size=12, channels=2).train.images
    )
    other = fake.read(tmp_path, per_class=20, classes=4, size=12, channels=2, image_seed=1)
    assert not raw.train.images.equal(other.train.images)
    images = raw.train.images.float().flatten(1)
    means = torch.stack([images[:40][raw.train.labels[:40] == c].mean(0) for c in range(4)])
    nearest = torch.cdist(images[40:], means).argmin(1)
    assert (nearest == raw.train.labels[40:]).float().mean() > 0.9


@pytest.mark.parametrize(("key", "value"), [("per_class", 0), ("classes", 1), ("size", 0), ("noise", -0.1)])
def test_fake_images_out_of_range_are_refused(tmp_path, key, value):
    with pytest.raises(KdrunError, match=f"dataset.{key}={value}: must be at least"):
        fake.read(tmp_path, **{key: value})
