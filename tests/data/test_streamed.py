"""Images that are read while they are trained on are, bit for bit, those that lie in memory."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import Tensor

from kdrun.data import digests, select, streamed
from kdrun.data.images import ImageSet
from kdrun.data.lazy import Reading, Unread, Way
from kdrun.data.load import load
from kdrun.data.resident import Normal, Resident
from kdrun.data.streamed import Streamed
from kdrun.data.views import make_views
from kdrun.errors import KdrunError
from kdrun.types import Rows

CONF = Path(__file__).parents[2] / "conf" / "dataset" / "imagefolder.yaml"
BATCH = 5
ONE = Reading(workers=1)


def picture(path: Path, seed: int, width: int = 30, height: int = 24) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.RandomState(seed).randint(0, 256, (height, width, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures") / "pets"
    for seed in range(24):
        picture(folder / "ab"[seed % 2] / f"{seed:03}.{('jpg', 'png')[seed % 3 == 0]}", seed)
    return folder


def loaded(root: Path, reading: Reading | None = None, memory: int = 10**9, **changes: Any) -> ImageSet:
    """The set, in memory, or read as it says."""
    node = yaml.safe_load(CONF.read_text()) | {"path": str(root), "size": 14, "resize_to": 16, "cache": False}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(select, "free_memory", lambda: memory if reading is None else 20_000)
        return load(node | changes, root.parent / "data", reading or Reading())


@pytest.fixture(scope="module")
def whole(root: Path) -> ImageSet:
    return loaded(root)


def images(data: ImageSet, views: str = "resized_crop") -> Any:
    kind = Streamed if isinstance(data.train.images, Unread) else Resident
    made = make_views({"name": views, "padding": 2, "flip": True}, tuple(data.train.images.shape[1:]))
    return kind(data.train.images, made, Normal(data.mean, data.std, data.white, "cpu"))  # type: ignore[arg-type]


def epoch(data: ImageSet, views: str = "resized_crop", seed: int = 0) -> Rows:
    draw = torch.Generator().manual_seed(seed)
    index = torch.randperm(len(data.train.labels), generator=draw)
    made = make_views({"name": views, "padding": 2, "flip": True}, tuple(data.train.images.shape[1:]))
    return Rows(index, made.draw(draw, len(index)))


def batches(rows: Rows, first: int = 0) -> Iterator[Rows]:
    for start in range(first * BATCH, len(rows.index), BATCH):
        yield Rows(*(tensor[start : start + BATCH] for tensor in rows))


def passed(of: Any, rows: Rows, first: int = 0) -> Tensor:
    of.prepare(list(batches(rows, first)))
    return torch.cat([of(part) for part in batches(rows, first)])


@pytest.mark.parametrize("views", ["none", "crop_flip", "affine", "resized_crop"])
def test_an_epoch_is_that_of_images_in_memory(root: Path, whole: ImageSet, views: str) -> None:
    rows, data = epoch(whole, views), loaded(root, Reading())
    with closing(images(data, views)) as read:
        for first in (0, 2):
            assert torch.equal(passed(read, rows, first), passed(images(whole, views), rows, first))
    assert isinstance(whole.train.images, Tensor) and isinstance(data.train.images, Unread)
    for one, other in zip(data[2:5], whole[2:5], strict=True):
        assert torch.equal(one.labels, other.labels)
        assert torch.equal(one.images[torch.arange(len(one.labels))], other.images)


def test_a_process_reads_the_same_however_it_is_asked(root: Path, whole: ImageSet) -> None:
    rows, other, resident = epoch(whole), epoch(whole, seed=1), images(whole)
    with closing(images(loaded(root, Reading(workers=1, cache=7 * 3 * 16**2)))) as read:
        assert torch.equal(read(Rows(*(tensor[3:6] for tensor in rows))), passed(resident, rows)[3:6])
        for _ in range(2):  # the second time with images that stayed in memory
            assert torch.equal(passed(read, rows), passed(resident, rows))
        read.prepare(list(batches(rows, 1)))  # two trainings side by side
        read.prepare(list(batches(other, 1)))
        together = [
            read(part) for pair in zip(batches(rows, 1), batches(other, 1), strict=True) for part in pair
        ]
        assert torch.equal(torch.cat(together[::2]), passed(resident, rows, 1))
        assert torch.equal(torch.cat(together[1::2]), passed(resident, other, 1))
        read.close()
        read.prepare(list(batches(rows, 4)))  # an epoch of which nothing is left
        assert torch.equal(passed(read, rows), passed(resident, rows))


def counted(count: int, seen: list[int], **reading: int) -> Unread:
    """Images of one pixel that is their number, 10 and on; who is read is noted."""

    def one(item: int) -> Any:
        seen.append(item)
        return np.full((1, 1, 1), item, np.uint8)

    return Unread(
        range(10, 10 + count), (1, 1, 1), Way(one, lambda *_: torch.empty(0), lambda *_: b"")
    ).read_by(Reading(**reading))


def plain(of: Unread) -> Streamed:
    return Streamed(of, make_views({"name": "none"}, (1, 1, 1)), Normal([0.0], [1.0], 1.0, "cpu"))


def test_what_is_read_first_stays() -> None:
    seen: list[int] = []
    read, rows = plain(counted(12, seen, cache=4)), Rows(torch.arange(12), torch.zeros(12, dtype=torch.int64))
    first = passed(read, rows)
    assert first.flatten().tolist() == list(range(10, 22)) and seen == list(range(10, 22))
    assert torch.equal(passed(read, rows), first)
    assert seen[12:] == list(range(14, 22))


def test_no_more_is_read_ahead_than_is_wanted_soon() -> None:
    seen: list[int] = []
    read, rows = plain(counted(100, seen)), Rows(torch.arange(100), torch.zeros(100, dtype=torch.int64))
    read.prepare(list(batches(rows)))
    read(next(batches(rows)))
    assert len(seen) <= (streamed.AHEAD + 1) * BATCH
    read.prepare(list(batches(rows, 4)))  # the rest of the epoch is forgotten
    assert read(next(batches(rows, 4))).flatten().tolist() == list(range(30, 35))
    assert list(read.in_turn([])) == []


def test_the_share_of_the_time_that_was_waited(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    clock = [0.0]
    monkeypatch.setattr(streamed.time, "monotonic", lambda: clock[0] + 3.0 * len(seen))  # 3 s an image
    read, rows = (
        plain(counted(10, seen, cache=10)),
        Rows(torch.arange(10), torch.zeros(10, dtype=torch.int64)),
    )
    for _ in range(2):
        read.prepare(list(batches(rows)))
        for part in batches(rows):
            read(part)
            clock[0] += 10.0  # a step
        clock[0] += 100.0  # a validation
    assert read.share() == 0.0  # all were in memory
    assert read.share(epochs=True) == 30.0 / (30.0 + 10.0 + 10.0)


def test_it_is_chosen_by_size_and_does_not_change_who_is_who(root: Path, whole: ImageSet) -> None:
    needed = 17 * 3 * 16**2 + 7 * 3 * 14**2
    for memory, room, expected in (
        (2 * needed, None, Tensor),
        (2 * needed - 1, None, Unread),
        (2 * needed, needed, Tensor),
        (2 * needed, needed - 1, Unread),
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(select, "free_memory", lambda memory=memory: memory)
            node = yaml.safe_load(CONF.read_text()) | {"path": str(root), "size": 14, "resize_to": 16}
            data = load(node, root.parent / "data", Reading(cache=10**9, room=room))
        assert isinstance(data.train.images, expected) and isinstance(data.test.images, expected)
        assert data.fingerprint == whole.fingerprint
        assert data.image_shape == (3, 14, 14)
    kept = [len(part.images.kept.pixels) for part in data[2:5]]  # half of the free memory: all images
    assert kept == [17, 2, 5]


def test_a_copy_is_the_same_set_and_a_changed_picture_another(
    root: Path, whole: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copytree(root, tmp_path / "pets", copy_function=shutil.copyfile)
    looked: list[bytes] = []
    real = digests._digest
    monkeypatch.setattr(digests, "_digest", lambda content: looked.append(content) or real(content))
    assert loaded(copy, Reading(), cache=True).fingerprint == whole.fingerprint
    assert loaded(copy, Reading(), cache=True).fingerprint == whole.fingerprint
    assert len(looked) == 24  # once
    changed = copy / "a" / "000.png"
    with changed.open("r+b") as file:
        file.seek(-30, os.SEEK_END)
        file.write(b"\x00")  # of the same size
    os.utime(changed, ns=(1, 1))
    with pytest.raises(KdrunError, match=r"1 file cannot be read as images: \S+/a/000\.png"):
        loaded(copy, Reading(), cache=True)
    picture(changed, seed=99)
    assert loaded(copy, Reading(), cache=True).fingerprint != whole.fingerprint
    assert len(looked) == 26


def test_files_that_are_no_pictures_are_named_before_training(root: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(root, tmp_path / "pets")
    (copy / "a" / "x.jpg").write_bytes((root / "b" / "001.jpg").read_bytes()[:-300])
    (copy / "b" / "x.png").write_bytes((root / "a" / "000.png").read_bytes()[:-300])
    (copy / "b" / "y.gif").write_text("none")
    problem = r"3 files cannot be read as images: \S+x\.jpg \(.*truncated.*\), \S+x\.png \(.*\), \S+y\.gif"
    with pytest.raises(KdrunError, match=problem):
        loaded(copy, Reading(), test=1, validation=0)


@pytest.mark.parametrize("reading", [Reading(), ONE])
def test_a_picture_that_breaks_later_is_named(root: Path, tmp_path: Path, reading: Reading) -> None:
    copy = shutil.copytree(root, tmp_path / "pets")
    data = loaded(copy, reading, test=1, validation=0)
    rows = epoch(data)
    listed = data.train.images.items[rows.index[7]]
    content = Path(listed.path).read_bytes()
    Path(listed.path).write_bytes(content[:200])
    with closing(images(data)) as read:
        read.prepare(list(batches(rows)))
        parts = batches(rows)
        read(next(parts))
        with pytest.raises(KdrunError, match=rf"1 file cannot be read as images: {listed.path} \("):
            read(next(parts))
    Path(listed.path).write_bytes(content)  # mended: training goes on where it was
    again = loaded(copy, reading, test=1, validation=0)
    assert again.fingerprint == data.fingerprint
    with closing(images(again)) as read:
        passed(read, rows, 1)


def test_a_users_class_goes_to_other_processes_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    from kdrun.data import torch_dataset
    from tests.data import items as its

    monkeypatch.setattr(torch_dataset, "LARGE", 0)
    name = f"{its.__name__}:Named"
    raw = torch_dataset.read(
        Path(), train_class=name, validation_class=name, test_class=f"{its.__name__}:Items"
    )
    assert isinstance(raw.train.images, Unread) and isinstance(raw.test.images, Tensor)  # says no labels
    assert raw.train.labels.tolist() == [0, 1, 2] * 4
    found = raw.train.images[torch.tensor([5, 0])]
    assert torch.equal(found, raw.test.images[[5, 0]]) and torch.equal(
        raw.train.images.together(), raw.test.images
    )
    again = pickle.loads(pickle.dumps(raw.train.images.one))
    assert np.array_equal(again(5), found[0].numpy())
    first, other = raw.train.images, raw.train.images.taken(torch.arange(11), None)
    assert first.digest() == raw.validation.images.digest() != other.digest()
    with pytest.raises(KdrunError, match=r"train_class=Wrong: label 6 is 0, but 1 in `targets`"):
        torch_dataset.read(Path(), train_class=f"{its.__name__}:Wrong")
