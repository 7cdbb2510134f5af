"""docs/methods.md is what the files say, and what it tells to type works."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest

from kdrun.cli import main
from tests.scripts import loaded

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "methods.md"
LOSSES = sorted((ROOT / "conf" / "loss").glob("*.yaml"))


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return loaded("methods_doc")


def test_the_page_is_up_to_date(script: ModuleType) -> None:
    assert PAGE.read_text() == script.page(), "run scripts/methods_doc"


@pytest.mark.parametrize("path", LOSSES, ids=lambda path: path.stem)
def test_what_a_loss_needs_is_told(script: ModuleType, path: Path) -> None:
    assert path.read_text() == script.with_header(path), "run scripts/methods_doc"


def test_every_method_and_loss_is_on_the_page() -> None:
    text = PAGE.read_text()
    for path in (ROOT / "conf" / "method").glob("*.yaml"):
        assert f"| `{path.stem}` | " in text
    for path in LOSSES:
        assert f"**`{path.stem}`**" in text


def test_methods_that_it_names_are_there() -> None:
    table = PAGE.read_text().partition("## How to choose")[2].partition("- **Needs**")[0]
    named = set(re.findall(r"`(\w+)`", table)) | set(re.findall(r"method=([\w,]+)", table)[0].split(","))
    assert named <= {path.stem for path in (ROOT / "conf" / "method").glob("*.yaml")}


def test_the_walk_through_works(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    part = PAGE.read_text().partition("## Add one")[2].partition("## All losses")[0]
    files = dict(script.blocks(part))
    assert list(files) == ["mine/huber.py", "conf/loss/huber.yaml", "conf/method/huber.yaml"]
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (command,) = re.findall(r"^kdrun (.*)$", part, re.MULTILINE)
    short = ["recipe.teacher.epochs=1", "recipe.student.epochs=1", "stages=[teacher,student]"]
    monkeypatch.chdir(tmp_path)
    status = main([*command.split(), *short, "control=false", f"data_dir={tmp_path}"])
    out, err = capsys.readouterr()
    assert status == 0, err
    assert "0.5 CE + 0.5 Huber(teacher, student; 2)" in out
    assert list(tmp_path.glob("outputs/runs/*-huber-*/student.json"))
