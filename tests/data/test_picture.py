"""A picture becomes the same pixels wherever it is looked at, whatever its mode and its size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from kdrun.config.files import shipped
from kdrun.data import decode, picture, select
from kdrun.data.batches import plain_batches
from kdrun.data.images import ImageSet
from kdrun.data.load import load
from kdrun.errors import KdrunError
from kdrun.predictor import Preprocess

DRAW = np.random.RandomState(0)
GREY = DRAW.randint(0, 256, (6, 9)).astype(np.uint8)

DEEP: dict[str, Any] = {
    "floats": GREY / np.float32(255),
    "32 bits": GREY.astype(np.int32),
    "16 bits": GREY.astype(np.uint16) * 256 + 7,
    "8 bits": GREY,
}


@pytest.mark.parametrize("kind", DEEP)
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_of_more_than_8_bits_are_scaled(tmp_path: Path, kind: str, channels: int) -> None:
    path = tmp_path / "x.tif"
    Image.fromarray(DEEP[kind]).save(path)
    pixels = decode.decoded(str(path), decode.Square(6, channels))
    assert pixels.shape == (channels, 6, 6) and (pixels == GREY[:, 2:8]).all()


def test_a_png_of_16_bits_is_one_in_every_version_of_pillow(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    Image.fromarray(DEEP["16 bits"]).save(path)
    assert (np.asarray(picture.opened(path)) == GREY).all()
    older = Image.fromarray(DEEP["16 bits"].astype(np.int32))
    assert older.mode == "I" and (np.asarray(picture.in_bytes(older, "PNG")) == GREY).all()


@pytest.mark.parametrize(
    ("array", "problem"),
    [
        (GREY.astype(np.float32), "floats from 9 to 254"),
        (GREY / np.float32(255) - 1, "floats from -0.96"),
        (np.full((6, 6), np.nan, np.float32), "floats from nan to nan"),
        (GREY.astype(np.int32) * 2, "32-bit integers from 18 to 508"),
        (-GREY.astype(np.int32), "32-bit integers from -254 to -9"),
    ],
)
@pytest.mark.parametrize("memory", [10**9, 1000])
def test_other_floats_and_integers_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, array: Any, problem: str, memory: int
) -> None:
    for number in range(6):
        path = tmp_path / "pictures" / "ab"[number % 2] / f"{number}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(path)
    monkeypatch.setattr(select, "free_memory", lambda: memory)
    with pytest.raises(KdrunError) as raised:
        loaded(tmp_path / "pictures", 6, None, test=2, validation=0)
    line = str(raised.value)
    assert "6 files cannot be read as images: " in line and f".tif ({problem}" in line


def test_the_centre_of_arrays_and_tensors() -> None:
    for length, part, first in ((9, 6, 2), (8, 6, 1), (7, 6, 0), (6, 6, 0), (11, 6, 2)):
        images = torch.arange(length * length).view(1, 1, length, length)
        expected = images[:, :, first : first + part, first : first + part]
        assert torch.equal(picture.centre(images, part), expected)
        assert (picture.centre(images.numpy(), part) == expected.numpy()).all()


def loaded(root: Path, size: int, resize_to: int | None, **changes: Any) -> ImageSet:
    node = yaml.safe_load((shipped() / "dataset" / "imagefolder.yaml").read_text())
    node |= {"path": str(root), "size": size, "resize_to": resize_to, "cache": False, **changes}
    return load(node, root.parent)


SIDES = ((32, 32), (64, 64), (21, 33), (33, 21), (20, 20), (32, 47), (100, 37), (23, 23))


@pytest.mark.parametrize("views", ["none", "resized_crop"])
@pytest.mark.parametrize(("size", "resize_to"), [(32, 64), (32, 32), (21, 24), (20, 25), (20, None)])
def test_a_picture_is_predicted_as_it_was_evaluated(
    tmp_path: Path, views: str, size: int, resize_to: int | None
) -> None:
    root = tmp_path / "pictures"
    for part in ("train", "test"):
        for number, (width, height) in enumerate(SIDES):
            path = root / part / "ab"[number % 2] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(DRAW.randint(0, 256, (height, width, 3)).astype(np.uint8)).save(path)
    data = loaded(root, size, resize_to, views={"name": views})
    (evaluated,) = plain_batches(data.test, data, torch.device("cpu"))()
    assert data.resized_to is not None
    preprocess = Preprocess(data.image_shape, data.resized_to, data.mean, data.std)
    paths = sorted((root / "test").glob("*/*.png"))
    for path, image in zip(paths, evaluated, strict=True):
        assert torch.equal(preprocess(path), image), path
        assert torch.equal(preprocess(Image.open(path)), image), path


def test_pictures_that_were_taken_as_they_are() -> None:
    pixels = DRAW.randint(0, 256, (8, 12, 3)).astype(np.uint8)
    preprocess = Preprocess((3, 8, 12), 8, (0.0,) * 3, (1.0,) * 3)
    expected = torch.from_numpy(pixels).permute(2, 0, 1) / 255
    assert torch.equal(preprocess(Image.fromarray(pixels)), expected)
    assert preprocess(Image.fromarray(pixels).resize((50, 50))).shape == (3, 8, 12)


def test_a_picture_that_cannot_be_scaled_is_one_line(tmp_path: Path) -> None:
    preprocess = Preprocess((1, 6, 6), 6, (0.0,), (1.0,))
    Image.fromarray(GREY.astype(np.float32)).save(tmp_path / "x.tif")
    with pytest.raises(KdrunError, match=r"x\.tif: cannot be read as a picture: floats from 9 to 254"):
        preprocess(tmp_path / "x.tif")
    with pytest.raises(KdrunError, match=r"^a picture of mode F: cannot be read as a picture: floats"):
        preprocess(Image.fromarray(GREY.astype(np.float32)))
