"""Sources that read published files: tiny files in the same formats, damaged ones, missing ones."""

from __future__ import annotations

import gzip
import pickle
import socket
import struct
import threading
import zlib

import numpy as np
import pytest
import torch

from kdrun.data import cifar, fake, fetch, mnist, pickles, svhn
from kdrun.data.mat5 import read_mat
from kdrun.errors import KdrunError

PIXELS = np.random.RandomState(0)


def bytes_of(*shape):
    return PIXELS.randint(0, 256, shape).astype(np.uint8)


def idx(values):
    return bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


def write_mnist(data_dir, folder="MNIST", packed=False, n=(6, 4)):
    raw = data_dir / folder / "raw"
    raw.mkdir(parents=True)
    parts = []
    for stem, count in zip(("train", "t10k"), n, strict=True):
        images, labels = bytes_of(count, 28, 28), np.arange(count, dtype=np.uint8)
        parts.append((images, labels))
        for name, values in ((f"{stem}-images-idx3-ubyte", images), (f"{stem}-labels-idx1-ubyte", labels)):
            path = raw / (name + ".gz" * packed)
            path.write_bytes(gzip.compress(idx(values)) if packed else idx(values))
    return parts


def write_cifar(data_dir, variant="cifar100"):
    this = cifar.VARIANTS[variant]
    folder = data_dir / this.folder
    folder.mkdir(parents=True)
    classes = 10 if variant == "cifar10" else 100
    written = {}
    for n, name in enumerate((*this.train, this.test)):
        data, labels = bytes_of(3, 3072), [n, n + 1, classes - 1]
        written[name] = data, labels
        text = {b"data": data, this.labels.encode(): labels, b"filenames": [b"a", b"b", b"c"]}
        (folder / name).write_bytes(pickle.dumps(text, protocol=2))
    names = [f"class {n}".encode() for n in range(classes)]
    (folder / this.meta).write_bytes(pickle.dumps({this.names.encode(): names}, protocol=2))
    return written


def mat_element(kind, content):
    return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)


def mat_variable(name, values, packed=True, small=False):
    flags = mat_element(6, struct.pack("<II", 9, 0))
    shape = mat_element(5, struct.pack(f"<{values.ndim}i", *values.shape))
    title = struct.pack("<I4s", len(name) << 16 | 1, name) if small else mat_element(1, name)
    matrix = mat_element(14, flags + shape + title + mat_element(2, values.tobytes(order="F")))
    packed_up = zlib.compress(matrix)
    return struct.pack("<II", 15, len(packed_up)) + packed_up if packed else matrix


def mat_file(*variables):
    return b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x100) + b"IM" + b"".join(variables)


def write_svhn(data_dir, n=5):
    data_dir.mkdir(exist_ok=True)
    images, labels = bytes_of(32, 32, 3, n), np.array([[10], [1], [9], [2], [10]], np.uint8)[:n]
    content = mat_file(mat_variable(b"X", images, small=True), mat_variable(b"y", labels))
    for name in svhn.FILES:
        (data_dir / name).write_bytes(content)
    return images


@pytest.fixture
def offline(monkeypatch):
    """Any attempt to reach a server fails at once."""

    def refuse(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.parametrize(("variant", "folder"), mnist.FOLDERS.items())
@pytest.mark.parametrize("packed", [False, True])
def test_mnist_is_read_packed_or_not(tmp_path, variant, folder, packed):
    written = write_mnist(tmp_path, folder, packed)
    raw = mnist.read(tmp_path, variant=variant)
    for part, (images, labels) in zip((raw.train, raw.test), written, strict=True):
        assert part.images.equal(torch.from_numpy(images).unsqueeze(1))
        assert part.labels.equal(torch.from_numpy(labels).long())
    assert len(raw.classes) == 10


def test_mnist_equals_torchvision(tmp_path):
    from torchvision.datasets import MNIST

    write_mnist(tmp_path)
    theirs, ours = MNIST(str(tmp_path), train=False), mnist.read(tmp_path, variant="mnist").test
    assert ours.images[:, 0].equal(theirs.data)
    assert ours.labels.equal(theirs.targets)


@pytest.mark.parametrize(
    ("name", "change", "problem"),
    [
        ("train-images-idx3-ubyte", lambda b: b[:-1], "4703 bytes for 6 x 28 x 28 values"),
        ("train-images-idx3-ubyte", lambda b: b[:3], "not an idx file of bytes in 3 dimensions"),
        (
            "train-labels-idx1-ubyte",
            lambda b: b"\0\0\x09" + b[3:],
            "not an idx file of bytes in 1 dimensions",
        ),
        ("t10k-labels-idx1-ubyte", lambda b: idx(np.arange(3, dtype=np.uint8)), "3 labels for 4 images"),
        ("t10k-labels-idx1-ubyte", lambda b: b[:-1] + b"\x0a", "a label of 10"),
    ],
)
def test_a_damaged_mnist_file_is_named(tmp_path, name, change, problem):
    write_mnist(tmp_path)
    path = tmp_path / "MNIST" / "raw" / name
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(KdrunError, match=rf"^dataset=mnist: .*{name} is damaged: {problem}\. Remove it"):
        mnist.read(tmp_path, variant="mnist")


@pytest.mark.parametrize("change", [lambda b: b[:-20], lambda b: b"x" + b, lambda b: b[:60] + b"xx" + b[62:]])
def test_a_damaged_gzip_is_named(tmp_path, change):
    write_mnist(tmp_path, packed=True)
    path = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte.gz"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(KdrunError, match=r"train-images-idx3-ubyte\.gz is damaged"):
        mnist.read(tmp_path, variant="mnist")


@pytest.mark.parametrize("variant", cifar.VARIANTS)
def test_cifar_is_read_as_stored(tmp_path, variant):
    written = list(write_cifar(tmp_path, variant).values())
    raw = cifar.read(tmp_path, variant=variant)
    train = np.concatenate([data for data, _ in written[:-1]]).reshape(-1, 3, 32, 32)
    assert raw.train.images.equal(torch.from_numpy(train))
    assert raw.train.labels.tolist() == [label for _, labels in written[:-1] for label in labels]
    assert raw.test.images.equal(torch.from_numpy(written[-1][0].reshape(-1, 3, 32, 32)))
    assert raw.test.labels.tolist() == written[-1][1]
    assert raw.classes[3] == "class 3"
    assert len(raw.classes) == (10 if variant == "cifar10" else 100)


@pytest.mark.parametrize("module", ["numpy.core.multiarray", "numpy._core.multiarray"])
def test_arrays_of_either_numpy_are_read(tmp_path, module):
    values = bytes_of(2, 3)
    text = pickle.dumps({b"data": values}, protocol=2)
    theirs = next(name for name in (b"numpy._core.multiarray", b"numpy.core.multiarray") if name in text)
    path = tmp_path / "batch"
    path.write_bytes(text.replace(theirs, module.encode()))
    assert (pickles.array(pickles.read_pickle(path)["data"]) == values).all()


class Malicious:
    """What it asks for is called while it is read, by anything that trusts it."""

    def __init__(self, call, *given):
        self.call, self.given = call, given

    def __reduce__(self):
        return self.call, self.given


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    ("call", "asks"),
    [
        (lambda path: Malicious(exec, f"open({str(path)!r}, 'w')"), "exec"),
        (lambda path: Malicious(open, str(path), "w"), "open"),
        (lambda path: Malicious(getattr, "", "format"), "getattr"),
        (lambda path: Malicious(np.save, str(path), 1), "save"),
    ],
)
def test_nothing_in_a_file_is_run(tmp_path, protocol, call, asks):
    write_cifar(tmp_path)
    path, trace = tmp_path / "cifar-100-python" / "train", tmp_path / "trace"
    path.write_bytes(pickle.dumps({b"data": call(trace)}, protocol=protocol))
    with pytest.raises(
        KdrunError, match=rf"python/train is damaged: it asks to run [\w.]+{asks}\. Remove it"
    ):
        cifar.read(tmp_path, variant="cifar100")
    assert not trace.exists()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({b"data": bytes_of(3, 3072), b"fine_labels": [1, 2]}, "2 labels for 3 images"),
        ({b"data": bytes_of(1, 3072), b"fine_labels": [100]}, "a label outside 0 to 99"),
        ({b"data": bytes_of(1, 3072), b"fine_labels": [-1]}, "a label outside 0 to 99"),
        ({b"data": bytes_of(1, 3072), b"fine_labels": None}, "not iterable"),
        ({b"data": bytes_of(1, 3000), b"fine_labels": [1]}, "cannot reshape"),
        ({b"data": np.ones((1, 3072)), b"fine_labels": [1]}, "an array of another kind"),
        ({b"data": np.asfortranarray(bytes_of(2, 3072)), b"fine_labels": [1, 2]}, "an array of another kind"),
        ({b"data": [1], b"fine_labels": [1]}, "no array where one is expected"),
        ({}, "no array where one is expected"),
        ([1], "it holds no dictionary"),
    ],
)
def test_a_wrong_cifar_file_is_named(tmp_path, content, problem):
    write_cifar(tmp_path)
    (tmp_path / "cifar-100-python" / "train").write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(KdrunError, match=rf"^dataset=cifar100: .*python/train is damaged: .*{problem}"):
        cifar.read(tmp_path, variant="cifar100")


def test_a_truncated_cifar_file_is_named_wherever_it_ends(tmp_path):
    write_cifar(tmp_path)
    path = tmp_path / "cifar-100-python" / "test"
    whole = path.read_bytes()
    for end in (0, 1, 2, 17, 40, 60, 100, 200, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:end])
        with pytest.raises(KdrunError, match="python/test is damaged"):
            cifar.read(tmp_path, variant="cifar100")


def test_random_bytes_are_one_kind_of_error(tmp_path):
    path, draw = tmp_path / "batch", np.random.RandomState(1)
    for _ in range(300):
        path.write_bytes(b"\x80\x02" + draw.bytes(40))
        with pytest.raises(ValueError, match=r"."):
            pickles.read_pickle(path)


def test_a_file_that_numbers_its_values_in_billions_takes_no_memory(tmp_path):
    path = tmp_path / "batch"
    path.write_bytes(b"\x80\x02}r" + struct.pack("<I", 2**32 - 1) + b".")
    assert pickles.read_pickle(path) == {}


def test_a_cifar_without_class_names_is_named(tmp_path):
    write_cifar(tmp_path)
    (tmp_path / "cifar-100-python" / "meta").write_bytes(pickle.dumps({}, protocol=2))
    with pytest.raises(KdrunError, match="python/meta is damaged: it names no classes"):
        cifar.read(tmp_path, variant="cifar100")


def test_svhn_is_read_with_ten_as_the_digit_zero(tmp_path):
    images = write_svhn(tmp_path)
    raw = svhn.read(tmp_path)
    assert raw.train.images.equal(torch.from_numpy(images).permute(3, 2, 0, 1))
    assert raw.train.labels.tolist() == [0, 1, 9, 2, 0]
    assert raw.test.images.is_contiguous()


@pytest.mark.parametrize("packed", [True, False])
def test_mat_files_of_scipy_are_read(tmp_path, packed):
    scipy_io = pytest.importorskip("scipy.io")
    given = {
        "X": bytes_of(4, 3, 2),
        "y": np.array([[1.5], [2]]),
        "text": "left out",
        "longer_name": bytes_of(2, 2),
    }
    scipy_io.savemat(tmp_path / "a.mat", given, do_compression=packed)
    found = read_mat((tmp_path / "a.mat").read_bytes())
    assert set(found) == {"X", "y", "longer_name"}
    for name, values in found.items():
        assert (values == given[name]).all()
        assert values.shape == given[name].shape


def svhn_file(images, labels):
    return mat_file(mat_variable(b"X", bytes_of(32, 32, 3, images)), mat_variable(b"y", labels))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda b: b"", "not a MATLAB 5 file"),
        (lambda b: b[:-30], "it ends too early"),
        (lambda b: b[:132] + b"\xff\xff" + b[134:], "ends too early|Error"),
        (lambda b: b[:300] + b"xx" + b[302:], "Error"),
        (lambda b: mat_file(), "it holds no array 'X'"),
        (lambda b: svhn_file(2, np.ones((3, 1), np.uint8)), "3 labels"),
        (lambda b: svhn_file(1, np.array([[11]], np.uint8)), "a label outside 1 to 10"),
        (lambda b: svhn_file(1, np.array([[0]], np.uint8)), "a label outside 1 to 10"),
    ],
)
def test_a_damaged_svhn_file_is_named(tmp_path, change, problem):
    write_svhn(tmp_path)
    path = tmp_path / "train_32x32.mat"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(KdrunError, match=rf"^dataset=svhn: .*train_32x32\.mat is damaged: .*({problem})"):
        svhn.read(tmp_path)


def test_random_changes_to_a_mat_file_are_errors_of_one_kind():
    whole = bytearray(mat_file(mat_variable(b"X", bytes_of(4, 4), packed=False)))
    draw, refused = np.random.RandomState(1), 0
    for _ in range(500):
        changed = whole.copy()
        changed[draw.randint(126, len(whole) - 16)] = draw.randint(256)
        try:
            read_mat(bytes(changed))
        except ValueError:
            refused += 1
    assert 100 < refused < 500


READ = {
    "mnist": lambda data_dir: mnist.read(data_dir, variant="mnist"),
    "fashion_mnist": lambda data_dir: mnist.read(data_dir, variant="fashion_mnist"),
    "cifar10": lambda data_dir: cifar.read(data_dir, variant="cifar10"),
    "cifar100": lambda data_dir: cifar.read(data_dir, variant="cifar100"),
    "svhn": svhn.read,
}


@pytest.mark.parametrize("name", READ)
def test_missing_files_are_one_line_and_nothing_is_printed(tmp_path, offline, capfd, name):
    with pytest.raises(KdrunError) as caught:
        READ[name](tmp_path / "data")
    message = str(caught.value)
    assert message.startswith(f"dataset={name}: {tmp_path / 'data'}")
    assert "is not there and could not be downloaded (" in message
    assert message.endswith("Put it there or set data_dir=")
    assert "\n" not in message
    assert "no network" in message
    assert capfd.readouterr() == ("", "")
    assert socket.getdefaulttimeout() is None


def test_a_folder_that_cannot_be_made_is_the_same_error(tmp_path):
    (tmp_path / "data").write_text("a file where the folder should be")
    with pytest.raises(KdrunError, match="could not be downloaded"):
        READ["svhn"](tmp_path / "data")


@pytest.mark.parametrize(
    ("name", "write"),
    [("mnist", write_mnist), ("cifar10", lambda d: write_cifar(d, "cifar10")), ("svhn", write_svhn)],
)
def test_missing_files_are_downloaded_once(tmp_path, monkeypatch, capfd, name, write):
    module = {"mnist": mnist, "cifar10": cifar, "svhn": svhn}[name]
    calls = []

    def download(*given):
        calls.append(given)
        print("100%")
        write(given[-1])

    monkeypatch.setattr(module, "download", download)
    READ[name](tmp_path)
    READ[name](tmp_path)
    assert len(calls) == 1
    assert capfd.readouterr() == ("", "")


def test_downloads_into_one_folder_wait_for_each_other(tmp_path):
    calls, started, go = [], threading.Event(), threading.Event()

    def download():
        calls.append(1)
        started.set()
        assert go.wait(10)
        (tmp_path / "a").write_text("here")

    def ensure():
        fetch.ensure("x", [[tmp_path / "a"]], tmp_path, download)

    first, second = threading.Thread(target=ensure), threading.Thread(target=ensure)
    first.start()
    assert started.wait(10)
    second.start()
    go.set()
    first.join(10)
    second.join(10)
    assert calls == [1]


@pytest.mark.parametrize("module", [mnist, cifar])
def test_an_unknown_variant_is_refused(tmp_path, module):
    with pytest.raises(KdrunError, match=r"dataset\.variant=mnits: no such variant\. Choices: "):
        module.read(tmp_path, variant="mnits")


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
