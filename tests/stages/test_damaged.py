"""Whole runs whose caches are damaged: the run says so, mends them, and ends with the same bits."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from kdrun.artefacts import file_hash
from kdrun.cli import main
from tests.stages.pictures import write_pictures

RUN = (
    *("dataset=imagefolder", "dataset.path=pictures", "dataset.size=8", "dataset.resize_to=10"),
    *("dataset.views.name=none", "data_dir=data", "device=cpu", "threads=1"),
    *("teacher=cnn_digits", "student=cnn_digits_small", "control=false"),
    *("recipe=quick", "recipe.teacher.epochs=1", "recipe.student.epochs=2", "recipe.student.batch=10"),
    *("evaluation.latency=false", "evaluation.plots=false"),
)

DAMAGE = {
    "answers and pixels": (
        {"outputs/models/teacher-*/tables/*/logits.*": "is damaged (checksum of 1 rows); asked for anew"},
        {"data/decoded/*/images": "is damaged (checksum of 1 images); decoded anew"},
    ),
    "their checksums": (
        {"outputs/models/teacher-*/tables/*/codes.*": "is damaged (checksum of 1 rows); asked for anew"},
        {"data/decoded/*/sums": "images: is damaged (checksum of 1 images); decoded anew"},
    ),
    "what they are of": (
        {"outputs/models/teacher-*/tables/*/table.json": "is damaged or of another version; made anew"},
        {"data/decoded/*/keys": ""},  # a picture with another key is a new one
    ),
}


@pytest.fixture(autouse=True)
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_pictures(".png")


def hashes() -> dict[str, str]:
    """Of all weights."""
    return {str(path): file_hash(path) for path in sorted(Path("outputs").rglob("*.safetensors"))}


def one_bit(path: Path) -> bytes:
    """Changes the lowest bit of the byte before the last few; returns what was there."""
    whole = path.read_bytes()
    place = len(whole) - 7
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    return whole


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_caches_are_said_and_mended(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(list(RUN)) == 0
    whole, lines = hashes(), {}
    (run,) = Path("outputs/runs").iterdir()
    for pattern, line in (DAMAGE[name][0] | DAMAGE[name][1]).items():
        (path,) = Path().glob(pattern)
        lines[path] = line, one_bit(path)
    shutil.rmtree(run)
    capsys.readouterr()
    assert main(list(RUN)) == 0
    out, err = capsys.readouterr()
    said = " ".join((out + err).split())  # long lines are folded
    assert all(" ".join(line.split()) in said for line, _ in lines.values())
    assert hashes() == whole
    shutil.rmtree(run)
    assert main(list(RUN)) == 0  # from what was mended
    assert "damaged" not in "".join(capsys.readouterr())
    assert hashes() == whole
