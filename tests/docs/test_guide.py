"""The commands of the guide and of the page about reports run as they stand, but for their length."""

from __future__ import annotations

import glob
import importlib.util
import io
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kdrun.cli import main
from kdrun.config.arguments import parse
from kdrun.config.compose import single
from kdrun.config.keys import keys
from tests.docs.pages import DOCS, blocks, commands, words

SHORT = [
    "recipe.teacher.epochs=1",
    "recipe.student.epochs=1",
    "evaluation.latency=false",
    "evaluation.plots=false",
]
SMALL = ("list", "report", "predict", "outputs", "check", "--cfg", "compare", "explain", "look", "quick=true")
PAGES = ("first_hour.md", "guide.md", "report.md", "tutorials.md", "dark_knowledge.md", "controls.md")
COMMANDS = [(page, *pair) for page in PAGES for block in blocks(page) for pair in commands(block)]
RUN = [(page, command) for page, command, remark in COMMANDS if not re.search("needs|takes long", remark)]
MARKED = [(page, command) for page, command, remark in COMMANDS if re.search("needs|takes long", remark)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all commands are called, in the order of the pages."""
    root = tmp_path_factory.mktemp("guide")
    draw = np.random.default_rng(0)
    for name, brightness in (("cat", 0), ("dog", 100)):
        (root / "pictures" / name).mkdir(parents=True)
        for number in range(20):
            pixels = draw.integers(0, 120, (16, 16, 3), dtype=np.uint8) + np.uint8(brightness)
            Image.fromarray(pixels).save(root / "pictures" / name / f"{number}.png")
    Image.fromarray(draw.integers(0, 255, (8, 8), dtype=np.uint8)).save(root / "seven.png")
    return root


def before(command: str) -> None:
    """Puts there what the reader is supposed to have."""
    for role, pattern in (
        ("teacher", "models/teacher-*-digits_few-*/last"),
        ("student", "runs/*-kd-*/student"),
    ):
        for file in glob.glob(f"outputs/{pattern}.safetensors")[:1]:
            shutil.copy(file, f"{role}.safetensors")
    if "*-kd-*" in command:  # one run, as the page says
        for extra in sorted(glob.glob("outputs/runs/*-kd-*"))[1:]:
            shutil.rmtree(extra)


def expanded(argument: str) -> list[str]:
    """As a shell would: the files that a pattern stands for."""
    return sorted(glob.glob(argument)) or [argument] if "*" in argument else [argument]


@pytest.mark.parametrize(("page", "command"), RUN, ids=[f"{page}: {command}" for page, command in RUN])
def test_each_command_runs(
    folder: Path,
    page: str,
    command: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    before(command)
    arguments = [part for word in words(command) for part in expanded(word)]
    short = [] if any(word in arguments for word in SMALL) else SHORT
    assert main([*arguments, *short]) == 0, capsys.readouterr().err
    assert capsys.readouterr().out


@pytest.mark.parametrize(("page", "command"), MARKED, ids=[f"{page}: {command}" for page, command in MARKED])
def test_what_is_not_run_here_is_a_configuration_all_the_same(page: str, command: str) -> None:
    typed = parse(words(command))
    needed = {"logger=tensorboard": "tensorboard"}
    if any(word in command and importlib.util.find_spec(name) is None for word, name in needed.items()):
        pytest.skip("a package is missing")
    if not typed.many:
        assert single(typed).run.student.name


def test_there_are_commands_and_every_link_leads_somewhere() -> None:
    assert len(RUN) >= 20 and len(MARKED) >= 4
    for page in (*DOCS.glob("*.md"), DOCS.parent / "README.md"):
        for link in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_lines_of_the_pages_are_no_longer_than_they_should_be() -> None:
    for page in (DOCS / "guide.md", DOCS / "own-parts.md"):
        long = [line for line in page.read_text(encoding="utf-8").splitlines() if len(line) > 130]
        assert not long, long


@pytest.mark.parametrize("page", ["upgrade.md", "int8.md", "engines.md", "ranks.md"])
def test_keys_in_the_text_of_a_page_exist(page: str) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    if page == "upgrade.md":
        text = text.partition("| in 0.1 |")[0] + re.sub(
            r"^\|[^|]*\|", "|", text.partition("| in 0.1 |")[2], flags=re.MULTILINE
        )
    codes = re.findall(r"`([^`\n(]+)`", text)  # no calls of Python
    typed = {key for code in codes for key in re.findall(r"(?<!\S)([a-z][\w.]*)=", code)}
    assert typed and not typed - {key.name for key in keys()}
