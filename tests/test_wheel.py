"""The wheel holds everything that a run needs, and works from any folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked wheel, built from a copy of the sources so that nothing is left in the checkout."""
    source, wheels = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheels")
    skip = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("kdrun", "conf"):
        shutil.copytree(ROOT / name, source / name, ignore=skip)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "-w", str(wheels), str(source)], check=True)
    unpacked = tmp_path_factory.mktemp("site")
    zipfile.ZipFile(next(wheels.glob("*.whl"))).extractall(unpacked)
    return unpacked


def run(site: Path, folder: Path, *args: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, *args], cwd=folder, env=environment, check=True, capture_output=True, text=True
    )
    return done.stdout


def test_every_module_and_file_is_in_the_wheel(site: Path) -> None:
    def files(root: Path) -> set[str]:
        return {
            str(p.relative_to(root)) for p in root.rglob("*") if p.is_file() and "__pycache__" not in p.parts
        }

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
