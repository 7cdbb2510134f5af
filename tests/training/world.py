"""A training of a small network, with all that it is made of; for the tests of this and other folders."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from kdrun.losses.mix import make_mix
from kdrun.progress.journal import Journal
from kdrun.progress.watchers import Watchers
from kdrun.training.checkpoint import Checkpoint, SavePace, read_state
from kdrun.training.fit import Course, Strand, fit
from kdrun.training.optimisers import optimiser
from kdrun.training.plan import RowSet
from kdrun.training.step import Learner, Step
from kdrun.training.teachers import Live, NoTeacher
from kdrun.types import Outputs, Rows

HARD = {"hard": {"name": "cross_entropy", "weight": 1.0}}
KD = {
    "hard": {"name": "cross_entropy", "weight": 0.1},
    "soft": {"name": "soft_targets", "weight": 0.9, "temperature": 2.0},
}
RECIPE: Any = SimpleNamespace(
    optimiser="adamw", momentum=0.0, nesterov=False, betas=[0.9, 0.999], weight_decay=0.01, lr=0.01,
    schedule="onecycle", milestones=[], gamma=0.1, warmup=0.3, div=25.0, final_div=1e4,
)  # fmt: skip


class Killed(BaseException):
    """Stands for the end of the process; the kills of real processes are in tests/stages."""


class Codes:
    """Views by number, 0 to 9."""

    def draw(self, generator: torch.Generator, n: int) -> Tensor:
        return torch.randint(10, (n,), generator=generator)


def network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 4))


class Vectors:
    """As images: row i in view v is a vector that depends on both."""

    def prepare(self, parts: Iterable[Rows]) -> None: ...

    def __call__(self, rows: Rows) -> Tensor:
        base = torch.linspace(-1, 1, 6) * (rows.index[:, None] % 5 + 1)
        return torch.cos(base + rows.view[:, None] / 10)

    def close(self) -> None: ...


images = Vectors()


class World:
    """One training of a small network on 20 rows, of which `labelled` carry labels."""

    def __init__(self, folder: Path, loss: Any = HARD, labelled: int = 20, all_rows: bool = True) -> None:
        folder.mkdir(exist_ok=True)
        self.model, mix = network(), make_mix(loss)
        labels = torch.arange(20) % 4
        labels[labelled:] = -1
        teacher = Live(AsOutputs(network()), plain) if mix.needs.teacher else NoTeacher()
        chosen = optimiser(RECIPE, self.model.parameters())
        learner = Learner(self.model, AsOutputs(self.model), plain, mix, chosen, 1.0)
        self.step = Step((learner,), teacher, images, labels)
        self.checkpoint = Checkpoint(folder / "state.pt", [learner], SavePace(0.0, 60.0), {"threads": 1})
        rows = torch.arange(20) if all_rows else torch.nonzero(labels >= 0).flatten()
        self.journal = Journal(folder, "student")
        self.course = Course(6, 6, RowSet(rows, 20, 8), Codes(), RECIPE)
        self.path = folder / "state.pt"
        self.diagnose: Callable[[], dict[str, Any]] = dict
        torch.manual_seed(11)

    def validate(self) -> dict[str, float]:
        return {"top1": 50.0, "nll": 1.0}

    def run(self) -> dict[str, Tensor]:
        fit(self.course, self.step, [self.strand()], self.checkpoint.restore(read_state(self.path)))
        return self.model.state_dict()

    def strand(self) -> Strand:
        def validate() -> dict[str, float]:
            return self.validate()

        learners = self.step.learners
        watchers = Watchers("student", 20, [self.journal])
        return Strand("student", 0, learners, self.checkpoint, watchers, validate, self.diagnose)


class AsOutputs(nn.Module):
    """A plain network that answers as Outputs."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Outputs:
        return Outputs(self.inner(x))


def plain() -> torch.autocast:
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=False)


def same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], two[name]) for name in one)
