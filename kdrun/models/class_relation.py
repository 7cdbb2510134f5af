"""How the classes of a teacher relate to those of its student: by name, with logits over the student's.

Several of the teacher's classes may be one class of the student: their probabilities add up. Classes of the
teacher that the student does not have are left out, and the probabilities of the others then sum to 1 again:
softmax takes care of that. A class of the student that the teacher does not know has the logit
`kdrun.types.MISSING`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kdrun.errors import KdrunError
from kdrun.figures import listed
from kdrun.types import MISSING

SHOWN = 4
"""How many classes an error names."""


class Relation(NamedTuple):
    """targets: for each output of the teacher the number of the student's class, -1 if the student does not
    have it; none of a teacher without classes. classes: how many the student has.
    """

    targets: tuple[int, ...]
    classes: int

    @property
    def same(self) -> bool:
        """Whether teacher and student have the same classes in the same order."""
        return self.targets == tuple(range(self.classes))

    @property
    def known(self) -> tuple[int, ...]:
        """The student's classes that the teacher knows, in ascending order."""
        return tuple(sorted(set(self.targets) - {-1}))

    @property
    def whole(self) -> bool:
        """Whether the teacher knows all classes of the student."""
        return len(self.known) == self.classes


class Related(nn.Module):
    """From a teacher's logits (N, K') to logits (N, K) over the student's classes. members: (K, M) int64, the
    outputs of each of the student's classes. absent: (K, M) bool, where there are fewer than M.
    """

    members: Tensor
    absent: Tensor

    def __init__(self, relation: Relation) -> None:
        super().__init__()
        of_class = [
            [place for place, target in enumerate(relation.targets) if target == number]
            for number in range(relation.classes)
        ]
        most = max(map(len, of_class))
        filled = [own + [-1] * (most - len(own)) for own in of_class]
        table = torch.tensor(filled, dtype=torch.int64)
        self.same = relation.same
        self.register_buffer("members", table.clamp(min=0), persistent=False)
        self.register_buffer("absent", table < 0, persistent=False)

    def forward(self, logits: Tensor) -> Tensor:
        if self.same:
            return logits
        if not self.members.numel():
            return logits.new_full((len(logits), len(self.members)), MISSING)
        own = logits.index_select(1, self.members.flatten()).view(-1, *self.members.shape)
        summed: Tensor = own.masked_fill(self.absent, -torch.inf).logsumexp(2)
        return summed.masked_fill(self.absent.all(1), MISSING)


def relation(
    theirs: Sequence[str],
    ours: Sequence[str],
    key: str,
    class_map: Mapping[str, str] | None = None,
    *,
    subset: bool = False,
) -> Relation:
    """The relation of a teacher's classes (of its outputs, in order) to those of the data set. Raises
    KdrunError under `key`. class_map: from a teacher's class to the student's; others are related by name, or
    left out. Without it, each class of the teacher must be one of the data set. subset: it may know fewer.
    """
    number, map_ = {name: place for place, name in enumerate(ours)}, dict(class_map or {})
    _refuse_twice(theirs, f"{key}.classes")
    for name, own in map_.items():
        if name not in theirs:
            raise KdrunError(f"{key}.class_map", name, "the teacher has no such class", theirs)
        if own not in number:
            raise KdrunError(f"{key}.class_map.{name}", own, "the data set has no such class", ours)
    related = Relation(tuple(number.get(map_.get(name, name), -1) for name in theirs), len(ours))
    if not related.known:
        both = "; ".join(listed(names, SHOWN) for names in (theirs, ours))
        problem = f"the teacher and the data set have no class in common ({both})"
        raise KdrunError(f"{key}.classes", None, problem)
    if class_map is None:
        _refuse_others(related, theirs, ours, key, subset)
    if len(related.known) < 2:
        problem = f"the teacher knows one class of the data set only ({ours[related.known[0]]})"
        raise KdrunError(f"{key}.classes", None, problem)
    return related


def _refuse_others(
    related: Relation, theirs: Sequence[str], ours: Sequence[str], key: str, subset: bool
) -> None:
    foreign = [name for name, target in zip(theirs, related.targets, strict=True) if target < 0]
    absent = [name for place, name in enumerate(ours) if place not in related.known and not subset]
    if foreign or absent:
        parts = [f"it has {listed(foreign, SHOWN)}, which the data set has not"] if foreign else []
        parts += [f"it does not know {listed(absent, SHOWN)}"] if absent else []
        problem = f"{'; '.join(parts)}. If that is meant, say how its classes relate: {key}.class_map={{...}}"
        raise KdrunError(f"{key}.classes", None, problem)


def _refuse_twice(names: Sequence[str], key: str) -> None:
    for name in names:
        if list(names).count(name) > 1:
            raise KdrunError(key, name, "is there more than once")
