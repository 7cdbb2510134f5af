"""Data sets of torch, whatever their items are, become the same bytes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from kdrun.data.torch_dataset import read
from kdrun.errors import KdrunError
from tests.data.items import PIXELS, Items, Names, NoPair


@pytest.fixture(autouse=True)
def mine(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("mine_of_tests")
    vars(module).update(Items=Items, NoPair=NoPair, Names=Names, number=5, system=os.system)
    monkeypatch.setitem(sys.modules, "mine_of_tests", module)


def items(name: str = "Items", **rest: Any) -> Any:
    return read(Path(), train_class=f"mine_of_tests:{name}", **rest)


@pytest.mark.parametrize("kind", ["pil", "array", "float array", "tensor", "float tensor"])
def test_pictures_arrays_and_tensors_are_the_same_bytes(kind: str) -> None:
    raw = items(train_args={"kind": kind})
    assert raw.train.images.dtype == torch.uint8 and raw.train.images.shape == (12, 3, 8, 8)
    assert torch.equal(raw.train.images, torch.from_numpy(PIXELS).permute(0, 3, 1, 2))
    assert raw.train.labels.tolist() == [0, 1, 2] * 4 and raw.classes == ("0", "1", "2")
    assert raw.test is None and raw.validation is None


@pytest.mark.parametrize("kind", ["float picture", "integer picture", "deep picture"])
def test_pictures_of_more_than_8_bits_are_scaled(kind: str) -> None:
    raw = items(train_args={"kind": kind})
    assert torch.equal(raw.train.images, torch.from_numpy(PIXELS[:, None, :, :, 0]))


def test_unusual_numbers_of_channels_are_taken_if_they_are_given() -> None:
    assert items(train_args={"kind": "many"}, channels=12).train.images.shape == (12, 12, 3, 8)
    assert items(train_args={"kind": "many tensor"}, channels=12).train.images.shape == (12, 12, 3, 8)
    assert items(train_args={"kind": "channels first"}, channels=8).train.images.shape == (12, 8, 3, 8)


def test_grey_names_and_missing_labels() -> None:
    assert items(train_args={"kind": "grey"}).train.images.shape == (12, 1, 8, 8)
    raw = items("Names")
    assert raw.classes == ("bus", "car", "train") and raw.train.labels[0] == -1
    assert items(classes=["a", "b", "c"]).classes == ("a", "b", "c")


def test_sizes_and_channels_are_made_one() -> None:
    raw = items(train_args={"kind": "sizes"}, size=6, channels=1)
    assert raw.train.images.shape == (12, 1, 6, 6)
    whole = items(size=8)
    assert torch.equal(whole.train.images, items().train.images)


def test_parts_of_their_own() -> None:
    raw = items(
        test_class="mine_of_tests:Items",
        test_args={"kind": "grey", "n": 3},
        validation_class="mine_of_tests:Items",
    )
    assert raw.test.images.shape == (3, 3, 8, 8) and len(raw.validation.labels) == 12
    assert torch.equal(raw.test.images[:, 0], raw.test.images[:, 2])


TURNED = "dataset.train_class=Items: image 0: has shape"
MISTAKES: dict[str, tuple[Callable[[], Any], str]] = {
    "none": (
        lambda: read(Path()),
        "dataset.train_class: which class? dataset.train_class=mine.data:Pictures",
    ),
    "form": (
        lambda: read(Path(), train_class="mine_of_tests.Items"),
        "dataset.train_class=mine_of_tests.Items: is written module:Class, such as mine.data:Pictures",
    ),
    "module": (
        lambda: read(Path(), train_class="no_such.data:Items"),
        "dataset.train_class=no_such.data:Items: there is no module no_such",
    ),
    "class": (
        lambda: items("Itms"),
        "dataset.train_class=mine_of_tests:Itms: mine_of_tests has no class Itms",
    ),
    "imported": (
        lambda: items("system", train_args={"command": "touch pwned"}),
        "dataset.train_class=mine_of_tests:system: system is code of posix: name it there, with ",
    ),
    "arguments": (
        lambda: items(train_args={"root": "x"}),
        "dataset.train_args.root: Items has no such argument. Choices: kind, n",
    ),
    "empty": (lambda: items(train_args={"n": 0}), "dataset.train_class=Items: is empty"),
    "pairs": (lambda: items("NoPair"), "dataset.train_class=NoPair: item 0 is not (image, label)"),
    "random": (
        lambda: items(train_args={"kind": "random"}),
        "dataset.train_class=Items: gives another image each time; leave random transforms to dataset.views",
    ),
    "sizes": (
        lambda: items(train_args={"kind": "sizes"}),
        "dataset.train_class=Items: image 1 is 8x9, the first 8x8; dataset.size=N makes them squares",
    ),
    "normalised": (
        lambda: items(train_args={"kind": "normalised"}),
        "dataset.train_class=Items: image 0: has floats from -0.5 to 0.496078, 0 to 1 are needed",
    ),
    "list": (
        lambda: items(train_args={"kind": "list"}),
        "dataset.train_class=Items: image 0: a list is no Pillow picture, array or tensor",
    ),
    "too deep": (
        lambda: items(train_args={"kind": "too deep"}),
        "dataset.train_class=Items: image 0: 32-bit integers from ",
    ),
    "channels first": (
        lambda: items(train_args={"kind": "channels first"}),
        f"{TURNED} (3, 8, 8), which is 8 channels: an array has its channels last "
        "(dataset.channels=8 if it is meant)",
    ),
    "grey channel first": (
        lambda: items(train_args={"kind": "grey channel first"}),
        f"{TURNED} (1, 8, 8), which is 8 channels: an array has its channels last",
    ),
    "floats channels first": (
        lambda: items(train_args={"kind": "floats channels first"}),
        f"{TURNED} (3, 8, 8), which is 8 channels: an array has its channels last",
    ),
    "tensor channels last": (
        lambda: items(train_args={"kind": "tensor channels last"}),
        f"{TURNED} (8, 8, 3), which is 8 channels: a tensor has its channels first",
    ),
    "integers": (
        lambda: items(train_args={"kind": "integers"}),
        "dataset.train_class=Items: image 0: is of type int32",
    ),
    "names": (lambda: items(classes=["a"]), "dataset.classes: 1 names, but labels go up to 2"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_one_line(mistake: str) -> None:
    act, line = MISTAKES[mistake]
    with pytest.raises(KdrunError) as caught:
        act()
    assert str(caught.value).startswith(line) and "\n" not in str(caught.value)
