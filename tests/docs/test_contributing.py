"""CONTRIBUTING.md names the files, folders and classes of the program as they are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
QUOTED = sorted(set(re.findall(r"`(\w[\w./]*)`", TEXT)))
FILES = [name for name in QUOTED if ("/" in name or name.endswith(".py")) and not re.search("[A-Z]", name)]
CLASSES = sorted({name.partition(".")[0] for name in QUOTED if re.match("[A-Z][a-z]", name)} - {"DataLoader"})


@pytest.mark.parametrize("name", FILES)
def test_each_file_and_folder_exists(name: str) -> None:
    assert any((ROOT / folder / name).exists() for folder in ("", "kdrun"))


def test_each_class_exists() -> None:
    sources = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "kdrun").rglob("*.py"))
    assert [name for name in CLASSES if not re.search(rf"^class {name}\b", sources, re.MULTILINE)] == []


def test_each_room_and_each_file_of_the_ground_is_in_the_table() -> None:
    rooms = TEXT.partition("## The rooms")[2].partition("| noun |")[0]
    inside = [path for path in (ROOT / "kdrun").iterdir() if not path.is_symlink() and path.name[:2] != "__"]
    named = {path.name for path in inside if path.suffix == ".py"}
    named |= {f"{path.name}/" for path in inside if (path / "__init__.py").exists()}
    assert named - set(re.findall("`([^`]+)`", rooms)) == set()
