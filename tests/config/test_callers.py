"""What decides which code runs comes from the command line alone, whatever a user's files say."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from kdrun.cli import main
from kdrun.config.callers import is_callers
from kdrun.errors import KdrunError
from tests.config.composed import composed

pytestmark = pytest.mark.usefixtures("hydra_composes_each")

GLOBAL = "# @package _global_\n"
TYPE = "no file can set this, since it decides which code runs. Take it out there, and type "
EVIL = f"packages: {TYPE}'packages=[evil]'"
ENGINE = f"engine.setup: {TYPE}'engine.setup="
TABLE = """
title: t
paper: {title: t, authors: a, venue: v, address: x}
figure: accuracy
dataset: digits
convention: {epoch: last, sure: true, statistic: mean, evidence: e}
seeds: [0]
run: [dataset=digits]
pairs: {cnn_digits-cnn_digits_small: {}}
methods: {kd: {run: [method=kd, 'packages=[evil]']}}
sources: {paper: {where: t}}
published: []
"""

TRICKS: dict[str, tuple[str, Mapping[str, str], str]] = {
    "experiment": ("experiment=mine", {"experiment/mine": f"{GLOBAL}packages: [evil]\n"}, EVIL),
    "typed too": ("experiment=mine packages=[mine]", {"experiment/mine": f"{GLOBAL}packages: [evil]"}, EVIL),
    "method": (
        "method=mine",
        {"method/mine": f"{GLOBAL}defaults: [/method/kd@_global_, _self_]\npackages: [evil]\n"},
        EVIL,
    ),
    "data set": ("dataset=mine", {"dataset/mine": f"{GLOBAL}packages: [evil]\n"}, EVIL),
    "placed by another": (
        "experiment=mine",
        {
            "experiment/mine": f"{GLOBAL}defaults: [/any/other@_global_: x]\n",
            "any/other/x": "packages: [evil]",
        },
        EVIL,
    ),
    "placed, deeper": (
        "experiment=mine",
        {
            "experiment/mine": f"{GLOBAL}defaults: [optional /any@_global_: '${{experiment}}']\n",
            "any/mine": "defaults: [/x/y@_global_]\n",
            "x/y": "packages: [evil]\n",
        },
        EVIL,
    ),
    "two endings": (
        "experiment=mine",
        {
            "experiment/mine": f"{GLOBAL}defaults: [/any@_global_: x.yaml.yaml]\n",
            "any/x.yaml": "packages: [evil]\n",
        },
        EVIL,
    ),
    "typed place": ("+any@_global_=x", {"any/x": "packages: [evil]\n"}, EVIL),
    "interpolated": (
        "experiment=mine",
        {"experiment/mine": f"{GLOBAL}tags: [evil]\npackages: ${{tags}}\n"},
        f"packages: {TYPE}'packages=[mine]'",
    ),
    "merged": (
        "experiment=mine",
        {"experiment/mine": f"{GLOBAL}dataset: &x {{packages: [evil]}}\n<<: *x\n"},
        EVIL,
    ),
    "sweep": (
        "sweep=mine",
        {"sweep/mine": "hydra: {sweeper: {params: {packages: '[evil]', seed: '0,1'}}}\n"},
        "sweep=mine=packages=[evil]: no file can set this",
    ),
    "sweep, added": (
        "experiment=mine",
        {"experiment/mine": f"{GLOBAL}hydra: {{sweeper: {{params: {{++packages: '[evil]'}}}}}}\n"},
        "experiment=mine=++packages=[evil]: no file can set this",
    ),
    "search path": (
        "sweep=mine",
        {"sweep/mine": "hydra: {sweeper: {params: {hydra.searchpath: '[pkg://evil]', seed: '0,1'}}}\n"},
        "sweep=mine=hydra.searchpath=[pkg://evil]: no file can set this",
    ),
    "shell lines": (
        "engine=mine",
        {"engine/mine": "defaults: [slurm]\nexecutor: local\nsetup: [touch pwned]\n"},
        f"{ENGINE}['\"'\"'module load cuda",
    ),
    "an address": (
        "engine=mine",
        {"engine/mine": "defaults: [ray]\naddress: ray://evil:1\n"},
        f"engine.address: {TYPE}engine.address=HOST:PORT",
    ),
    "logging": (
        "experiment=mine",
        {"experiment/mine": f"{GLOBAL}hydra: {{job_logging: {{handlers: {{x: {{(): os.system}}}}}}}}\n"},
        "hydra.job_logging.handlers.x.(): Hydra only composes here",
    ),
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a package whose import leaves a file."""
    monkeypatch.chdir(tmp_path)
    for name in ("evil", "mine"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"open('{name}-was-here', 'w')\n")
    return tmp_path


def write(files: Mapping[str, str]) -> None:
    for name, content in files.items():
        path = Path("conf", f"{name}.yaml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


PLACES = ("--config-dir conf", "hydra.searchpath=[file://conf]")


@pytest.mark.parametrize(
    ("name", "place"),
    [*((name, PLACES[0]) for name in TRICKS), ("experiment", PLACES[1]), ("placed by another", PLACES[1])],
)
def test_no_file_says_which_code_runs(
    here: Path, name: str, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words, files, problem = TRICKS[name]
    write(files)
    code = main(["check", *shlex.split(place), *words.split()])
    out, err = capsys.readouterr()
    assert (code, err.count("\n")) == (2, 1) and problem in err, err
    assert err.startswith(("conf/", f"{here}/conf/", "sweep=mine", "experiment=mine"))
    assert not list(here.glob("*-was-here")) and "ready" not in out


@pytest.mark.parametrize("words", ["--cfg job", "--cfg hydra", "--info all"])
def test_nor_is_it_shown(here: Path, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    write(TRICKS["logging"][1])
    assert main(["--config-dir", "conf", "experiment=mine", *words.split()]) == 2
    assert "hydra.job_logging" in capsys.readouterr().err


def test_nor_does_a_table(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write({"table/mine": TABLE})
    assert main(["table", "mine", "--list", "--config-dir", "conf"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("conf/table/mine.yaml: methods.kd.run=packages=[evil]: no file can set this")
    assert not list(here.glob("*-was-here"))


def test_values_that_are_copied_into_a_key_are_found(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = (
        f"{GLOBAL}dataset: {{shadow: {{name: slurm, setup: [touch pwned]}}}}\nengine: ${{dataset.shadow}}\n"
    )
    write({"experiment/mine": content})
    for words in ((), ("engine=slurm",)):
        assert main(["check", "--config-dir", "conf", "experiment=mine", *words]) == 2
        assert "engine.setup" in capsys.readouterr().err


def test_files_may_leave_empty_what_the_caller_types(here: Path) -> None:
    write({"experiment/mine": f"{GLOBAL}packages: []\nseed: 3\n"})
    run = composed("experiment=mine packages=mine", Path("conf")).run
    assert (run.packages, run.seed) == (["mine"], 3)
    assert composed("++packages=[mine]").run.packages == ["mine"]


@pytest.mark.parametrize(
    ("override", "callers"),
    [
        ("packages=[x]", True),
        ("++packages.0=x", True),
        ("engine={name: slurm, setup: [x]}", True),
        ("engine.setup=[x]", True),
        ("hydra.searchpath=[pkg://x]", True),
        ("engine=slurm", False),
        ("engine.partition=x", False),
        ("tags=[packages]", False),
    ],
)
def test_keys_of_the_caller(override: str, callers: bool) -> None:
    assert is_callers(override) is callers


def test_the_main_module_is_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    with pytest.raises(KdrunError, match="packages=__main__: no such package"):
        composed("packages=[__main__]")
