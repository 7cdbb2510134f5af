"""The wheel holds everything that a run needs, and works from any folder."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked source distribution, built from a copy so that nothing is left in the checkout."""
    copy, built = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("built")
    skip = shutil.ignore_patterns("__pycache__", "*.egg-info", ".*", ".venv", "build", "outputs", "site")
    shutil.copytree(ROOT, copy, ignore=skip, dirs_exist_ok=True, ignore_dangling_symlinks=True)
    build = f"from setuptools.build_meta import build_sdist; build_sdist({str(built)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=copy, check=True, capture_output=True)
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # Python 3.11.4 brought it
        archive.extractall(built)
    return next(path for path in built.iterdir() if path.is_dir())


@pytest.fixture(scope="module")
def site(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked wheel, built from the source distribution."""
    wheels, unpacked = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "-w", str(wheels), str(source)], check=True)
    zipfile.ZipFile(next(wheels.glob("*.whl"))).extractall(unpacked)
    return unpacked


def run(site: Path, folder: Path, *args: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, *args], cwd=folder, env=environment, check=True, capture_output=True, text=True
    )
    return done.stdout


def files(root: Path) -> set[str]:
    """The files of a folder, without what Python and the system leave there."""
    paths = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
    return {str(path) for path in paths if "__pycache__" not in path.parts}


def test_the_source_distribution_has_the_tests_and_what_they_read(source: Path) -> None:
    for name in ("tests", "docs", "scripts", "results"):
        assert files(ROOT / name) == files(source / name), name
    assert {"CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "LICENSE", "mkdocs.yml"} <= files(source)


def test_every_module_and_file_is_in_the_wheel(site: Path) -> None:
    assert files(ROOT / "kdrun") <= files(site / "kdrun")
    assert files(ROOT / "conf") <= files(site / "kdrun" / "conf")


def test_the_wheel_is_used_from_another_folder(site: Path, tmp_path: Path) -> None:
    where = "import kdrun, kdrun.conf; print(kdrun.__file__); print(kdrun.conf.__file__)"
    assert all(Path(line).is_relative_to(site) for line in run(site, tmp_path, "-c", where).split())
    assert "student:" in run(site, tmp_path, "-m", "kdrun", "--cfg", "job")


def test_a_whole_run_from_the_wheel(site: Path, tmp_path: Path) -> None:
    quick = (
        "recipe.teacher.epochs=2",
        "recipe.student.epochs=2",
        "evaluation.latency=false",
        "evaluation.plots=false",
    )
    run(site, tmp_path, "-m", "kdrun", *quick)
    report = json.loads(next((tmp_path / "outputs" / "runs").glob("*/report.json")).read_text())
    assert report["models"]["student"]["last"]["test"]["n"] == 1000


def test_the_version_is_the_same_everywhere() -> None:
    named = {
        "pyproject.toml": r'^version = "(.+)"$',
        "kdrun/__init__.py": r'^__version__ = "(.+)"$',
        "CITATION.cff": r"^version: (.+)$",
        "CHANGELOG.md": r"^## (\S+)",
        "README.md": r"^kdrun  ([\d.]+) ",
    }
    found = {path: re.search(line, (ROOT / path).read_text(), re.M) for path, line in named.items()}
    assert len({match and match[1] for match in found.values()}) == 1, found
