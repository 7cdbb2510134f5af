"""A training without its loop: images, teacher, learners and a step, as an arm describes them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
import yaml
from torch import Tensor

from kdrun.data.resident import Resident
from kdrun.data.views import CropFlip
from kdrun.graphs import one_lane
from kdrun.losses.mix import make_mix
from kdrun.models.build import Built, build
from kdrun.models.fold import folded
from kdrun.models.reused import reusing
from kdrun.models.taps import Tapped, probe
from kdrun.training.captured import captured
from kdrun.training.compiled import compile_models
from kdrun.training.optimisers import optimiser
from kdrun.training.plan import EpochPlan, RowSet, epoch_plan
from kdrun.training.step import Learner, Step, Stepping
from kdrun.training.table import Table
from kdrun.training.tabled import Tabled
from kdrun.training.teachers import Live, Teacher, at_once
from kdrun.types import POOLED, Rows
from tests.gpu.bench import HOME, Bench

Terms = dict[str, dict[str, Any]]

KD: Terms = {
    "hard": {"name": "cross_entropy", "weight": 0.1},
    "soft": {"name": "soft_targets", "weight": 0.9, "temperature": 4.0},
}
RECIPE: Any = SimpleNamespace(
    optimiser="sgd", momentum=0.9, nesterov=False, weight_decay=5e-4, betas=[0.9, 0.999], lr=0.05,
    schedule="step", milestones=[150, 180, 210], gamma=0.1, warmup=0.0, div=25.0, final_div=1e4,
)  # fmt: skip


class Arm(NamedTuple):
    """A way of doing a step. numerics: fp32, tf32 or bf16. last: whether channels lie last. fold: whether the
    teacher's batch norms are folded. searched: whether cuDNN may try its kernels and take the fastest, not
    only those that give the same bits each time. teacher: live or table. terms: of the mix.
    """

    name: str
    numerics: str = "bf16"
    last: bool = True
    fold: bool = True
    graph: bool = True
    compiled: bool = False
    searched: bool = False
    teacher: str = "live"
    terms: Terms = KD


class World:
    """Steps of an arm, one after the other. seeds: a learner for each, with an order of images of its own.

    said: why the steps are not captured.
    """

    def __init__(self, bench: Bench, arm: Arm, seeds: Sequence[int] = (0,)) -> None:
        scale, device = bench.scale, bench.device
        _set_numerics(arm)
        torch.manual_seed(0)
        self.bench, self.arm, self.seeds, self.said = bench, arm, seeds, list[str]()
        self.shape = (3, scale.size, scale.size)
        self.images = _images(bench, arm.last)
        self.labels = torch.arange(scale.images, device=device) % scale.classes
        teacher = self._built(scale.teacher, seed=1)
        self.learners = tuple(self._learner(teacher, seed) for seed in seeds)
        self.live = self._live(teacher)
        self.teacher = self._teacher(teacher)
        graphs = bench.graphs() if arm.graph else None
        lanes = graphs.lanes if graphs else one_lane
        self.plain = Step(self.learners, self.teacher, self.images, self.labels, lanes)
        self.step: Stepping = self.plain
        if arm.compiled:
            compile_models(self.plain)
        if graphs:
            self.step = captured(self.plain, self.images, graphs, self.said.append)
        self.step.lr.fill_(RECIPE.lr)
        self.row_set = RowSet(torch.arange(scale.images), scale.images, scale.batch)
        self.plans: list[EpochPlan] = []
        self.epoch = self.number = 0

    def steps(self, count: int, stay: bool = False) -> None:
        """The next steps, also into the next epoch. stay: always of the first epoch."""
        for _ in range(count):
            if not self.plans or self.number == self.plans[0].steps:
                self._begin(0 if stay else self.epoch)
            self.step.before(self.number)
            self.step([plan.between(self.number, self.number + 1) for plan in self.plans])
            self.number += 1

    def plan(self, seed: int, epoch: int) -> EpochPlan:
        return epoch_plan(seed, epoch, self.row_set, self.images.views, self.bench.device)

    def rows(self, count: int) -> Rows:
        """So many of an epoch, again from its beginning where it ends."""
        plan = self.plan(0, 0)
        place = torch.arange(count, device=self.bench.device) % self.bench.scale.images
        return plan.rows.at(place)

    def seen(self, size: int) -> Iterator[Tensor]:
        """Images of a validation part in batches: those of the training part, in the first view."""
        for first in range(0, self.bench.scale.seen, size):
            until = min(first + size, self.bench.scale.seen)
            index = torch.arange(first, until, device=self.bench.device) % self.bench.scale.images
            yield self.images(Rows(index, torch.zeros_like(index)))

    def seen_labels(self) -> Tensor:
        return self.labels[torch.arange(self.bench.scale.seen, device=self.bench.device) % len(self.labels)]

    def state(self) -> list[Tensor]:
        """Copies of all that the learners are."""
        states = [learner.state() for learner in self.learners]
        return [tensor.detach().float().cpu().clone() for tensor in tensors(states)]

    def precision(self) -> torch.autocast:
        enabled = self.arm.numerics == "bf16"
        return torch.autocast(self.bench.device.type, dtype=torch.bfloat16, enabled=enabled)

    def _begin(self, epoch: int) -> None:
        self.plans = [self.plan(seed, epoch) for seed in dict.fromkeys(self.seeds)]
        self.number, self.epoch = 0, epoch + 1
        self.step.prepare(self.plans, 0)
        for learner in self.learners:
            learner.begin(0)

    def _placed(self, model: torch.nn.Module) -> torch.nn.Module:
        layout = torch.channels_last if self.arm.last else torch.contiguous_format
        there: torch.nn.Module = model.to(self.bench.device, memory_format=layout)  # type: ignore[call-overload]
        return there

    def _built(self, name: str, seed: int) -> Built:
        return build(node("model", name), self.bench.scale.classes, self.shape, "none", seed)

    def _learner(self, teacher: Built, seed: int) -> Learner:
        scale, student = self.bench.scale, self._built(self.bench.scale.student, seed)
        mix = make_mix(self.arm.terms)
        if any(term["name"] == "simkd" for term in self.arm.terms.values()):
            student = reusing(student, teacher.model, self.shape, scale.classes, seed)
        mix.build(
            probe(student.model, self.shape, mix.needs.student & {POOLED}),
            probe(teacher.model, self.shape, mix.needs.teacher & {POOLED}),
            images=scale.images,
        )
        model, mix = self._placed(student.model), mix.to(self.bench.device)
        learned = optimiser(RECIPE, [*model.parameters(), *mix.parameters()])
        stream = list(dict.fromkeys(self.seeds)).index(seed)
        tapped = Tapped(model, mix.needs.student)
        return Learner(model, tapped, self.precision, mix, learned, None, stream=stream)

    def _live(self, teacher: Built) -> Live:
        needs = self.learners[0].mix.needs.teacher
        model = folded(teacher.model, self.shape, needs) if self.arm.fold else teacher.model
        return Live(Tapped(self._placed(model), needs), self.precision)

    def _teacher(self, built: Built) -> Teacher:
        if self.arm.teacher == "live":
            return self.live
        scale, views = self.bench.scale, self.images.views.count
        assert views is not None
        layers = sorted(self.learners[0].mix.needs.teacher | {"logits"})
        shapes = probe(built.model, self.shape)
        folder = Path(tempfile.mkdtemp(dir=self.bench.folder))
        table = Table(folder, scale.images * views, {name: shapes.layer(name)[0] for name in layers}, "gpu")
        chunk = at_once(self.bench.device, 3 * scale.size**2)
        return Tabled(self.live, self.images, views, table, chunk, room=2 * scale.images)


class First(Resident):
    """Images whose channels come first, as a textbook's do."""

    def __call__(self, rows: Rows) -> Tensor:
        return super().__call__(rows).contiguous()


def node(group: str, name: str) -> dict[str, Any]:
    """A file of `conf/`, as it is written there."""
    text = (HOME / "conf" / group / f"{name}.yaml").read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def tensors(state: Any) -> Iterator[Tensor]:
    """All that are in nested dicts and lists."""
    if isinstance(state, Tensor):
        yield state
    elif isinstance(state, (dict, list, tuple)):
        for value in state.values() if isinstance(state, dict) else state:
            yield from tensors(value)


def _images(bench: Bench, last: bool) -> Resident:
    scale, draw = bench.scale, torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (scale.images, 3, scale.size, scale.size), generator=draw).to(torch.uint8)
    views = CropFlip((3, scale.size, scale.size), padding=scale.size // 8)
    made = partial(Resident if last else First, pixels, views, [0.5] * 3, [0.25] * 3, 255.0)
    return made(bench.device)


def _set_numerics(arm: Arm) -> None:
    """How float32 is multiplied (in fp32 exactly; beside bf16, tf32 loses nothing), and cuDNN's choice."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = arm.numerics != "fp32"
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = arm.searched, not arm.searched
