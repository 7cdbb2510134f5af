"""Folders of pictures: layouts, sizes, modes, what is refused before training, and the decoded copies."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from kdrun.data import decode, imagefolder, pixel_cache
from kdrun.data.images import ImageSet
from kdrun.data.load import load
from kdrun.data.picture import Pixels
from kdrun.errors import KdrunError

CONF = Path(__file__).parents[2] / "conf" / "dataset" / "imagefolder.yaml"


def write(
    path: Path, width: int = 12, height: int = 10, seed: int = 0, mode: str = "RGB", **more: Any
) -> Path:
    """A picture of noise; JPEG or PNG by its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.RandomState(seed)
    pixels = random.randint(0, 256, (height, width, 3)).astype(np.uint8)
    Image.fromarray(pixels).convert(mode).save(path, **more)
    return path


def folder(root: Path, counts: dict[str, int], first: int = 0, **more: Any) -> Path:
    """Class folders with so many pictures each."""
    for number, (name, count) in enumerate(counts.items()):
        for at in range(count):
            write(root / name / f"{at:03}.png", seed=first + 100 * number + at, **more)
    return root


def read(root: Path, data_dir: Path | None = None, **changes: Any) -> ImageSet:
    node = yaml.safe_load(CONF.read_text()) | {"path": str(root)} | changes
    if "views" in changes:
        node["views"] = {"name": changes["views"]}
    return load(node, data_dir or root.parent / "data")


def lengths(found: ImageSet) -> list[int]:
    return [len(part.labels) for part in (found.train, found.validation, found.test)]


def test_one_folder_is_split_by_default_by_fraction_and_by_number(tmp_path: Path) -> None:
    root = folder(tmp_path / "pets", {"dog": 20, "cat": 20})
    found = read(root)
    assert found.classes == ("cat", "dog")
    assert lengths(found) == [28, 4, 8]
    assert found.test.labels.bincount().tolist() == [4, 4]
    assert lengths(read(root, validation=0.25, test=0.5)) == [10, 10, 20]
    assert lengths(read(root, validation=0, test=4, train=6)) == [6, 0, 4]


def test_train_and_val_as_imagenet_has_them(tmp_path: Path) -> None:
    root = tmp_path / "imagenet"
    folder(root / "train", {"n01440764": 6, "n01443537": 6})
    folder(root / "val", {"n01440764": 2, "n01443537": 3}, first=50)
    (root / "test").mkdir()  # pictures without classes
    write(root / "test" / "unknown.png")
    found = read(root, size=10, resize_to=10, views="none")
    assert found.classes == ("n01440764", "n01443537")
    assert lengths(found) == [11, 1, 5]
    assert found.test.labels.tolist() == [0, 0, 1, 1, 1]
    expected = np.asarray(Image.open(root / "val" / "n01443537" / "002.png"))[:, 1:11].transpose(2, 0, 1)
    assert found.test.images[-1].numpy().tolist() == expected.tolist()
    assert lengths(read(root, test=2)) == [11, 1, 2]  # to try out: some of its test part
    with pytest.raises(KdrunError, match=r"dataset\.test=9"):
        read(root, test=9)


@pytest.mark.parametrize("name", ["test", "Testing"])
def test_a_test_folder_without_labels_is_left_out(tmp_path: Path, name: str) -> None:
    root = tmp_path / "kaggle"
    folder(root / "train", {"a": 10, "b": 10})
    for number in range(5):
        write(root / name / f"{number}.png")
    assert lengths(read(root)) == [14, 2, 4] and read(root).classes == ("a", "b")
    assert lengths(read(root, test=0.5)) == [8, 2, 10]
    folder(root / "val", {"a": 1, "b": 2}, first=50)
    assert lengths(read(root)) == [18, 2, 3]


@pytest.mark.parametrize("name", ["valid", "Validation", "val"])
def test_three_parts(tmp_path: Path, name: str) -> None:
    root = tmp_path / "three"
    for part, count in (("train", 4), (name, 2), ("test", 3)):
        folder(root / part, {"a": count, "b": count})
    assert lengths(read(root)) == [8, 4, 6]
    with pytest.raises(KdrunError, match=r"dataset\.validation=0\.1: this data set has a validation part"):
        read(root, validation=0.1)


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    found = read(folder(tmp_path / "traffic", {"bus": 5, "car": 5, "train": 5}))
    assert found.classes == ("bus", "car", "train")


def test_a_train_folder_alone_is_split(tmp_path: Path) -> None:
    folder(tmp_path / "alone" / "train", {"a": 10, "b": 10})
    assert lengths(read(tmp_path / "alone")) == [14, 2, 4]


def test_pictures_lie_in_folders_of_folders_and_system_files_are_passed_over(tmp_path: Path) -> None:
    root = folder(tmp_path / "deep", {"a": 5, "b/inner/most": 5, "b": 2})
    (root / "a" / "Thumbs.db").write_bytes(b"x")
    (root / "a" / ".DS_Store").write_bytes(b"")
    (root / ".git").mkdir()
    (root / "labels.csv").write_text("a,b")
    found = read(root)
    assert sum(lengths(found)) == 12
    assert found.classes == ("a", "b")


@pytest.mark.parametrize(
    ("odd", "problem"),
    [
        (lambda path: os.mkfifo(path), "a pipe or a device"),
        (lambda path: path.symlink_to("/dev/zero"), "a pipe or a device"),
        (lambda path: path.symlink_to(".."), "a link to a folder in which it is"),
        (lambda path: path.symlink_to("."), "a link to a folder in which it is"),
    ],
)
def test_what_would_never_end_is_named(tmp_path: Path, odd: Callable[[Path], None], problem: str) -> None:
    root = folder(tmp_path / "odd", {"a": 5, "b": 5})
    odd(root / "a" / "z.png")
    with pytest.raises(KdrunError, match=rf"a/z\.png(/a)? \({problem}\)"):
        read(root)


def test_sizes_follow_the_pictures(tmp_path: Path) -> None:
    small = folder(tmp_path / "small", {"a": 5, "b": 5}, width=12, height=10)
    assert read(small).train.images.shape[1:] == read(small).image_shape == (3, 10, 10)
    large = folder(tmp_path / "large", {"a": 5, "b": 5}, width=300, height=290)
    found = read(large)
    assert found.train.images.shape[1:] == (3, 256, 256)  # views are cut out of these
    assert found.image_shape == (3, 224, 224)
    plain = read(large, size=64, views="none")
    assert plain.train.images.shape[1:] == plain.image_shape == (3, 64, 64)
    larger = read(large, size=64, resize_to=90)
    assert (larger.train.images.shape[2], larger.image_shape[2]) == (90, 64)


@pytest.mark.parametrize("size", [(30, 20), (20, 30), (17, 41), (16, 16), (9, 12)])
@pytest.mark.parametrize("name", ["x.png", "x.jpg"])
def test_decoding_equals_torchvision(tmp_path: Path, size: tuple[int, int], name: str) -> None:
    from torchvision.transforms import functional as tv

    path = write(tmp_path / name, *size)
    expected = tv.center_crop(tv.resize(Image.open(path), 16), [16, 16])
    pixels = decode.decoded(path, decode.Square(16, 3))
    assert pixels.transpose(1, 2, 0).tolist() == np.asarray(expected).tolist()


@pytest.mark.parametrize("mode", ["L", "P", "1", "RGBA", "LA", "I;16", "RGB"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_mode_becomes_colour_or_grey(tmp_path: Path, mode: str, channels: int) -> None:
    if mode == "I;16":
        path = tmp_path / "x.png"
        Image.fromarray(np.full((10, 12), 40_000, np.uint16)).save(path)
    else:
        path = write(tmp_path / "x.png", mode=mode, **({"transparency": b"\x00" * 9} if mode == "P" else {}))
    found = decode.decoded(path, decode.Square(10, channels))
    assert found.shape == (channels, 10, 10) and found.dtype == np.uint8
    if mode == "I;16":
        assert np.unique(found).tolist() == [40_000 // 256]


def test_grey_needs_one_mean(tmp_path: Path) -> None:
    root = folder(tmp_path / "grey", {"a": 5, "b": 5}, mode="L")
    assert read(root, channels=1, mean=0.45, std=0.23).image_shape == (1, 10, 10)
    assert read(root).image_shape == (3, 10, 10)
    with pytest.raises(KdrunError, match=r"dataset\.mean=.*one for each of 1 channels"):
        read(root, channels=1)


def test_a_picture_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned
    path = write(tmp_path / "x.png", 10, 10, exif=exif)
    upright = np.rot90(np.asarray(Image.open(path)), 3)
    assert decode.decoded(path, decode.Square(10, 3)).transpose(1, 2, 0).tolist() == upright.tolist()


def spoil(root: Path, kind: str) -> None:
    """Does to the folder {a, b} what its user may have done."""
    first = root / "a" / "000.png"
    content = write(root / "a" / "big.jpg", 60, 60).read_bytes()
    (root / "a" / "big.jpg").unlink()
    if kind == "broken":
        (root / "a" / "cut.jpg").write_bytes(content[: len(content) // 2])
        (root / "b" / "notes.txt").write_text("none")
        (root / "b" / "cut.png").write_bytes(first.read_bytes()[:60])
        (root / "b" / "zeros.gif").write_bytes(b"\x00" * 99)
    elif kind == "empty":
        (root / "b" / "empty.jpg").touch()
    elif kind == "vacant":
        (root / "c").mkdir()
    elif kind == "one":
        (root / "b").rename(root.parent / "elsewhere")
    elif kind == "flat":
        for name in ("a", "b"):
            (root / name).rename(root.parent / name)
    elif kind == "foreign":
        for part in ("train", "val"):
            folder(root / part, {"x": 3, "y": 3})
        (root / "val" / "y").rename(root / "val" / "z")
    elif kind == "flat val":
        folder(root / "train", {"x": 3, "y": 3})
        write(root / "val" / "1.png")
    elif kind == "link":
        (root / "a" / "gone.png").symlink_to(root / "nowhere")


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        (
            "broken",
            r"dataset\.path: 4 files cannot be read as images: \S+/a/cut\.jpg \(.*truncated.*\), "
            r"\S+/b/cut\.png \(.*\), \S+/b/notes\.txt \(no image\) and 1 more\. Remove",
        ),
        ("empty", r"dataset\.path: 1 file cannot be read as images: \S+/b/empty\.jpg \(empty\)"),
        ("link", r"dataset\.path: 1 file cannot be read as images: \S+/a/gone\.png \(no such file\)"),
        ("vacant", r"dataset\.path=\S+: class folders without pictures: c$"),
        ("one", r"dataset\.path=\S+: only one class folder \(a\); at least two are needed"),
        ("flat", r"dataset\.path=\S+: no class folders in it"),
        (
            "foreign",
            r"dataset\.path=\S+/val: class folders that the training part does not have: z\. Choices: x, y",
        ),
        ("flat val", r"dataset\.path=\S+/val: no class folders in it.*; .*: dataset\.val_classes=FILE"),
    ],
)
def test_what_is_wrong_is_one_line_with_names(tmp_path: Path, kind: str, problem: str) -> None:
    root = folder(tmp_path / "pets", {"a": 5, "b": 5})
    spoil(root, kind)
    with pytest.raises(KdrunError, match=problem) as raised:
        read(root, test=1, validation=0)
    assert "\n" not in str(raised.value)


def broken_parts(root: Path) -> list[Path]:
    """train/, val/ and test/ with a broken picture in each."""
    spoilt = []
    for number, part in enumerate(("train", "val", "test")):
        folder(root / part, {"a": 8, "b": 8}, first=number * 300)
        spoilt.append(root / part / "a" / "003.png")
        spoilt[-1].write_bytes(spoilt[-1].read_bytes()[:150])
    return spoilt


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("memory", [10**9, 1000])
@pytest.mark.parametrize("empty", [True, False])
def test_broken_files_of_all_parts_are_named_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: bool, memory: int, empty: bool
) -> None:
    files = broken_parts(tmp_path / "pets")
    if empty:
        files[1].write_bytes(b"")
    monkeypatch.setattr("kdrun.data.select.free_memory", lambda: memory)
    with pytest.raises(KdrunError) as raised:
        read(tmp_path / "pets", cache=cache)
    line = str(raised.value)
    assert line.startswith("dataset.path: 3 files cannot be read as images: ") and "\n" not in line
    assert all(f"{path} (" in line for path in files) and (f"{files[1]} (empty)" in line) is empty


def test_wrong_folders_of_all_parts_are_named_at_once(tmp_path: Path) -> None:
    root = tmp_path / "pets"
    for part in ("train", "val", "test"):
        folder(root / part, {"a": 3, "b": 3})
    (root / "train" / "c").mkdir()
    (root / "val" / "d").mkdir()
    (root / "test" / "b").rename(root / "test" / "e")
    with pytest.raises(KdrunError) as raised:
        read(root)
    foreign = "class folders that the training part does not have"
    assert str(raised.value) == (
        f"dataset.path={root}: train: class folders without pictures: c; "
        f"val: {foreign}: d; class folders without pictures: d; test: {foreign}: e"
    )


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"path": None}, r"dataset\.path: which folder\?"),
        ({"path": "/no/such"}, r"dataset\.path=/no/such: no such folder"),
        ({"size": 0}, r"dataset\.size=0: must be at least 1"),
        ({"size": "a"}, r"dataset\.size=a: a whole number is needed"),
        ({"size": 32, "resize_to": 30}, r"dataset\.resize_to=30: must be at least dataset\.size \(32\)"),
        ({"channels": 2}, r"dataset\.channels=2: must be 3"),
        ({"cache": 1}, r"dataset\.cache=1: true or false is needed"),
        ({"test": 1.5}, r"dataset\.test=\d+: must be between 0 and 10"),
    ],
)
def test_wrong_settings(tmp_path: Path, changes: dict[str, Any], problem: str) -> None:
    root = folder(tmp_path / "pets", {"a": 5, "b": 5})
    with pytest.raises(KdrunError, match=problem):
        read(root, **changes)


def test_what_does_not_fit_is_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = folder(tmp_path / "pets", {"a": 20, "b": 20})
    monkeypatch.setattr("kdrun.data.select.free_memory", lambda: 2 * 20 * 300)
    assert isinstance(read(root, train=8).train.images, torch.Tensor)
    monkeypatch.setattr(decode, "decoded", lambda *_: pytest.fail("decoded"))
    found = read(root)
    assert found.train.images.shape == (28, 3, 10, 10) and found.image_shape == (3, 10, 10)
    assert lengths(found) == [28, 4, 8]


FLAT = {
    "csv": "ImageId,PredictionString\nv0,y 85 1 499 272\nv1,x 1 2 3 4 x 5 6 7 8\nv2,x 0 0 9 9\n",
    "tabs": "v0.png\ty\t0\t32\nv1.png\tx\t0\t1\n\nv2.png\tx\t0\t1\nelsewhere.png\tz\n",
    "foreign": "v0.png y\nv1.png x\nv2.png z\n",
    "short": "v0.png y\nv1.png\nv2.png x\n",
}


def test_a_file_says_the_classes_of_a_flat_folder(tmp_path: Path) -> None:
    root = tmp_path / "flat"
    folder(root / "train", {"x": 6, "y": 6})
    for number in range(3):
        write(root / "val" / "images" / f"v{number}.png", seed=number)
    files = {name: root / "val" / f"{name}.txt" for name in FLAT}
    for name in ("csv", "tabs"):
        files[name].write_text(FLAT[name])
        assert read(root, val_classes=str(files[name])).test.labels.tolist() == [1, 0, 0]
        files[name].unlink()
    for name, problem in (
        ("foreign", r"names classes that the training part does not have: z\. Choices: x, y"),
        ("short", r"has no line with the class of \S+/v1\.png"),
        ("csv", "no such file"),
    ):
        if name != "csv":
            files[name].write_text(FLAT[name])
        with pytest.raises(KdrunError, match=rf"dataset\.val_classes={files[name]}: .*{problem}"):
            read(root, val_classes=str(files[name]))
        files[name].unlink(missing_ok=True)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are decoded from now on."""
    files: list[str] = []
    real = decode.decoded

    def square(path: str, wanted: decode.Square) -> Pixels:
        files.append(path)
        return real(path, wanted)

    monkeypatch.setattr(decode, "decoded", square)
    return files


def test_a_second_run_decodes_nothing_and_a_changed_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root, files = folder(tmp_path / "pets", {"a": 10, "b": 10}), counted(monkeypatch)
    first = read(root)
    assert len(files) == 20
    assert capsys.readouterr().err.startswith("decoded 14 of 14 images to 10x10 in ")
    assert read(root).fingerprint == first.fingerprint
    assert not read(root, split=1).test.images.equal(first.test.images)  # another split of the same records
    assert len(files) == 20 and capsys.readouterr().err == ""
    write(root / "a" / "000.png", seed=999)
    os.utime(root / "a" / "000.png", ns=(1, 1))
    assert read(root).fingerprint != first.fingerprint
    assert files[20:] == [str(root / "a" / "000.png")]
    assert read(root).fingerprint == read(root, cache=False).fingerprint


def test_only_what_a_run_takes_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, files = folder(tmp_path / "pets", {"a": 20, "b": 20}), counted(monkeypatch)
    assert lengths(read(root, train=4, validation=2, test=4)) == [4, 2, 4]
    assert len(files) == 10


def test_the_good_files_of_a_broken_folder_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, files = folder(tmp_path / "pets", {"a": 10, "b": 10}), counted(monkeypatch)
    monkeypatch.setattr(decode, "BLOCK", 1000)  # three pictures
    (root / "a" / "0005.png").write_text("none")
    with pytest.raises(KdrunError, match=r"a/0005\.png \(no image\)"):
        read(root, test=1, validation=0)
    (root / "a" / "0005.png").unlink()
    known = len(files)
    found = read(root, test=1, validation=0)
    assert len(files) == known  # the good ones of all parts were decoded
    assert found.fingerprint == read(root, test=1, validation=0, cache=False).fingerprint


def test_a_writer_that_was_stopped_leaves_nothing_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = folder(tmp_path / "pets", {"a": 10, "b": 10})
    first = read(root)
    (kept,) = (tmp_path / "data" / "decoded").glob("pets-10-*")
    files = counted(monkeypatch)
    with (kept / "images").open("r+b") as records:
        records.truncate(7 * 300 + 5)
    assert read(root).fingerprint == first.fingerprint
    assert len(files) == 13
    with (kept / "keys").open("r+b") as keys:
        keys.truncate(3 * 8 + 2)
    assert read(root).fingerprint == first.fingerprint


@pytest.mark.parametrize("name", ["images", "sums", "keys"])
def test_one_bit_of_what_is_kept_costs_one_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    root = folder(tmp_path / "pets", {"a": 10, "b": 10})
    first = read(root)
    (kept,) = (tmp_path / "data" / "decoded").glob("pets-10-*")
    whole = bytearray((kept / name).read_bytes())
    whole[len(whole) // 2] ^= 1
    (kept / name).write_bytes(whole)
    files = counted(monkeypatch)
    capsys.readouterr()
    again = read(root)
    assert again.fingerprint == first.fingerprint and again.train.images.equal(first.train.images)
    err = capsys.readouterr().err
    assert len(files) == 1 and "decoded 1 of 1 images" in err
    assert name == "keys" or err.startswith(f"{kept / 'images'}: is damaged (checksum of 1 images)")
    assert read(root).fingerprint == first.fingerprint
    assert len(files) == 1 and capsys.readouterr().err == ""


@pytest.mark.parametrize("name", ["images", "sums", "keys", "contents"])
def test_a_folder_in_the_place_of_what_is_kept_is_set_aside(tmp_path: Path, name: str) -> None:
    root = folder(tmp_path / "pets", {"a": 10, "b": 10})
    first = read(root)
    (file,) = (tmp_path / "data" / "decoded").glob(f"pets-*/{name}")
    file.unlink()
    (file / "mine").mkdir(parents=True)
    again = read(root)
    assert again.fingerprint == first.fingerprint and again.train.images.equal(first.train.images)
    assert file.is_file() and (file.parent / f"{name}.damaged" / "mine").is_dir()


def test_what_an_earlier_version_kept_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = folder(tmp_path / "pets", {"cat": 10, "dog": 10})
    other = folder(tmp_path / "cars", {"bus": 10, "van": 10})
    monkeypatch.setattr(pixel_cache, "VERSION", pixel_cache.VERSION - 1)
    before = pixels(read(root)), pixels(read(other))
    decoded = tmp_path / "data" / "decoded"
    earlier, foreign = set(decoded.glob("pets-10-*")), set(decoded.glob("cars-10-*"))
    monkeypatch.undo()
    assert pixels(read(root)) == before[0]
    (kept,) = decoded.glob("pets-10-*")
    assert {kept} != earlier and set(decoded.glob("cars-10-*")) == foreign
    (next(iter(foreign)) / "notes.txt").write_text("mine")
    assert pixels(read(other)) == before[1]
    assert [path.name for path in next(iter(foreign)).iterdir()] == ["notes.txt"]


def pixels(found: ImageSet) -> list[int]:
    """Of all test images."""
    return list(found.test.images.flatten().tolist())


def test_pictures_that_an_earlier_version_kept_are_decoded_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = folder(tmp_path / "pets", {"a": 10, "b": 10})
    first = read(root)
    (kept,) = (tmp_path / "data" / "decoded").glob("pets-10-*")
    (kept / "sums").unlink()
    files = counted(monkeypatch)
    assert read(root).fingerprint == first.fingerprint and len(files) == 20


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    root = folder(tmp_path / "pets", {"a": 10, "b": 10})
    (tmp_path / "file").write_text("")
    with pytest.raises(
        KdrunError, match=r"data_dir=\S+: decoded images cannot be kept there .*dataset\.cache"
    ):
        read(root, tmp_path / "file")
    assert lengths(read(root, tmp_path / "file", cache=False)) == [14, 2, 4]


def test_centres_are_cut_out_of_what_is_kept(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{n}.png", 20, 20, seed=n) for n in range(3)]
    pictures = [pixel_cache.Picture(path, path.stat().st_size, n) for n, path in enumerate(paths)]
    wanted = decode.Square(20, 3)
    whole = pixel_cache.images(pictures, wanted, 20, None)
    kept = pixel_cache.images(pictures, wanted, 14, tmp_path / "kept")
    assert torch.equal(kept, whole[:, :, 3:17, 3:17])


def test_caches_among_the_pictures_are_no_class(tmp_path: Path) -> None:
    folder(tmp_path, {"a": 2, "b": 2})
    write(tmp_path / "decoded" / "pictures-contents-0123abcd" / "contents.png")
    assert [each.name for each in sorted(imagefolder.folders_in(tmp_path))] == ["a", "b"]
    assert len(list(imagefolder.files_in(tmp_path))) == 4
    folder(tmp_path, {"decoded": 1})
    (tmp_path / "decoded" / "pictures-contents-0123abcd").rename(tmp_path / "decoded" / "b")
    assert len(imagefolder.folders_in(tmp_path)) == 3, "a class can be called so"
