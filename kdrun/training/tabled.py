"""A teacher whose answers are cached on disk: it sees each view of each image once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kdrun.errors import KdrunError
from kdrun.ranks import ONE, Ranks
from kdrun.training.plan import EpochPlan
from kdrun.training.table import Answers, AnswerTable, SharedTable
from kdrun.training.teachers import Live, Teacher
from kdrun.types import CLASSIFIER, Batch, HeadWeights, Outputs, Rows

CHECKED = 32
"""Rows of an existing table that are compared with a live forward before it is used."""

TOLERANCES = {"fp32": 0.0, "tf32": 0.002, "bf16": 0.02}
"""By precision, how far a kept answer may be from the teacher's here, relative to the largest of its layer.

A GPU of another kind, or another version of its libraries, adds up in another order. In bf16 that moved the
logits of resnet32x4 by up to 0.5 %. In fp32 all bits must be equal.
"""

READ_AT_ONCE = 2**16
"""Rows, if all of a table is read."""

WINDOW = 8
"""By how many forwards in bulk the teacher may be ahead of the student: few, so that progress is shown."""

Codes = NDArray[np.int64]

Layers = dict[str, Tensor]
"""By layer (`logits`, `embedding`): (n, width) float32."""


class WriteLater:
    """Writes each part of rows when the next one has been asked for, so that no device waits for a disk."""

    def __init__(self, write: Callable[[Codes, Answers], None]) -> None:
        self.write = write
        self.held: tuple[Codes, Callable[[], Answers]] | None = None

    def give(self, codes: Codes, rows: Mapping[str, Tensor]) -> None:
        """codes: (n,). rows: (n, width) by layer, which the device may still have to compute."""
        before, self.held = self.held, (codes, _on_the_way(rows))
        if before is not None:
            self.write(before[0], before[1]())

    def finish(self) -> None:
        """Writes the last part."""
        if self.held is not None:
            self.write(self.held[0], self.held[1]())
        self.held = None


def _on_the_way(tensors: Mapping[str, Tensor]) -> Callable[[], Answers]:
    """Begins to copy tensors to the host. The result waits for these alone, and gives them."""
    there = {name: _copied(tensor) for name, tensor in tensors.items()}
    done = torch.cuda.Event() if any(tensor.is_cuda for tensor in tensors.values()) else None  # type: ignore[no-untyped-call]
    if done is not None:
        done.record()

    def arrays() -> Answers:
        if done is not None:
            done.synchronize()
        return {name: tensor.numpy() for name, tensor in there.items()}

    return arrays


def _copied(tensor: Tensor) -> Tensor:
    """On the host, in memory to which a device can copy by itself."""
    if not tensor.is_cuda:
        return tensor.cpu()
    return torch.empty_like(tensor, device="cpu", pin_memory=True).copy_(tensor, non_blocking=True)


@dataclass(eq=False)
class Tabled(Teacher):
    """A live teacher whose answers to (image, view) are kept; for finite views, logits and embeddings.

    A step only looks answers up: what the next steps need is read from the table before, and what is missing
    there is computed. images: the training part in the views' order. views: how many an image has. chunk:
    images of one forward; fixed: always exactly so many. room: rows that may stay in memory for later epochs.
    window: rows for which the teacher may be ahead, of all streams; 0: those of WINDOW forwards for each.
    whole: whether all of the table is read before the first step, in the order of its files, which is faster
    than row by row; if `room` is for all. tolerance: of `check`. head: the teacher's classifier, if a term
    reads it. derived: further layers of the outputs, by name, each a function of logits (n, K) that gives
    (n, K); computed once for each answer.
    ranks: the processes that share batches. All of them want the same rows at the same time; each runs the
    teacher on a part of what is missing, and has all answers.
    """

    kind, capturable = "tabled", True
    writer = WriteLater

    live: Live
    images: Callable[[Rows], Tensor]
    views: int
    table: AnswerTable | SharedTable
    chunk: int = 128
    room: int = 0
    head: HeadWeights | None = None
    _: KW_ONLY
    fixed: bool = False
    window: int = 0
    whole: bool = False
    tolerance: float = 0.0
    ranks: Ranks = ONE
    derived: Mapping[str, Callable[[Tensor], Tensor]] = field(default_factory=dict, init=False)
    plans: Sequence[EpochPlan] = field(default=(), init=False)
    until: int = field(default=0, init=False)
    shelf: Shelf | None = field(default=None, init=False)

    def check(self, device: torch.device) -> bool:
        """Whether rows of an existing table are the teacher's answers here, up to `tolerance`."""
        codes = self.table.some(CHECKED, seed=0)
        if not len(codes):
            return True
        kept = self.table.read(codes)
        asked = [self._ask(torch.from_numpy(part).to(device)) for part in _parts(codes, self.chunk)]
        now = {name: torch.cat([each[name] for each in asked]).cpu().numpy() for name in kept}
        same = all(_close(kept[name].astype(np.float32), now[name], self.tolerance) for name in kept)
        return int(self.ranks.total(torch.tensor(int(same)))) == self.ranks.count

    def prepare(self, plans: Sequence[EpochPlan], first: int) -> None:
        self.plans, self.until = plans, first
        self.before(first)

    def before(self, step: int) -> None:
        if step < self.until:
            return
        window = max(WINDOW * self.chunk, self.window // len(self.plans))
        steps = max(1, window // self.plans[0].batch)
        self.until = step + steps
        wanted = torch.cat([self._codes(plan.between(step, self.until)) for plan in self.plans])
        most = sum(min(steps * plan.batch, len(plan.rows.index)) for plan in self.plans)
        derived = dict.fromkeys(self.derived, self.table.widths["logits"])
        kept = sum(self.table.widths.values())
        room = self.room * kept // (kept + sum(derived.values()))  # they take memory too
        rows = min(len(self.table), max(room, most))
        if self.shelf is None or self.shelf.rows < rows:
            self.shelf = Shelf(len(self.table), rows, self.table.widths | derived, wanted.device)
            if self.whole and rows == len(self.table):
                for part in _parts(self.table.stored(), READ_AT_ONCE):
                    self._read(part[self.table.has(part)], self.shelf)
        self._fetch(wanted, self.shelf)

    def __call__(self, batch: Batch) -> Outputs:
        assert batch.rows is not None and self.shelf is not None
        layers = self.shelf.look_up(self._codes(batch.rows))
        derived = {name: layers[name] for name in self.derived}
        return Outputs(layers["logits"], layers.get("embedding"), layers=derived, classifier=self.head)

    def close(self) -> None:
        self.table.close()

    def models(self) -> tuple[nn.Module, ...]:
        return self.live.models()

    def record(self) -> dict[str, Any]:
        answers = {} if self.table.numbers == "fp32" else {"answers": self.table.numbers}
        return super().record() | answers

    def _codes(self, rows: Rows) -> Tensor:
        return torch.add(rows.view, rows.index, alpha=self.views)

    def _fetch(self, wanted: Tensor, shelf: Shelf) -> None:
        """Puts the answers to all wanted codes on the shelf."""
        self.saved += len(wanted)
        if shelf.used == len(self.table):
            return  # all are there: the device need not be asked, which would wait for it
        codes = shelf.lacking(wanted)
        if len(codes) > shelf.rows - shelf.used:
            shelf.clear()
            codes = shelf.lacking(wanted)
        there = self.table.has(codes)
        self._read(codes[there], shelf)
        later = self.writer(self.table.write)
        for part in _parts(codes[~there], self.chunk * self.ranks.count):
            code = torch.from_numpy(part).to(wanted.device)
            answers = self._asked(code)
            shelf.put(code, self._with_derived(answers))
            later.give(part, answers)
        later.finish()
        self.saved -= int((~there).sum())

    def _read(self, codes: Codes, shelf: Shelf) -> None:
        """Puts rows that the table has on the shelf."""
        if len(codes):
            code = torch.from_numpy(codes).to(shelf.codes.device)
            read = self.table.read(codes).items()
            kept = {name: torch.from_numpy(rows).to(code.device).float() for name, rows in read}
            shelf.put(code, self._with_derived(kept))

    def _asked(self, code: Tensor) -> Layers:
        """The answers to codes, of which each rank asks for its part."""
        parts = code.tensor_split(self.ranks.count)
        own, sizes = parts[self.ranks.rank], [len(part) for part in parts]
        widths = self.table.widths.items()
        answers = self._ask(own) if len(own) else {name: own.new_empty(0, n).float() for name, n in widths}
        return {name: self.ranks.gathered(rows, sizes) for name, rows in answers.items()}

    def _ask(self, code: Tensor) -> Layers:
        rows = Rows(code // self.views, code % self.views)
        batch = Batch(self.images(rows), rows.index, rows)
        outputs = self.live.padded(batch, self.chunk) if self.fixed else self.live(batch)
        self.forwards += len(code)
        return {name: self._rounded(name, outputs.layer(name).float()) for name in self.table.widths}

    def _with_derived(self, answers: Layers) -> Layers:
        return answers | {name: act(answers["logits"]) for name, act in self.derived.items()}

    def _rounded(self, name: str, answer: Tensor) -> Tensor:
        """As the table returns it later. Raises KdrunError for values that its numbers cannot hold."""
        if self.table.numbers == "fp32":
            return answer
        rounded = answer.half().float()
        if not bool((rounded.isfinite() | ~answer.isfinite()).all()):
            problem = f"the teacher's {name} are beyond what fp16 can hold"
            raise KdrunError("runtime.table_dtype", "fp16", problem, ["fp32"])
        return rounded


class Shelf:
    """Answers by code, in tensors on a device that stay in place, so that a captured step can read them. A
    missing code leads to a last row of NaN, which stops the training. codes: of all images and views. rows:
    how many answers there is room for. used: how many there are.
    """

    def __init__(self, codes: int, rows: int, widths: dict[str, int], device: torch.device) -> None:
        self.rows, self.used = rows, 0
        self.places = torch.full((codes,), rows, dtype=torch.int32, device=device)
        self.codes = torch.zeros(rows, dtype=torch.int64, device=device)
        self.answers = {name: torch.empty(rows + 1, width, device=device) for name, width in widths.items()}
        for tensor in self.answers.values():
            tensor[rows].fill_(torch.nan)

    def look_up(self, codes: Tensor) -> Layers:
        """(n,) codes to (n, width) by layer."""
        place = self.places.index_select(0, codes)
        return {name: tensor.index_select(0, place) for name, tensor in self.answers.items()}

    def lacking(self, codes: Tensor) -> Codes:
        """The codes that are missing: each once, in ascending order."""
        missing = codes[self.places.index_select(0, codes) == self.rows]
        each: Codes = torch.unique(missing).cpu().numpy()
        return each

    def put(self, codes: Tensor, answers: Layers) -> None:
        """Adds answers, (n, width) by layer, to codes that are missing."""
        part = slice(self.used, self.used + len(codes))
        self.codes[part] = codes
        for name, tensor in self.answers.items():
            tensor[part] = answers[name]
        numbers = torch.arange(part.start, part.stop, dtype=torch.int32, device=codes.device)
        self.places.index_copy_(0, codes, numbers)
        self.used = part.stop

    def clear(self) -> None:
        """Drops all answers."""
        self.places.index_fill_(0, self.codes[: self.used], self.rows)
        self.used = 0


def why_no_table(needs: Collection[str], views: int | None) -> str:
    """Why a table cannot hold these layers in that many views (None: not finite); empty if it can."""
    if views is None:
        return "random augmentation, no cache"
    return "" if {"logits", "embedding", CLASSIFIER}.issuperset(needs) else "feature maps are not cached"


def _close(kept: NDArray[Any], now: NDArray[Any], tolerance: float) -> bool:
    gap = np.abs(kept - now).max()
    return np.array_equal(kept, now) or bool(gap <= tolerance * np.abs(now).max())


def _parts(codes: Codes, size: int) -> list[Codes]:
    return [codes[first : first + size] for first in range(0, len(codes), size)]
