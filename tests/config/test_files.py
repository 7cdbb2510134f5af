"""Files of a user that could not be read to their end, that hide kdrun's, or lie outside of their group."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from kdrun.errors import KdrunError
from tests.config.composed import composed

pytestmark = pytest.mark.usefixtures("hydra_composes_each")

GLOBAL = "# @package _global_\n"
NONE = "experiment=mine: no such experiment"
FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a pipe": (os.mkfifo, NONE),
    "a device": (lambda path: path.symlink_to("/dev/zero"), NONE),
    "a folder": (Path.mkdir, NONE),
    "a link to itself": (lambda path: path.symlink_to(path.name), NONE),
    "deep": (lambda path: path.write_text(f"{GLOBAL}note: {'[' * 3000}{']' * 3000}\n"), "nested too deeply"),
    "large": (lambda path: path.write_text("#" * 1_000_001), "is larger than 1,000,000 bytes"),
    "a long number": (
        lambda path: path.write_text(f"{GLOBAL}seed: {'9' * 5000}\n"),
        "experiment=mine: Exceeds",
    ),
    "no header": (
        lambda path: path.write_text("seed: 4\n"),
        "the first line of this file must be: # @package",
    ),
    "a byte order mark": (
        lambda path: path.write_bytes(b"\xef\xbb\xbf# @package _global_\nseed: 4\n"),
        "must be: # @package _global_ ",
    ),
    "a list for a mapping": (
        lambda path: path.write_text(f"{GLOBAL}student: [a]\n"),
        "a mapping {key: value} is needed",
    ),
    "a text for a mapping": (
        lambda path: path.write_text(f"{GLOBAL}loss: kd\n"),
        "loss: has a list or a value where",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_cannot_be_used_is_one_line(tmp_path: Path, name: str) -> None:
    make, problem = FILES[name]
    (tmp_path / "experiment").mkdir()
    make(tmp_path / "experiment" / "mine.yaml")
    with pytest.raises(KdrunError) as error:
        composed("experiment=mine", tmp_path)
    text = str(error.value)
    assert problem in text and "\n" not in text and len(text) < 400


@pytest.mark.parametrize("place", ["--config-dir", "hydra.searchpath"])
def test_no_file_hides_the_types_of_all_keys(tmp_path: Path, place: str) -> None:
    (tmp_path / "schema.yaml").write_text("seed: 1\n")
    with pytest.raises(KdrunError, match="kdrun has a file of this name; give yours another"):
        if place == "--config-dir":
            composed("", tmp_path)
        else:
            composed(f"hydra.searchpath=[file://{tmp_path}]")


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("5", "=5: a list of folders is needed"),
        ("[/nowhere]", "=/nowhere: no such folder"),
        ("[pkg://nowhere.x]", "=pkg://nowhere.x: no such package"),
        ("[structured://x]", "must be a folder, file://FOLDER or pkg://PACKAGE"),
        ("[s3://x]", "must be a folder, file://FOLDER or pkg://PACKAGE"),
    ],
)
def test_where_files_are_looked_for_must_be_there(given: str, problem: str) -> None:
    with pytest.raises(KdrunError) as error:
        composed(f"hydra.searchpath={given}")
    assert problem in str(error.value)


@pytest.mark.parametrize("word", ["experiment=../../x", "experiment=/etc/passwd", "method=kd,../x"])
def test_names_stay_in_their_group(word: str) -> None:
    with pytest.raises(KdrunError, match="no such"):
        composed(word)
