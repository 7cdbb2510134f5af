"""The product's own path to a step: a run without Hydra, its plan, and the loop that kdrun trains in."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from rich.console import Console
from torch import Tensor

from kdrun.config.choices import DATASET_HINTS
from kdrun.config.schema import Evaluation, Model, Recipe, Recipes, Run, Runtime, TeacherModel
from kdrun.losses.sampling import Sampler
from kdrun.models.weights import save_weights
from kdrun.plan.ground import Grounds
from kdrun.plan.plan import Plan, make_plan
from kdrun.progress.screen import screen
from kdrun.progress.watchers import Observers
from kdrun.stages.train import Loop, laid_out
from kdrun.stages.trainee import Trainee, begin
from kdrun.training.captured import Captured
from kdrun.training.plan import EpochPlan, epoch_plan
from kdrun.training.savings import SAVINGS
from kdrun.training.seeds import derived, kept_generators
from kdrun.training.tabled import Tabled

HOME = Path(__file__).resolve().parents[2]

Terms = dict[str, dict[str, Any]]

KD: Terms = {
    "hard": {"name": "cross_entropy", "weight": 0.1, "label_smoothing": 0.0},
    "soft": {"name": "soft_targets", "weight": 0.9, "temperature": 4.0, "per_class": []},
}


class Scale(NamedTuple):
    """How large all is. images: of the training part; seen: of the test part. steps: of a round, after `warm`
    others, so many rounds. checked: steps after which two ways are compared.
    """

    teacher: str = "resnet32x4"
    student: str = "resnet8x4"
    images: int = 12_800
    seen: int = 2_000
    size: int = 32
    classes: int = 100
    batch: int = 64
    warm: int = 20
    steps: int = 200
    rounds: int = 3
    checked: int = 50


TINY = Scale("resnet14", "resnet8", 44, 20, 16, 4, 8, 2, 3, 1, 4)


WINDOW, ORDER = "window", "order"
"""One window of answers an epoch, not one for eight forwards; classes sorted once an epoch, not each step."""


class Arm(NamedTuple):
    """A way to train, in settings of kdrun. searched: whether cuDNN may try its kernels and take the fastest,
    not only those that give the same bits each time. off: savings of a GPU's step that are left out, and of
    WINDOW and ORDER.
    """

    name: str
    precision: str = "bf16"
    graph: bool = True
    table: bool = True
    compiled: bool = False
    searched: bool = False
    terms: Terms = KD
    off: frozenset[str] = frozenset()


def node(group: str, name: str) -> dict[str, Any]:
    """A file of `conf/`, as it is written there."""
    text = (HOME / "conf" / group / f"{name}.yaml").read_text(encoding="utf-8")
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


def run_of(scale: Scale, arm: Arm, folder: Path, device: str, **more: Any) -> Run:
    """The run of an arm. The teacher's weights are a file, made here once."""
    per_class = (scale.images + scale.seen) // scale.classes
    dataset = node("dataset", "fake") | {"classes": scale.classes, "per_class": per_class, "size": scale.size}
    dataset |= {"validation": 0, "test": scale.seen, "headline": "last"}
    dataset = {key: value for key, value in dataset.items() if key not in DATASET_HINTS}
    dataset["views"] |= {"name": "crop_flip", "padding": scale.size // 8}
    numbers = node("recipe", "crd")["student"] | {"lr": 0.05, "weight_decay": 5e-4, "batch": scale.batch}
    runtime = Runtime(
        table="auto" if arm.table else "off", graph="auto" if arm.graph else "off", compile=arm.compiled
    )
    run = Run(
        dataset=dataset,
        teacher=TeacherModel(**node("model", scale.teacher)),
        student=Model(**node("model", scale.student)),
        loss=arm.terms,
        recipe=Recipes(Recipe(**numbers), Recipe(**numbers)),
        method="kd",
        temperature=4.0,
        alpha=0.9,
        device=device,
        precision=arm.precision,
        control=False,
        runtime=runtime,
        outputs_dir=str(folder / "outputs"),
        evaluation=Evaluation(plots=False),
    )
    return replace(run, **more)


class Product:
    """Plans of runs that share data and a teacher's file. said: what kdrun says on the screen."""

    def __init__(self, scale: Scale, folder: Path, device: str) -> None:
        self.scale, self.folder, self.device = scale, folder, device
        self.grounds: Grounds = {}
        self.lines = Lines()
        self.observers = Observers(screen(Console(file=self.lines, width=200)))

    def plan(self, arm: Arm, **more: Any) -> Plan:
        run = run_of(self.scale, arm, self.folder, self.device, **more)
        if "teacher" not in more:
            run = replace(run, teacher=replace(run.teacher, checkpoint=str(self._teacher_file(run))))
        return make_plan(run, self.grounds)

    def _teacher_file(self, run: Run) -> Path:
        path = self.folder / "teacher.safetensors"
        if not path.exists():
            model = make_plan(run, self.grounds).teacher.initial().model
            save_weights(path, model.state_dict(), {})
        return path


class Lines:
    """Takes what is printed."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None: ...

    def isatty(self) -> bool:
        return False

    def of(self, word: str) -> str:
        """The lines that begin with a word, as one."""
        return " ".join(line.strip() for line in self.text.splitlines() if line.startswith(word))


class Steps:
    """Steps of one or several students in the product's loop, one after the other; without its end.

    Used as a context, which sets the numbers of the arm and closes the loop.
    """

    def __init__(self, product: Product, arm: Arm, seeds: Sequence[int] = (0,)) -> None:
        self.product, self.arm, self.seeds = product, arm, seeds
        self.closing = ExitStack()
        self.plans: list[EpochPlan] = []
        self.epoch = self.number = 0

    def __enter__(self) -> Steps:
        product, arm = self.product, self.arm
        product.lines.text = ""
        plans = [product.plan(arm, seed=seed) for seed in self.seeds]
        self.trainings = [plan.student for plan in plans]
        self.closing.enter_context(self.trainings[0].ground.machine.numerics())
        cudnn = torch.backends.cudnn
        cudnn.benchmark, cudnn.deterministic = arm.searched, cudnn.deterministic and not arm.searched
        self.closing.enter_context(kept_generators())
        torch.manual_seed(derived(self.trainings[0].seed, "dropout"))
        self.trainees = list(self._trainees())
        for training in self.trainings:
            training.folder.mkdir(parents=True, exist_ok=True)
        self.loop: Loop = laid_out(
            self.trainees, [None] * len(self.trainees), {}, product.observers, self.closing,
            [name for name in SAVINGS if name not in arm.off],
        )  # fmt: skip
        self._leave_out(arm.off)
        return self

    def _leave_out(self, off: Collection[str]) -> None:
        if WINDOW in off and isinstance(self.loop.teacher, Tabled):
            self.loop.teacher.window = 0
        for learner in self.loop.step.learners if ORDER in off else ():
            for sampler in (module for module in learner.mix.modules() if isinstance(module, Sampler)):
                sampler.prepare = lambda index, labels: None  # type: ignore[method-assign]

    def __exit__(self, *error: Any) -> None:
        self.closing.close()

    def _trainees(self) -> Iterator[Trainee]:
        order = list(dict.fromkeys(self.seeds))
        for training in self.trainings:
            stream, alone = order.index(training.seed), len(self.trainings) == 1
            yield begin(training, training.phases[0], stream, alone=alone)

    def steps(self, count: int, stay: bool = False) -> None:
        """The next steps, also into the next epoch. stay: always of the first epoch."""
        for _ in range(count):
            if not self.plans or self.number == self.plans[0].steps:
                self._begin(0 if stay else self.epoch)
            self.loop.step.before(self.number)
            self.loop.step([plan.between(self.number, self.number + 1) for plan in self.plans])
            self.number += 1

    def _begin(self, epoch: int) -> None:
        step, course = self.loop.step, self.loop.course
        device = step.lr.device
        seeds = dict.fromkeys(self.seeds)
        self.plans = [epoch_plan(seed, epoch, course.row_set, course.views, device) for seed in seeds]
        self.number, self.epoch = 0, epoch + 1
        step.lr.fill_(0.05)
        step.prepare(self.plans, 0)
        for learner in step.learners:
            learner.begin(0)

    def state(self) -> list[Tensor]:
        """Copies of all that the learners are."""
        states = [learner.state() for learner in self.loop.step.learners]
        return [tensor.detach().float().cpu().clone() for tensor in tensors(states)]

    @property
    def recorded(self) -> bool:
        """Whether the steps are replayed as a graph."""
        step = self.loop.step
        return isinstance(step, Captured) and bool(step.graph) and not step.failed


def tensors(state: Any) -> Iterator[Tensor]:
    """All that are in nested dicts and lists."""
    if isinstance(state, Tensor):
        yield state
    elif isinstance(state, (Mapping, list, tuple)):
        for value in state.values() if isinstance(state, Mapping) else state:
            yield from tensors(value)
