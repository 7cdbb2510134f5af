"""`logger=[...]`: what the tools are given is what metrics.jsonl and the report hold."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections import defaultdict
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

from kdrun.config import choices
from kdrun.extras import install
from kdrun.progress.loggers import scalars, tagged
from kdrun.progress.record import figures
from kdrun.records import read_rows
from kdrun.report.read import read
from tests.commands.short import SHORT, Here


def expected(run: Path) -> dict[str, list[tuple[int, float]]]:
    """Every series that a run should have left: (epoch, value) by name."""
    found = defaultdict(list)
    for row in read_rows(run / "metrics.jsonl"):
        for name, value in scalars(row).items():
            found[name].append((row["epoch"], value))
    for name, value in figures(read(run)).items():
        found[name].append((0, value))
    return dict(found)


def rounded(series: dict[str, list[tuple[int, float]]]) -> dict[str, list[tuple[int, Any]]]:
    """Event files hold float32."""
    return {
        name: [(epoch, pytest.approx(value, rel=1e-6)) for epoch, value in points]
        for name, points in series.items()
    }


def test_rows_become_numbers_by_name() -> None:
    row = {
        "stage": "student", "epoch": 2, "epochs": 9, "lr": 0.1, "loss": 1.5,
        "terms": {"hard": 1.0, "soft": 2.0}, "validation": {"top1": 80.0, "nll": 0.5}, "seconds": 0.25,
        "images": 600,
    }  # fmt: skip
    assert scalars(row) == {
        "student/lr": 0.1, "student/loss": 1.5, "student/terms/hard": 1.0, "student/terms/soft": 2.0,
        "student/validation/top1": 80.0, "student/validation/nll": 0.5, "student/seconds": 0.25,
        "student/images": 600.0,
    }  # fmt: skip


class Events(NamedTuple):
    """What lies in the folder of a run: numbers by model and tag, texts, names of pictures, parameters."""

    numbers: dict[tuple[str, str], list[tuple[int, float]]]
    texts: dict[str, str]
    pictures: set[str]
    parameters: set[str]


def events(here: Here) -> Events:
    """All event files of the one run; each folder must have a single one."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
    from tensorboard.util.tensor_util import make_ndarray

    (root,) = here.root.glob("outputs/tensorboard/*")
    read = Events(defaultdict(list), {}, set(), set())
    files = sorted(root.rglob("events.out.tfevents.*"))
    assert len({file.parent for file in files}) == len(files)
    for file in files:
        model = file.parent.relative_to(root).as_posix().removeprefix(".")
        for event in EventFileLoader(str(file)).Load():
            for value in event.summary.value:
                data = value.metadata.plugin_data
                if data.plugin_name == "hparams":
                    plain = HParamsPluginData.FromString(data.content)
                    read.parameters.update(plain.session_start_info.hparams)
                elif data.plugin_name == "images":
                    read.pictures.add(value.tag)
                elif data.plugin_name == "text":
                    text = make_ndarray(value.tensor).item().decode()
                    read.texts[value.tag.removesuffix("/text_summary")] = text
                elif not value.tag.startswith("hparams/"):
                    point = (event.step, float(make_ndarray(value.tensor).item()))
                    read.numbers[model, value.tag].append(point)
    return read


def by_model(series: dict[str, list[tuple[int, float]]]) -> dict[tuple[str, str], list[tuple[int, Any]]]:
    """Every series by its model and tag."""
    return {tagged(name): points for name, points in rounded(series).items()}


def test_tensorboard_reads_back_every_number_the_configuration_and_the_table(here: Here) -> None:
    """Three folders with equal tags, so that curves lie over each other."""
    pytest.importorskip("tensorboard")
    run = here.run("logger=[tensorboard]", "seed=1", "evaluation.plots=true")
    read = events(here)
    assert read.numbers == by_model(expected(run))
    tags = {model: {tag for its, tag in read.numbers if its == model} for model, _ in read.numbers}
    assert tags.keys() == {"", "teacher", "student", "control"}
    assert {"loss", "validation/top1", "final/test/top1"} <= tags["teacher"] & tags["student"] & tags[
        "control"
    ]
    assert json.loads(read.texts["config"])["seed"] == 1
    assert "top-1 test" in read.texts["report"] and "teacher" in read.texts["report"]
    assert read.pictures == {file.stem for file in run.glob("*.png")} >= {"curves", "confusion"}
    assert {"temperature", "recipe.student.epochs"} <= read.parameters


def test_what_was_trained_before_is_given_too_and_only_once(here: Here) -> None:
    pytest.importorskip("tensorboard")
    run = here.run()
    assert not (here.root / "outputs" / "tensorboard").exists()
    assert here(*SHORT, "logger=[tensorboard]")[0] == 0  # finished earlier, without a logger
    assert events(here).numbers == by_model(expected(run))
    before = here.files()
    assert here(*SHORT, "logger=[tensorboard]")[0] == 0
    assert here.files() == before
    (run / "report.json").unlink()
    assert here(*SHORT, "logger=[tensorboard]")[0] == 0  # evaluated again: one whole record, not two
    assert events(here).numbers == by_model(expected(run))


def test_a_run_that_breaks_off_and_goes_on_leaves_one_whole_record(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")
    from kdrun.training import fit

    save = fit.save_after_epoch

    def stop(checkpoints: Any, position: Any, last: bool) -> None:
        save(checkpoints, position, last)
        if "runs" in str(checkpoints[0].path) and position.epoch == 1:
            raise KeyboardInterrupt

    overrides = (*SHORT, "logger=[tensorboard]", "recipe.student.epochs=3", "checkpoint.seconds=0")
    with monkeypatch.context() as patch:
        patch.setattr(fit, "save_after_epoch", stop)
        assert here(*overrides)[0] == 130
    before = events(here).numbers
    assert ("student", "loss") in before and ("student", "final/params") not in before
    code, out, _ = here(*overrides)
    assert code == 0 and "\n  tensorboard --logdir outputs/tensorboard\n" in out
    assert events(here).numbers == by_model(expected(here.runs()[0]))


def test_what_is_not_installed_is_said_before_anything_is_trained(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for name in choices.LOGGERS:
        code, out, err = here(f"logger=[{name}]")
        assert (code, out) == (2, "")
        assert err == f"logger={name}: is not installed: {install(name)}\n"
    assert not list(here.root.iterdir())


def test_a_folder_of_the_same_name_is_not_the_package(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("wandb") is not None:
        pytest.skip("wandb is installed")
    (here.root / "wandb").mkdir()
    monkeypatch.syspath_prepend(here.root)
    assert here("logger=[wandb]")[2].startswith("logger=wandb: is not installed")


class Calls(ModuleType):
    """Stands for a library: remembers what it is called with."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__spec__ = importlib.util.spec_from_loader(name, None, origin="tests")
        self.__path__: list[str] = []
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def keep(self, name: str, answer: Any = None) -> Any:
        def called(*args: Any, **kwargs: Any) -> Any:
            self.calls.append((name, args, kwargs))
            return answer

        return called

    def of(self, name: str) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        return [(args, kwargs) for called, args, kwargs in self.calls if called == name]


class Namespace:
    def __init__(self, **values: Any) -> None:
        vars(self).update(values)


@pytest.mark.parametrize("account", [False, True])
def test_wandb_is_given_the_same(here: Here, monkeypatch: pytest.MonkeyPatch, account: bool) -> None:
    wandb = Calls("wandb")
    run = Namespace(
        define_metric=wandb.keep("define"), log=wandb.keep("log"), finish=wandb.keep("finish"),
        summary=Namespace(update=wandb.keep("summary")),
    )  # fmt: skip
    vars(wandb).update(init=wandb.keep("init", run), Settings=dict, Table=dict, Image=str)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    (here.root / "netrc").write_text("machine api.wandb.ai login user password x\n" if account else "")
    monkeypatch.setenv("NETRC", str(here.root / "netrc"))
    monkeypatch.setenv("HOME", str(here.root))
    folder = here.run("logger=[wandb]", "seed=1")
    ((_, given),) = wandb.of("init")
    assert given["mode"] == (None if account else "offline") and given["config"]["seed"] == 1
    assert (given["project"], given["name"], given["dir"]) == ("kdrun", folder.name, "outputs")
    found: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for (row,), _ in wandb.of("log"):
        for name, value in row.items():
            if name not in ("epoch", "config", "report"):
                found[name].append((row["epoch"], value))
    for (values,), _ in wandb.of("summary"):
        for name, value in values.items():
            found[name].append((0, value))
    assert found == expected(folder)
    assert wandb.of("finish") == [((), {"exit_code": 0})]


def test_mlflow_is_given_the_same(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow, entities = Calls("mlflow"), ModuleType("mlflow.entities")
    answers = {
        "get_experiment_by_name": None, "create_experiment": "7", "log_param": None, "log_batch": None,
        "create_run": Namespace(info=Namespace(run_id="r")), "log_text": None, "log_artifact": None,
        "set_terminated": None,
    }  # fmt: skip
    client = Namespace(**{name: mlflow.keep(name, answer) for name, answer in answers.items()})
    vars(mlflow).update(MlflowClient=mlflow.keep("client", client), entities=entities)
    vars(entities)["Metric"] = lambda name, value, now, step: (name, value, step)
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    monkeypatch.setitem(sys.modules, "mlflow.entities", entities)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = here.run("logger=[mlflow]", "seed=1")
    assert mlflow.of("client") == [(((here.root / "outputs" / "mlflow").as_uri(),), {})]
    found: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for _, given in mlflow.of("log_batch"):
        for name, value, step in given["metrics"]:
            found[name].append((step, value))
    assert found == expected(folder)
    parameters = {args[1]: args[2] for args, _ in mlflow.of("log_param")}
    assert parameters["seed"] == "1" and parameters["recipe.student.epochs"] == "2"
    assert mlflow.of("log_text")[0][0][2] == "report.txt"
    assert mlflow.of("set_terminated") == [(("r", "FINISHED"), {})]


def test_a_failed_run_is_closed_as_failed(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    from kdrun.progress import loggers

    closed = []

    class Kept(loggers.Logger):
        def __init__(self, about: loggers.LoggedRun) -> None: ...
        def numbers(self, numbers: Any, epoch: int) -> None: ...
        def text(self, name: str, text: str) -> None: ...
        def picture(self, file: Path) -> None: ...
        def close(self, done: bool) -> None:
            closed.append(done)

    monkeypatch.setitem(loggers.LOGGERS, "tensorboard", Kept)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: Namespace(origin="here"))
    code = here(*SHORT, "logger=[tensorboard]", "recipe.student.lr=1e14", "recipe.student.optimiser=sgd")[0]
    assert code == 1 and closed == [False]


def test_the_real_mlflow_reads_back_what_it_was_given(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    from mlflow import MlflowClient

    folder = here.run("logger=[mlflow]", "seed=1")
    client = MlflowClient((here.root / "outputs" / "mlflow").as_uri())
    (run,) = client.search_runs([client.get_experiment_by_name("kdrun").experiment_id])
    for name, points in expected(folder).items():
        assert sorted((m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)) == points
    assert run.data.params["seed"] == "1" and run.info.status == "FINISHED"


def test_the_real_wandb_writes_offline(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(here.root))
    here.run("logger=[wandb]", "seed=1")
    assert list(here.root.glob("outputs/wandb/offline-run-*/run-*.wandb"))
