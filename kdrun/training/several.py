"""Several teachers: each answers in its own way (live, ahead, from a table), then all as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kdrun.models.class_relation import Related, Relation
from kdrun.training.combine import Combination, Combined, combine
from kdrun.training.plan import EpochPlan
from kdrun.training.teachers import Teacher
from kdrun.types import Batch, Outputs


class AskedTeacher(NamedTuple):
    """What is known of one of several teachers. share: its fixed weight."""

    name: str
    relation: Relation
    share: float = 1.0


class Together(nn.Module):
    """Answers of several teachers as one, from their logits and labels. how: None if no term needs it."""

    knows: Tensor
    shares: Tensor

    def __init__(self, asked: Sequence[AskedTeacher], how: Combination | None) -> None:
        super().__init__()
        self.how, self.related = how, nn.ModuleList(Related(each.relation) for each in asked)
        classes = asked[0].relation.classes
        known = [[number in each.relation.known for number in range(classes)] for each in asked]
        shares = torch.tensor([each.share for each in asked])
        self.register_buffer("knows", torch.tensor(known), persistent=False)
        self.register_buffer("shares", shares, persistent=False)

    def own(self, logits: Sequence[Tensor]) -> list[Tensor]:
        """The logits (N, K) of each over the student's classes, from those over its own."""
        return [related(each.float()) for related, each in zip(self.related, logits, strict=True)]

    def forward(self, logits: Sequence[Tensor], labels: Tensor) -> Combined:
        """logits: (N, K) of each teacher, over the student's classes. labels: (N,) int64."""
        if self.how is None or len(logits) == 1:
            return Combined(logits[0], None)
        return combine(torch.stack(list(logits)), self.knows, self.shares, self.how, labels)


class SeveralTeachers(Teacher):
    """Teachers by name, in the order of `together`, asked about the same batch: one view of each image. The
    outputs are those of all as one; `teachers` holds those of each, with its logits over the student's
    classes. A single teacher of other classes than the student's is one of these, too.
    """

    def __init__(self, teachers: Mapping[str, Teacher], together: Together) -> None:
        self.teachers, self.together = dict(teachers), together
        self.uncounted = self.unsaved = 0

    @property
    def kind(self) -> str:  # type: ignore[override]
        """The kinds of the teachers, each once: `live`, `live and tabled`."""
        return " and ".join(sorted({teacher.kind for teacher in self.teachers.values()}))

    @property
    def capturable(self) -> bool:  # type: ignore[override]
        return all(teacher.capturable for teacher in self.teachers.values())

    @property
    def forwards(self) -> int:
        return self.uncounted + sum(teacher.forwards for teacher in self.teachers.values())

    @forwards.setter
    def forwards(self, value: int) -> None:
        self.uncounted += value - self.forwards

    @property
    def saved(self) -> int:
        return self.unsaved + sum(teacher.saved for teacher in self.teachers.values())

    @saved.setter
    def saved(self, value: int) -> None:
        self.unsaved += value - self.saved

    def prepare(self, plans: Sequence[EpochPlan], first: int) -> None:
        for teacher in self.teachers.values():
            teacher.prepare(plans, first)

    def before(self, step: int) -> None:
        for teacher in self.teachers.values():
            teacher.before(step)

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Outputs:
        outputs = [teacher(batch) for teacher in self.teachers.values()]
        logits = self.together.own([each.logits for each in outputs])
        own = [each._replace(logits=mapped) for each, mapped in zip(outputs, logits, strict=True)]
        whole = self.together(logits, batch.labels)
        alone = own[0] if len(own) == 1 else Outputs(whole.logits)
        named = dict(zip(self.teachers, own, strict=True))
        return alone._replace(logits=whole.logits, counts=whole.counts, teachers=named)

    def close(self) -> None:
        for teacher in self.teachers.values():
            teacher.close()

    def models(self) -> tuple[nn.Module, ...]:
        return tuple(model for teacher in self.teachers.values() for model in teacher.models())

    def record(self) -> dict[str, Any]:
        return super().record() | {"teachers": {name: t.record() for name, t in self.teachers.items()}}


class Ensemble(nn.Module):
    """Several networks as one, to be evaluated: images (N, C, H, W) to logits (N, K). networks: each gives
    logits over the student's classes. together: with weights that read no label.
    """

    def __init__(self, networks: Sequence[nn.Module], together: Together) -> None:
        super().__init__()
        self.networks, self.together = nn.ModuleList(networks), together

    def forward(self, images: Tensor) -> Tensor:
        logits = [network(images).float() for network in self.networks]
        labels = torch.full((len(images),), -1, device=images.device)
        combined: Combined = self.together(logits, labels)
        return combined.logits
