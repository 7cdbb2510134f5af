"""The numbers of a run in TensorBoard, Weights & Biases or MLflow.

Each gets the numbers of `metrics.jsonl`, the configuration and the final table, through its own library,
which is imported only if it is used. Without an account nothing leaves the machine.
"""

from __future__ import annotations

import json
import os
import shlex
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from kdrun.nested import leaves
from kdrun.paths import expanded

PROJECT = "kdrun"

WANDB_HOST = "api.wandb.ai"

LONGEST = 500
"""The most characters of a parameter that every version of MLflow accepts."""


HEADLINES = (
    "final/teacher/test/top1",
    "final/student/test/top1",
    "final/control/test/top1",
    "final/comparison/gain_top1",
)
"""The figures by which runs are compared."""

OPENED = {
    "tensorboard": "tensorboard --logdir {outputs}/tensorboard",
    "wandb": "wandb sync {outputs}/wandb/offline-run-*",
    "mlflow": "mlflow ui --backend-store-uri {outputs}/mlflow",
}
"""The command that shows what a logger kept; wandb's is for runs without an account."""


class LoggedRun(NamedTuple):
    """title: the name of the run's folder. outputs: the folder of all runs and of the tools' own folders.
    config: plain values.
    """

    title: str
    outputs: Path
    config: Mapping[str, Any]


class Logger(ABC):
    """A tool that keeps numbers by name and step."""

    @abstractmethod
    def numbers(self, numbers: Mapping[str, float], epoch: int) -> None:
        """Numbers of an epoch, counted from 1; 0 for those of the whole run."""

    @abstractmethod
    def text(self, name: str, text: str) -> None:
        """A text to keep beside the numbers."""

    @abstractmethod
    def picture(self, file: Path) -> None:
        """A PNG file of the run's folder."""

    @abstractmethod
    def close(self, done: bool) -> None:
        """Called when the run ended. done: whether it finished."""


class TensorBoard(Logger):
    """Event files in `tensorboard/` of the outputs: a folder for each run, with a folder for each model.

    Numbers of different models have equal tags, so that TensorBoard draws their curves over each other.
    """

    def __init__(self, about: LoggedRun) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.folder = about.outputs / "tensorboard" / about.title
        self.old = list(self.folder.rglob("events.out.tfevents.*"))
        self.open: Callable[[str], Any] = SummaryWriter
        self.writers: dict[str, Any] = {}
        self.config = about.config
        self.text("config", json.dumps(about.config, indent=2))

    def writer(self, model: str = "") -> Any:
        """The writer of a model's folder, or of the run's."""
        if model not in self.writers:
            self.writers[model] = self.open(str(self.folder / model))
        return self.writers[model]

    def numbers(self, numbers: Mapping[str, float], epoch: int) -> None:
        for name, value in numbers.items():
            model, tag = tagged(name)
            self.writer(model).add_scalar(tag, value, epoch)
        for writer in self.writers.values():
            writer.flush()
        if not epoch:
            self._hyperparameters(numbers)

    def text(self, name: str, text: str) -> None:
        fenced = "\n".join(
            f"    {line}" for line in text.splitlines()
        )  # Markdown for text that stays as it is
        self.writer().add_text(name, fenced, 0)

    def picture(self, file: Path) -> None:
        from matplotlib.image import imread

        self.writer().add_image(file.stem, imread(file)[..., :3], 0, dataformats="HWC")

    def _hyperparameters(self, final: Mapping[str, float]) -> None:
        """The configuration beside the final accuracies and the gain, for the tab HPARAMS."""
        from torch.utils.tensorboard import summary

        made: Any = summary  # without types

        plain = {
            key: value if isinstance(value, (bool, int, float, str)) else str(value)
            for key, value in leaves(self.config)
        }
        chosen = {name: final[name] for name in HEADLINES if name in final}
        writer = self.writer()._get_file_writer()
        for part in made.hparams(plain, {f"hparams/{name.removeprefix('final/')}": 0.0 for name in chosen}):
            writer.add_summary(part)
        for name, value in chosen.items():
            self.writer().add_scalar(f"hparams/{name.removeprefix('final/')}", value, 0)

    def close(self, done: bool) -> None:
        for writer in self.writers.values():
            writer.close()
        for old in self.old if done else ():  # of a run that was interrupted: all of it was written again
            old.unlink(missing_ok=True)


class Wandb(Logger):
    """A run of Weights & Biases, in `wandb/` of the outputs; offline if no account is set up."""

    def __init__(self, about: LoggedRun) -> None:
        import wandb

        (about.outputs / "wandb").mkdir(parents=True, exist_ok=True)
        self.table: Any = wandb.Table
        self.image: Any = wandb.Image
        self.run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=about.title,
            config=dict(about.config),
            dir=str(about.outputs),
            mode=None if _has_account() else "offline",
            settings=wandb.Settings(silent=True),
        )
        self.run.define_metric("epoch")
        self.run.define_metric("*", step_metric="epoch")

    def numbers(self, numbers: Mapping[str, float], epoch: int) -> None:
        if epoch:
            self.run.log({**numbers, "epoch": epoch})
        else:
            self.run.summary.update(dict(numbers))

    def text(self, name: str, text: str) -> None:
        self.run.log({name: self.table(columns=["text"], data=[[text]])})

    def picture(self, file: Path) -> None:
        self.run.log({file.stem: self.image(str(file))})

    def close(self, done: bool) -> None:
        self.run.finish(exit_code=0 if done else 1)


class Mlflow(Logger):
    """A run of MLflow: in `mlflow/` of the outputs, or at MLFLOW_TRACKING_URI."""

    def __init__(self, about: LoggedRun) -> None:
        # Newer versions of MLflow prefer a database and need this setting for a folder.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        from mlflow import MlflowClient

        local = (about.outputs / "mlflow").resolve().as_uri()
        self.client: Any = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or local)
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        existing = self.client.get_experiment_by_name(name)
        experiment = existing.experiment_id if existing else self.client.create_experiment(name)
        self.run: str = self.client.create_run(experiment, run_name=about.title).info.run_id
        for key, value in leaves(about.config):
            self.client.log_param(self.run, key, str(value)[:LONGEST])

    def numbers(self, numbers: Mapping[str, float], epoch: int) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        metrics = [Metric(name, value, now, epoch) for name, value in numbers.items()]
        self.client.log_batch(self.run, metrics=metrics)

    def text(self, name: str, text: str) -> None:
        self.client.log_text(self.run, text, f"{name}.txt")

    def picture(self, file: Path) -> None:
        self.client.log_artifact(self.run, str(file))

    def close(self, done: bool) -> None:
        self.client.set_terminated(self.run, "FINISHED" if done else "FAILED")


LOGGERS: dict[str, Callable[[LoggedRun], Logger]] = {
    "tensorboard": TensorBoard,
    "wandb": Wandb,
    "mlflow": Mlflow,
}


def tagged(name: str) -> tuple[str, str]:
    """The model and the tag of a number: `student/loss` is `loss` of the student,
    `final/student/test/top1` is `final/test/top1` of the student; a comparison is of no model.
    """
    first, _, rest = name.partition("/")
    if first != "final":
        return first, rest
    model, _, tag = rest.partition("/")
    return ("", name) if model == "comparison" else (model, f"final/{tag}")


def shown_by(names: Iterable[str], outputs: Path) -> list[str]:
    """The commands that show what these loggers kept."""
    return [OPENED[name].format(outputs=shlex.quote(str(outputs))) for name in names if _shows(name)]


def _shows(name: str) -> bool:
    """Whether a logger's records lie in the outputs folder."""
    return not (
        (name == "wandb" and _has_account()) or (name == "mlflow" and "MLFLOW_TRACKING_URI" in os.environ)
    )


def scalars(row: Mapping[str, Any]) -> dict[str, float]:
    """A row of metrics.jsonl as numbers by name: `student/loss`, `student/terms/soft`,
    `student/validation/top1`.
    """
    stage = row["stage"]
    numbers = {key: value for key, value in row.items() if key not in ("stage", "epoch", "epochs")}
    return {f"{stage}/{key.replace('.', '/')}": float(value) for key, value in leaves(numbers)}


def _has_account() -> bool:
    """Whether Weights & Biases is set up: a mode, a key, or an entry in the netrc file."""
    if os.environ.get("WANDB_MODE") or os.environ.get("WANDB_API_KEY"):
        return True
    host = os.environ.get("WANDB_BASE_URL", WANDB_HOST).rpartition("/")[2]
    files = (expanded(os.environ.get("NETRC", "~/.netrc")), expanded("~/_netrc"))
    return any(file.is_file() and host in file.read_text(errors="replace") for file in files)
