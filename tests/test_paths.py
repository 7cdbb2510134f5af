"""Paths as a user types them."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdrun.data.load import load
from kdrun.errors import KdrunError
from kdrun.paths import expanded, no_folder
from tests.config.composed import composed


def test_the_home_of_a_user_who_is_not_known_stays_as_typed() -> None:
    assert expanded("~nobody-of-this-name/x") == Path("~nobody-of-this-name/x")
    assert expanded("~/x") == Path.home() / "x"


def test_a_file_where_a_folder_is_needed_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("nowhere")
    assert no_folder(tmp_path) == no_folder(tmp_path / "new/one") == ""
    assert no_folder(tmp_path / "file") == "is a file, not a folder"
    assert no_folder(tmp_path / "file/x/y") == f"{tmp_path / 'file'} is a file, not a folder"
    assert no_folder(tmp_path / "link") == "is a link to nothing"


FOLDERS = ("data_dir", "outputs_dir", "dataset.unlabelled", "hydra.searchpath", "--config-dir")
"""Keys and options that take a folder, and are read before the data are."""


@pytest.mark.parametrize("inside", ["", "/new"])
@pytest.mark.parametrize("key", FOLDERS)
def test_each_key_of_a_folder_refuses_a_file_at_once(key: str, inside: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    place = f"{tmp_path / 'file'}{inside}"
    words = {"hydra.searchpath": f"{key}=[{place}]"}.get(key, f"{key}={place}")
    with pytest.raises(KdrunError, match=f"^{key}={place}: .*is a file, not a folder$"):
        composed(f"dataset=mnist {words}")


def test_data_are_not_downloaded_into_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for key, dataset in (
        ("data_dir", {"source": "torchvision", "variant": "mnist"}),
        ("dataset.path", {"source": "imagefolder", "path": str(tmp_path / "file"), "size": 8, "channels": 3}),
    ):
        place = tmp_path / "file" if key == "data_dir" else tmp_path
        with pytest.raises(KdrunError, match=f"^{key}=.*file: is a file, not a folder$"):
            load(dataset, place)
