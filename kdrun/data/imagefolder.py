"""Pictures in class folders: any folder with one folder for each class, or with `train/` and `val/` of these.

A folder `val/` (or `valid/`, `validation/`) or `test/` beside `train/` is the test part, as with ImageNet. If
both are there, `val/` is the validation part. A folder `test/` without class folders is left out: its classes
are not known. What has no part of its own is split off. Pictures become squares of one size: once, if all
that a run takes fits into memory, or else whenever they are taken.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from statistics import median_low
from typing import NamedTuple

import torch
from torch import Tensor

from kdrun.data import digests
from kdrun.data.decode import Picture, Square, picture, shorter_side, unreadable
from kdrun.data.images import Part, Raw
from kdrun.data.lazy import Unread, Way
from kdrun.data.pixel_cache import images, place, remove_older
from kdrun.errors import KdrunError
from kdrun.figures import listed as joined
from kdrun.paths import expanded, no_folder

TRAIN = ("train", "training")
VALIDATION = ("val", "valid", "validation")
TEST = ("test", "testing")
SHARES = (0.1, 0.2)
"""The fractions of one folder without parts that validate and test if the configuration leaves them null."""

LARGEST = 224
"""The largest side that `size: null` gives: most networks for photographs are made for it."""

PIXELS = 1
"""Part of a set's fingerprint. Raised if decoding gives most pictures other pixels than before."""

LOOKED_AT = 200
"""How many pictures are opened to find out how large they are."""

IGNORED = ("thumbs.db", "desktop.ini")
"""Files that systems leave in folders. Files whose name begins with a dot are ignored too."""


class Folders(NamedTuple):
    """Folders of class folders; None if there is no such part."""

    train: Path
    validation: Path | None = None
    test: Path | None = None


class Listed(NamedTuple):
    """The pictures of one part and the numbers of their classes."""

    pictures: list[Picture]
    labels: list[int]


def read(
    data_dir: Path,
    *,
    path: str | None = None,
    size: int | None = None,
    resize_to: int | None = None,
    channels: int = 3,
    cache: bool = True,
    val_classes: str | None = None,
) -> Raw:
    """The pictures below `path`; classes are the names of the class folders, sorted.

    size: side of the squares that a model sees; None: that of the pictures, at most 224. resize_to: of the
    shorter side before the centre is cut out; None: size * 256 / 224, but at most that of the pictures.
    channels: 3, or 1 for grey. cache: keep decoded pictures below `data_dir`. val_classes: a file with the
    classes of the pictures in `val/`, if they do not lie in class folders. Raises KdrunError.
    """
    if path is None:
        raise KdrunError("dataset.path", None, "which folder? dataset.path=/my/pictures")
    root = expanded(path)
    folders = parts(root)
    classes = class_names(folders.train)
    train, *held_out = listed(folders, classes, val_classes)
    assert train is not None
    seen, stored = sizes(train.pictures, size, resize_to)
    if channels not in (1, 3):
        raise KdrunError("dataset.channels", channels, "must be 3 (colour) or 1 (grey)")
    wanted = Square(stored, channels)
    made = partial(unread, wanted=wanted, root=root, data_dir=data_dir if cache else None)
    validation, test = (None if part is None else made(part) for part in held_out)
    return Raw(made(train), test, tuple(map(as_read, classes)), validation, seen, SHARES)


def unread(part: Listed, wanted: Square, root: Path, data_dir: Path | None) -> Part:
    """The part, to be decoded once it is known which pictures a run takes and whether they fit in memory, and
    kept below `data_dir` (None: not kept).
    """
    known = None if data_dir is None else digests.place(data_dir, root)
    kept = None if data_dir is None else place(data_dir, root, wanted)

    def together(pictures: Sequence[Picture], side: int | None) -> Tensor:
        if data_dir is not None:
            remove_older(data_dir, root, wanted)
        return images(pictures, wanted, side or wanted.side, kept)

    def digest(pictures: Sequence[Picture]) -> bytes:
        return f"{PIXELS} {wanted.side}".encode() + digests.digests(pictures, known)

    way = Way(partial(picture, wanted), together, digest)
    return Part(Unread(part.pictures, wanted.shape, way), torch.tensor(part.labels, dtype=torch.int64))


def parts(root: Path) -> Folders:
    """The folders that train, validate and test. Raises KdrunError for a path that is no folder."""
    if not root.is_dir():
        raise KdrunError("dataset.path", root, no_folder(root) or "no such folder")
    inside = {folder.name.lower(): folder for folder in folders_in(root)}
    train, validation, test = (
        next((inside[name] for name in names if name in inside), None) for names in (TRAIN, VALIDATION, TEST)
    )
    if train is None or (test is None and validation is None and len(inside) > 1):
        return Folders(root)  # three folders bus, car, train are classes
    if test is not None and folders_in(train) and not folders_in(test):
        test = None  # as ImageNet's and Kaggle's: pictures whose classes are not known
    if test is None:
        validation, test = None, validation
    return Folders(train, validation, test)


def class_names(folder: Path) -> tuple[str, ...]:
    """The names of the class folders, sorted. Raises KdrunError for fewer than two."""
    names = tuple(sorted(inside.name for inside in folders_in(folder)))
    if len(names) < 2:
        problem = f"only one class folder ({names[0]}); at least two are needed" if names else NO_CLASSES
        raise KdrunError("dataset.path", folder, problem)
    return names


NO_CLASSES = "no class folders in it; a folder for each class is needed, named after it, with its pictures"
OR_A_FILE = "if a file says the class of each picture: dataset.val_classes=FILE"


def held_out_of(folder: Path, classes: Sequence[str], val_classes: str | None) -> Listed:
    """The pictures of a part that is not trained on. Raises KdrunError as `pictures_of` and `assigned`."""
    if folder.name.lower() not in VALIDATION:
        return pictures_of(folder, classes)
    if val_classes is not None:
        return assigned(folder, classes, expanded(val_classes))
    if not folders_in(folder):
        raise KdrunError("dataset.path", folder, f"{NO_CLASSES}; {OR_A_FILE}")
    return pictures_of(folder, classes)


def assigned(folder: Path, classes: Sequence[str], file: Path) -> Listed:
    """The pictures in a folder whose classes stand in a file: a line for each, its name and its class first,
    between spaces, tabs or commas, as in Kaggle's LOC_val_solution.csv for ImageNet and in Tiny ImageNet's
    val_annotations.txt. Raises KdrunError for pictures without a class that is trained on.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        problem = "no such file, or it cannot be read as text"
        raise KdrunError("dataset.val_classes", file, problem) from error
    words = [re.split(r"[,\s]+", line.strip()) for line in lines if line.strip()]
    class_of = {Path(line[0]).stem: line[1] for line in words if len(line) > 1}
    pictures = [picture for picture in files_in(folder) if not file.samefile(picture.path)]
    if not pictures:
        raise KdrunError("dataset.path", folder, "no pictures in it")
    names = [Path(picture.path).stem for picture in pictures]
    if unknown := [
        picture.path for picture, name in zip(pictures, names, strict=True) if name not in class_of
    ]:
        raise KdrunError("dataset.val_classes", file, f"has no line with the class of {joined(unknown, 3)}")
    numbers = {name: number for number, name in enumerate(classes)}
    if foreign := sorted({class_of[name] for name in names} - set(numbers)):
        problem = f"names classes that the training part does not have: {joined(foreign, 3)}"
        raise KdrunError("dataset.val_classes", file, problem, classes)
    return Listed(pictures, [numbers[class_of[name]] for name in names])


def listed(folders: Folders, classes: Sequence[str], val_classes: str | None) -> list[Listed | None]:
    """The pictures of each part. Raises one KdrunError for what is wrong with any of them."""
    parts, errors = list[Listed | None](), list[KdrunError]()
    for folder in folders:
        try:
            if folder is None:
                parts.append(None)
            elif folder == folders.train:
                parts.append(pictures_of(folder, classes))
            else:
                parts.append(held_out_of(folder, classes, val_classes))
        except KdrunError as error:
            errors.append(error)
    if len(errors) > 1:
        problems = "; ".join(f"{Path(error.args[1]).name}: {error.args[2]}" for error in errors)
        raise KdrunError("dataset.path", folders.train.parent, problems)
    if errors:
        raise errors[0]
    everything = [picture for part in parts if part is not None for picture in part.pictures]
    if any(picture.size == 0 for picture in everything):
        digests.digests(everything, None)  # names these, and all others that are no pictures
    return parts


def as_read(name: str) -> str:
    """The name of a folder as people read it, also if the locale cannot read its letters."""
    return os.fsencode(name).decode("utf-8", "replace")


def pictures_of(folder: Path, classes: Sequence[str]) -> Listed:
    """The files of the class folders, by class, then path. Raises KdrunError for foreign or empty folders."""
    files = {name: list(files_in(folder / name)) for name in sorted(f.name for f in folders_in(folder))}
    if not files:
        raise KdrunError("dataset.path", folder, NO_CLASSES)
    foreign = [name for name in files if name not in classes]
    vacant = [name for name, inside in files.items() if not inside]
    problems = {"that the training part does not have": foreign, "without pictures": vacant}
    if foreign or vacant:
        named = [f"class folders {what}: {joined(names, 3)}" for what, names in problems.items() if names]
        raise KdrunError("dataset.path", folder, "; ".join(named), classes if foreign else ())
    numbers = {name: number for number, name in enumerate(classes)}
    labels = [numbers[name] for name, inside in files.items() for _ in inside]
    return Listed([file for inside in files.values() for file in inside], labels)


def sizes(pictures: Sequence[Picture], size: int | None, resize_to: int | None) -> tuple[int, int]:
    """The side of the squares that a model sees, and of the kept squares from which they are cut."""
    usual = usual_side(pictures) if size is None or resize_to is None else 0
    seen = min(usual, LARGEST) if size is None else size
    if seen < 1:
        raise KdrunError("dataset.size", size, "must be at least 1 pixel")
    # 256 for 224, as is usual; an even number more, so that the centre is whole pixels away
    stored = max(seen, min(usual, seen + 2 * round(seen / 14))) if resize_to is None else resize_to
    if stored < seen:
        raise KdrunError("dataset.resize_to", resize_to, f"must be at least dataset.size ({seen})")
    return seen, stored


def usual_side(pictures: Sequence[Picture]) -> int:
    """The median of the shorter sides of some pictures, in pixels. Raises KdrunError if none can be read."""
    step = max(1, len(pictures) // LOOKED_AT)
    sides = []
    for file in pictures[::step]:
        with suppress(Exception):  # what is no image is named later
            sides.append(shorter_side(file.path))
    if not sides:
        raise unreadable([f"{file.path} (no image)" for file in pictures[::step]])
    return median_low(sides)


def folders_in(folder: Path) -> list[Path]:
    """The folders in a folder, without hidden ones and that of kdrun's caches."""
    inside = [each for each in folder.iterdir() if each.is_dir() and not each.name.startswith(".")]
    return [each for each in inside if not digests.is_place(each)]


def files_in(folder: Path, above: tuple[tuple[int, int], ...] = ()) -> Iterator[Picture]:
    """The files in a folder and in the folders in it, by path; hidden ones and kdrun's caches left out.
    above: device and inode of the folders in which it is. Raises KdrunError for a link to one of these, a
    pipe.
    """
    about = folder.stat()
    here = (*above, (about.st_dev, about.st_ino))
    if here[-1] in above:
        raise unreadable([f"{folder} (a link to a folder in which it is)"])
    with os.scandir(folder) as entries:
        inside = sorted(entries, key=lambda entry: entry.name)
    for entry in inside:
        if entry.name.startswith(".") or entry.name.lower() in IGNORED:
            continue
        if entry.is_dir():
            if not digests.is_place(Path(entry.path)):
                yield from files_in(Path(entry.path), here)
        elif entry.is_file():
            facts = entry.stat()
            yield Picture(entry.path, facts.st_size, facts.st_mtime_ns)
        elif os.path.exists(entry.path):
            raise unreadable([f"{entry.path} (a pipe or a device)"])
        else:
            yield Picture(entry.path, 0, 0)  # a link to nowhere
