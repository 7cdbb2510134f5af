"""What is typed and what is answered: exit codes and, for every mistake, one line."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import kdrun
from kdrun.cli import main
from kdrun.commands import help as kdrun_help
from kdrun.commands import run as run_command
from kdrun.commands import sweep as sweep_command
from kdrun.config.schema import Run
from kdrun.errors import KdrunError

ROOT = Path(__file__).parents[1]

Ask = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Ask:
    """Calls the command line in an empty folder: exit code, output, errors. Nothing is trained."""
    monkeypatch.chdir(tmp_path)
    for name in ("KDRUN_TRACEBACK", "HYDRA_FULL_ERROR", "COMP_LINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(run_command, "run", fake_run)
    monkeypatch.setattr("kdrun.plan.plan.make_plan", lambda run, grounds: run)
    monkeypatch.setattr(sweep_command, "finished_earlier", lambda runs: [False for _ in runs])
    monkeypatch.setattr(sweep_command, "ahead", lambda runs, earlier: None)
    monkeypatch.setattr(
        sweep_command, "carried_out", lambda run, command, made: run_command.run(run, [command])
    )

    def asked(line: str) -> tuple[int, str, str]:
        code = main(shlex.split(line))
        out, err = capsys.readouterr()
        return code, out, err

    return asked


def fake_run(run: Run, overrides: list[str], quiet: bool = False) -> Path:
    """Says what would run, and leaves a folder for it."""
    print(f"ran {run.method} T={run.temperature} alpha={run.alpha} seed={run.seed}: {shlex.join(overrides)}")
    folder = Path(run.outputs_dir) / "runs" / f"{run.temperature}-{run.alpha}-{run.seed}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


MISTAKES = {
    "student=resnet19": "student=resnet19: no such model. Nearest: resnet1",
    "temprature=4": "temprature=4: no such key. Nearest: temperature",
    "alpha=1.5": "alpha=1.5: must be between 0 and 1 (weight of the distillation term)",
    "alpha=abc": "alpha=abc: a number, or a schedule (FROM..TO@EPOCHS, {from, to, epochs, shape}), is needed",
    "method=fitnet temperature=8": "temperature=8: no term of method fitnet uses a temperature. "
    "Its terms: hard, hint",
    "method=fitnet alpha=0.5": "alpha=0.5: no term of method fitnet uses alpha. Its terms: hard, hint",
    "dataset=photos": "dataset=photos: no such data set. A folder of pictures is dataset=imagefolder ",
    "dataset=cifr10": "dataset=cifr10: no such data set. Nearest: cifar10, cifar100, ",
    "recipe=quik": "recipe=quik: no such recipe. Nearest: quick, auto, cosine. All: kdrun list recipes",
    "epochs=3 check": "check: a command comes first: kdrun check epochs=3",
    "table=crd1": "table=crd1: is a command: kdrun table crd1",
    "+foo=1": "foo=1: no such key. All: kdrun list keys",
    "+teacher.foo=1": "teacher.foo=1: no such key. All: kdrun list keys",
    "teacher.nme=x": "teacher.nme=x: no such key. Nearest: teacher.name",
    "loss.soft.wieght=1": "loss.soft.wieght=1: no such key. Nearest: loss.soft.weight",
    "loss.soft.weight=-1": "loss.soft.weight=-1: must not be below 0",
    "'loss.soft.weight={from: 0, to: 1, epochs: 3, shap: step}'": "loss.soft.weight.shap: "
    "a schedule has no such key. Choices: from, to, epochs, shape",
    "loss.soft=null": "loss.soft=null: must not be null. To drop a term: ~loss.soft",
    "~loss@loss.hard": "loss.hard={weight}: method kd has no such term. Leave it out, or say "
    "which loss it is: +loss@loss.hard=LOSS (kdrun list losses); to drop a term: ~loss.NAME",
    "~loss.hard ~loss.soft": "loss: no term is left",
    "~loss.foo": "~loss.foo: no such key, so there is nothing to drop",
    "+loss@loss.hint=fitnt": "loss@loss.hint=fitnt: no such loss. Nearest: fitnet",
    "method=dkd loss.dkd.betta=2": "loss.dkd.betta=2: no such key. Nearest: loss.dkd.beta",
    "seed=abc": "seed=abc: must be a whole number",
    "seed=-1": "seed=-1: must be 0 or more",
    "seed=null": "seed=null: must not be null",
    "control=maybe": "control=maybe: no such control (true: plain, false: none). Choices: plain, smoothed,",
    "stages=[teachr]": "stages=teachr: no such stage. Choices: teacher, student, evaluate",
    "epochs=x": "recipe.teacher.epochs=x: must be a whole number",
    "batch_size=32": "batch_size=32: no such key. Is it batch, recipe.teacher.batch or recipe.student.batch?",
    "gpu=0": "gpu=0: no such key. Is it device (auto | cpu | cuda | cuda:0 | mps)?",
    "quantize=int8": "quantize=int8: no such key. Is it quantise (int8)?",
    "int8.weight_bits=8": "int8.weight_bits=8: used only with quantise=int8",
    "int8=true": "int8=true: has no value of its own, but keys such as int8.epochs. All: kdrun explain int8",
    "evaluation=3": "evaluation=3: has no value of its own, but keys such as evaluation.",
    "engine=slrum": "engine=slrum: no such engine. Choices: auto, here, processes, ray, slurm",
    "engine.partition=x": "engine.partition=x: no such key here, only with engine=slurm",
    "engine=ray engine.minutes=9": "engine.minutes=9: no such key here, only with engine=slurm",
    "engine.gpus=1": "engine.gpus=1: no such key here, only with engine=ray or engine=slurm",
    "dataset.noise=1": "dataset.noise=1: no such key here, only with dataset=fake",
    "resume=true": "resume=true: no such key, and not needed: the same command continues",
    "--temperature 3": "--temperature: no such flag. Keys are written without dashes and with =: "
    "temperature=3",
    "temperature 3": "kdrun temperature: no such command. A key is written with =: kdrun temperature=3",
    "help modls": "kdrun help modls: no such command",
    "explain": "kdrun explain: which key?",
    "explain nosuchthing": "nosuchthing: no such key. ",
    "compare a": "kdrun compare: which two runs?",
    "compare a b": "a: no such run: a folder, the first digits of its id, or its name in outputs/runs",
    "continue": "kdrun continue: which run?",
    "outputs rm": "kdrun outputs rm: which run?",
    "-m seed=0,1 name=x": "name=x: names one run; for the runs of a sweep: note= or tags=",
    "-sc install=tcsh": "-sc install=tcsh: no such shell. Choices: bash, zsh, fish",
    "device=gpu": "device=gpu: no such device. Choices: auto, cpu, cuda, cuda:0, mps",
    "precision=fp16": "precision=fp16: no such choice. Choices: auto, fp32, tf32, bf16",
    "threads=0": "threads=0: must be auto or a whole number from 1",
    "transfer=some": "transfer=some: no such choice. Choices: all, labelled",
    "recipe.student.epochs=0": "recipe.student.epochs=0: must be 1 or more",
    "recipe.student.epoch=5": "recipe.student.epoch=5: no such key. Is it recipe.student.epochs?",
    "recipe.student.lr=high": "recipe.student.lr=high: must be a number",
    "recipe=adam recipe.student.nesterov=true": "recipe.student.nesterov=true: "
    "needs optimiser sgd with a momentum above 0",
    "student=[resnet18,resnet20]": "student=[resnet18,resnet20]: one student is meant. "
    "To run each: kdrun -m student=resnet18,resnet20",
    "teacher=resnet18,resnet20": "teacher=resnet18,resnet20: several values: to run each, add -m; "
    "for a list, [brackets]",
    "teacher=5": "teacher=5: no such model. Nearest: ",
    "teacher=null": "teacher=null: a run needs a teacher. All: kdrun list models",
    "model=resnet18": "model=resnet18: as which? teacher=resnet18 or student=resnet18",
    "loss=dkd": "loss=dkd: as which term? +loss@loss.TERM=dkd, or choose a method",
    "teacher.checkpoint=/nowhere/x.pt": "teacher.checkpoint=/nowhere/x.pt: no such file",
    "teacher.pretrained=true": "teacher.pretrained=true: there are no weights of cnn_digits, "
    "only of torchvision's and timm's models",
    "dataset.labelled=0": "dataset.labelled=0: must be a count per class from 1, a fraction above 0 and "
    "up to 1, a file, or null (all)",
    "dataset.lebelled=3": "dataset.lebelled=3: no such key. Nearest: dataset.labelled",
    "packages=[no_such]": "packages=no_such: no such package in this folder or in this Python",
    "teacher.family=mine.nets": "teacher.family=mine.nets: your own code must be in a package "
    "that you list: packages=[mine]",
    "dataset.source=os.path": "dataset.source=os.path: your own code must be in a package "
    "that you list: packages=[os]",
    "temperature=[1,2": "temperature=[1,2: cannot be read. Lists [a,b] and mappings {a: 1} need "
    "quotes in a shell",
    "'temperature=${foo}'": "temperature=${foo}: refers to what is not there: "
    "Interpolation key 'foo' not found",
    "seed=1 temperature": "temperature: an override is key=value, +key=value or ~key",
    "experiment=nosuch": "experiment=nosuch: no such experiment. ",
    "sweep=nosuch": "sweep=nosuch: no such sweep. Nearest: ",
    "-m seed=0,1 hydra/launcher=joblib": "hydra/launcher=joblib: Hydra only composes here. Where models "
    "are trained: engine=NAME",
    "hydra/sweeper=optuna": "hydra/sweeper=optuna: kdrun -m key=a,b runs all combinations, kdrun tune",
    "hydra.run.dir=x": "hydra.run.dir=x: kdrun makes its own folders. To choose where: outputs_dir=DIR",
    "-m hydra.job.chdir=true seed=0,1": "hydra.job.chdir=true: kdrun stays where it is started. To choose "
    "where outputs go: outputs_dir=DIR",
    "-m seed=range(1,1)": "seed=range(1,1): there is no number in it",
    "-m seed=range(0,2,0)": "seed=range(0,2,0): needs finite numbers, and a step that is not 0",
    "-m seed=range(0,1000000)": "-m: 1,000,000 jobs are more than 1,000. To run them all: --max-jobs 1000000",
    "-m 'method=glob(zz*)'": "method=glob(zz*): no name matches it",
    "-m --cfg job": "--cfg: shows one configuration, so without -m",
    "--multirn seed=1": "--multirn: no such flag. Nearest: --multirun, ",
    "--cfg jobs": "--cfg=jobs: no such choice. Choices: job, hydra, all",
    "--config-dir nowhere": "--config-dir=nowhere: no such folder",
    "trian": "kdrun trian: no such command. Nearest: run, tune, table. All: kdrun --help",
    "list modls": "kdrun list modls: no such list. Nearest: models",
    "list --format xml": "--format=xml: no such choice. Choices: text, json",
    "list --all": "--all: no such flag. Choices: --format, --config-dir, -cd. All: kdrun --help",
    "check -m seed=range(0,10000)": "seed=range(0,10000): check -m ranks teachers",
    "check -m seed=0,1": "seed=0,1: check -m ranks teachers, so only they may have several values",
    "-m reference=a,b": "reference=a,b: one for all jobs",
    "-m control=plain,[longer]": "control=plain,[longer]: one for all jobs",
    "-m controls.longer_epochs=100,200": "controls.longer_epochs=100,200: one for all jobs",
    "check --cfg job": "--cfg: check looks at one run, or with -m at its teachers",
    "check student=resnet19": "student=resnet19: no such model. Nearest: resnet1",
    "logger=[tensorbord]": "logger=tensorbord: no such choice. Choices: tensorboard, wandb, mlflow",
    "outputs": "outputs: no such folder",
    "outputs a b": "kdrun outputs: one folder of outputs at a time",
    "outputs --prun": "--prun: no such flag. Choices: --format, --prune, --yes. All: kdrun --help",
    "predict": "kdrun predict: which run, and which pictures? kdrun predict RUN IMAGE..., RUN being",
    "predict nowhere": "kdrun predict: which pictures? kdrun predict RUN IMAGE..., RUN being",
    "dataset=torch_dataset dataset.train_class=mine.data:Pictures": "dataset.train_class=mine.data:Pictures: "
    "your own code must be in a package that you list: packages=[mine]",
    "report": "outputs/runs: no such folder",
    "report nowhere": "nowhere: no such run: a folder, the first digits of its id, or its name in",
    "-m seed=0,1 +foo=1": "foo=1: no such key. All: kdrun list keys   (2 of 2 jobs)\nnothing was trained",
    "-m temperature=1,2 alpha=0.5,1.5": "alpha=1.5: must be between 0 and 1 (weight of the distillation "
    "term)   (2 of 4 jobs)\nnothing was trained",
    "-m method=kd,fitnet temperature=2": "temperature=2: no term of method fitnet uses a temperature. "
    "Its terms: hard, hint   (1 of 2 jobs)\nnothing was trained",
    "-m seed=0,1 temprature=2": "temprature=2: no such key. Nearest: temperature   "
    "(2 of 2 jobs)\nnothing was trained",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_2(ask: Ask, line: str, tmp_path: Path) -> None:
    code, out, err = ask(line)
    expected = MISTAKES[line]
    assert code == 2
    assert err.startswith(expected)
    assert err.count("\n") == 1 + expected.count("\n") and err.endswith("\n")
    assert "ran" not in out
    assert not list(tmp_path.iterdir())


def test_of_many_mistakes_the_first_are_named(ask: Ask) -> None:
    lines = ask("-m recipe=a,b,c,d,e,f,g")[2].splitlines()
    assert len(lines) == 6
    assert lines[0].startswith("recipe=a: no such recipe.") and lines[0].endswith("   (1 of 7 jobs)")
    assert lines[5] == "2 more mistakes; nothing was trained"


def test_a_run(ask: Ask, tmp_path: Path) -> None:
    code, out, err = ask("seed=3 temperature=5 recipe.student.epochs=1")
    assert (code, err) == (0, "")
    assert out == "ran kd T=5 alpha=0.9 seed=3: seed=3 temperature=5 recipe.student.epochs=1\n"
    assert [path.name for path in tmp_path.iterdir()] == ["outputs"]  # Hydra writes nothing
    assert ask("run seed=3 temperature=5")[0] == 0


def test_what_a_user_should_know_is_said_before_the_run(ask: Ask) -> None:
    code, _, err = ask("loss.hard.weight=1 loss.soft.weight=0.5")
    assert (code, err) == (0, "note: alpha=0.9 is not used: no term refers to it\n")


def test_the_record_of_a_command_names_the_folder_of_ones_own_files(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    assert ask("seed=1 --config-dir mine")[1].endswith(": --config-dir mine seed=1\n")


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (KdrunError("loss.soft", None, "is not finite"), 2, "loss.soft: is not finite"),
        (KeyboardInterrupt(), 130, "interrupted; the same command continues"),
        (
            OSError(28, "No space left on device", "outputs/runs/x"),
            1,
            "outputs/runs/x: the disk is full (No space left on device)",
        ),
    ],
)
def test_failures_while_running(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, line: str
) -> None:
    def fail(*_: Any) -> Path:
        raise error

    monkeypatch.setattr(run_command, "run", fail)
    assert ask("") == (code, "", f"{line}\n")
    if isinstance(error, KdrunError):
        error.while_running = True  # type: ignore[attr-defined]
        assert ask("")[0] == 1
        monkeypatch.setenv("KDRUN_TRACEBACK", "1")
        with pytest.raises(KdrunError):
            ask("")


def test_a_bug_shows_its_traceback(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Path:
        raise ZeroDivisionError

    monkeypatch.setattr(run_command, "run", fail)
    with pytest.raises(ZeroDivisionError):
        ask("")


def test_broken_files_of_ones_own_are_one_line(ask: Ask, tmp_path: Path) -> None:
    folder = tmp_path / "mine" / "model"
    folder.mkdir(parents=True)
    (folder / "broken.yaml").write_text("name: [broken\nfamily: x\n")
    code, _, err = ask("--config-dir mine teacher=broken")
    assert code == 2 and err.count("\n") == 1 and "broken.yaml, line " in err and "is not YAML" in err
    (folder / "extra.yaml").write_text("name: extra\nfamily: digits_cnn\nwidth: 3\n")
    code, _, err = ask("--config-dir mine teacher=extra")
    assert code == 2 and err.count("\n") == 1 and "width" in err
    (folder / "resnet18.yaml").write_text("name: resnet18\n")
    assert ask("--config-dir mine")[2] == (
        "mine/model/resnet18.yaml: kdrun has a model of this name; give yours another\n"
    )


def test_a_sweep(ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def some_fail(run: Run, overrides: list[str], quiet: bool = False) -> Path:
        if run.seed == 1:
            raise KdrunError("loss.soft", None, "is not finite")
        return fake_run(run, overrides)

    shown: list[list[dict[str, Any]]] = []
    monkeypatch.setattr(
        sweep_command, "results", lambda folder: shown.append(sweep_command.collected(folder))
    )
    monkeypatch.setattr(run_command, "run", some_fail)
    code, out, err = ask("-m seed=0,1")
    folder = next((tmp_path / "outputs" / "sweeps").iterdir())
    assert code == 1
    assert err == " 2 of 2  seed=1  failed: loss.soft: is not finite\n"
    assert f"2 jobs: 0 finished earlier, 1 run, 1 failed   {folder.relative_to(tmp_path)}\n" in out
    assert [job["overrides"] for job in shown[0]] == [{"seed": 1}]  # nothing is measured of the other
    assert {path.name for path in tmp_path.iterdir()} == {"outputs"}
    assert {path.name for path in folder.iterdir()} == {"jobs", "calls", "sweep.json"}


def test_an_interrupted_sweep_still_says_what_it_has(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(run: Run, overrides: list[str], quiet: bool = False) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(run_command, "run", stop)
    code, out, err = ask("sweep=seeds seed=0,1")
    assert (code, err) == (130, "interrupted; the same command continues\n")
    assert "2 jobs: 0 finished earlier, 0 run, 0 failed, 2 not run" in out


def test_help_fits_a_terminal_and_names_what_can_be_chosen() -> None:
    text = kdrun_help.text()
    assert max(map(len, text.splitlines())) <= 80
    for word in (
        "dataset",
        "digits_few",
        "method",
        "dkd",
        "recipe",
        "kdrun list models",
        "--config-dir",
        "-m",
    ):
        assert word in text
    assert len(text.splitlines()) < 60


def test_help_and_version_anywhere(ask: Ask) -> None:
    assert ask("--help") == (0, kdrun_help.text() + "\n", "")
    assert ask("seed=1 -h")[0] == 0
    assert ask("--version") == (0, f"kdrun {kdrun.__version__}\n", "")


def test_the_version_is_the_packages() -> None:
    assert f'version = "{kdrun.__version__}"' in (ROOT / "pyproject.toml").read_text()


def test_lists(ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = ask("list")
    assert code == 0 and max(map(len, out.splitlines())) <= 80
    for name in (
        "models",
        "cnn_digits_small",
        "vit_b_16",
        "methods",
        "Hinton",
        "sweeps",
        "temperature_alpha",
    ):
        assert name in out
    rows = json.loads(ask("list methods recipes --format json")[1])
    assert {"list", "name", "description", "extra", "needs", "adds", "step"} == set(rows[0])
    needs = {row["name"]: row.get("needs") for row in rows}
    assert needs["irg"] == ["logits", "embedding", "feature maps"] and needs["none"] == []
    assert {row["list"] for row in rows} == {"methods", "recipes"}
    (tmp_path / "mine" / "method").mkdir(parents=True)
    (tmp_path / "mine" / "method" / "own.yaml").write_text("# @package _global_\n# My own | me, 2020\n")
    rows = json.loads(ask("list --config-dir mine methods --format=json")[1])
    own = {"list": "methods", "name": "own", "description": "My own", "extra": "me, 2020", "needs": []}
    assert next(row for row in rows if row["name"] == "own") == own | {"adds": 0, "step": None}


def test_the_configuration_is_shown(ask: Ask, tmp_path: Path) -> None:
    code, out, _ = ask("seed=7 --cfg job")
    shown = yaml.safe_load(out)
    assert code == 0 and (shown["seed"], shown["teacher"]["name"]) == (7, "cnn_digits")
    assert "hydra" not in shown and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        (
            "kdrun teacher=cnn_digits",
            ["teacher=cnn_digits", "teacher=cnn_digits_medium", "teacher=cnn_digits_small"],
        ),
        ("kdrun run student=wide_resnet50", ["student=wide_resnet50_2"]),
        ("kdrun run temper", ["temperature="]),
        ("kdrun -m method=dk", ["method=dkd", "method=dkd_std"]),
        ("kdrun check method=dk", ["method=dkd", "method=dkd_std"]),
    ],
)
def test_completion(ask: Ask, monkeypatch: pytest.MonkeyPatch, typed: str, completed: list[str]) -> None:
    monkeypatch.setenv("COMP_LINE", typed)
    code, out, _ = ask("-sc query=bash")
    assert (code, out.split()) == (0, completed)


def test_as_a_module_from_another_folder(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "kdrun", "student=resnet19"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        check=False,
    )
    assert done.returncode == 2 and done.stderr.startswith(
        "student=resnet19: no such model. Nearest: resnet1"
    )
    assert not list(tmp_path.iterdir())
