"""Which files of a user's packages a run takes: found by their syntax, nothing is imported."""

from __future__ import annotations

import importlib
import sys
import zipfile
from pathlib import Path

import pytest

from kdrun.sources import sources

FILES = {
    "mine/__init__.py": "",
    "mine/losses.py": "from . import shared\nfrom mine.deep.inner import f\nimport os, torch",
    "mine/shared.py": "def late():\n    import beside\n",
    "mine/deep/__init__.py": "",
    "mine/deep/inner.py": "from ..nets import build as f\n",
    "mine/nets.py": "from kdrun.losses.base import Loss\n",
    "mine/dynamic.py": "import importlib\nm = importlib.import_module('.nets', __package__)\n",
    "mine/star.py": "from mine.all import *\n",
    "mine/all/__init__.py": "__all__ = ['one']\n",
    "mine/all/one.py": "",
    "mine/circle.py": "from mine import circle2\n",
    "mine/circle2.py": "import mine.circle\n",
    "mine/wrong.py": "def (:\n",
    "mine/data.py": "class Pictures: ...",
    "beside.py": "raise SystemExit('imported')\n",
    "folder/losses.py": "",
    "single.py": "import beside",
}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("value", "files"),
    [
        ("mine.nets", "mine/nets.py"),
        (
            {"name": "mine.losses"},
            "beside.py mine/deep/__init__.py mine/deep/inner.py mine/losses.py mine/nets.py mine/shared.py",
        ),
        (["mine.dynamic"], "mine/dynamic.py mine/nets.py"),
        ("mine.star", "mine/all/__init__.py mine/all/one.py mine/star.py"),
        ("mine.circle", "mine/circle.py mine/circle2.py"),
        ("mine.wrong", "mine/wrong.py"),
        ("mine.data:Pictures", "mine/data.py"),
        ("mine.nothing", ""),
        ({"near": ({"name": "mine.nets"}, {"name": "kd"}, 3, None)}, "mine/nets.py"),
    ],
)
def test_a_module_and_what_it_imports(root: Path, value: object, files: str) -> None:
    found = set(sources(value, ["mine"]))
    assert found - {"mine/__init__.py"} == set(files.split())
    assert ("mine/__init__.py" in found) == bool(files)
    assert "mine" not in sys.modules


def test_packages_of_other_kinds(root: Path) -> None:
    assert set(sources("folder.losses", ["folder"])) == {"folder/", "folder/losses.py"}
    assert set(sources("single:Pictures", ["single"])) == {"single.py", "beside.py"}
    assert sources("mine.nets", []) == sources("mine.nets", ["folder"]) == {}
    with zipfile.ZipFile(root / "packed.zip", "w") as packed:
        packed.writestr("packed/__init__.py", "")
        packed.writestr("packed/nets.py", "import packed.more")
        packed.writestr("packed/more.py", "")
    sys.path.insert(0, str(root / "packed.zip"))
    assert set(sources("packed.nets", ["packed"])) == {
        "packed/__init__.py",
        "packed/nets.py",
        "packed/more.py",
    }


def test_what_an_init_imports_is_run_too(root: Path) -> None:
    (root / "mine" / "__init__.py").write_text("from .data import Pictures")
    assert set(sources("mine.nets", ["mine"])) == {"mine/__init__.py", "mine/nets.py", "mine/data.py"}


def test_the_digest_follows_the_text_and_not_the_place(root: Path, tmp_path: Path) -> None:
    before = sources("mine.nets", ["mine"])
    (root / "mine" / "nets.py").write_bytes(FILES["mine/nets.py"].replace("\n", "\r\n").encode())
    assert sources("mine.nets", ["mine"]) == before
    (root / "mine" / "nets.py").write_text(FILES["mine/nets.py"] + "x = 1\n")
    after = sources("mine.nets", ["mine"])
    assert after.keys() == before.keys() and after["mine/nets.py"] != before["mine/nets.py"]
    assert after["mine/__init__.py"] == before["mine/__init__.py"]


def test_what_this_process_has_imported_counts_as_it_was(root: Path) -> None:
    before = sources("mine.nets", ["mine"])
    importlib.import_module("mine.nets")
    (root / "mine" / "nets.py").write_text("x = 1\n")
    assert sources("mine.nets", ["mine"]) == before
    for name in ("mine", "mine.nets"):
        del sys.modules[name]
    assert sources("mine.nets", ["mine"]) != before
