"""Kept answers are the live teacher's, bit for bit; foreign, damaged or locked tables are not used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kdrun.training.plan import EpochPlan, RowSet, epoch_plan
from kdrun.training.table import Table, table_bytes
from kdrun.training.teachers import Live, Tabled
from kdrun.types import Batch, Outputs, Rows
from tests.training.test_fit import plain
from tests.training.test_plan import Codes

IMAGES, VIEWS, CLASSES = 50, 10, 7
CPU = torch.device("cpu")


class Speaker(nn.Module):
    """A small convolutional network that says logits and embedding."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.features = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU())
        self.head = nn.Linear(16, CLASSES)

    def forward(self, images: Tensor) -> Outputs:
        embedding = self.features(images).mean((2, 3))
        return Outputs(self.head(embedding), embedding)


def images(rows: Rows) -> Tensor:
    base = torch.linspace(-3, 3, 3 * 8 * 8).view(1, 3, 8, 8)
    shift = (rows.index * VIEWS + rows.view).view(-1, 1, 1, 1) / 37
    return torch.sin(base * 5 + shift).contiguous(memory_format=torch.channels_last)


def table(folder: Path, key: str = "k", rows: int = IMAGES * VIEWS) -> Table:
    return Table(folder, rows, {"logits": CLASSES, "embedding": 16}, key)


def teacher(folder: Path, seed: int = 0, key: str = "k") -> Tabled:
    return Tabled(Live(Speaker(seed), plain), images, VIEWS, table(folder, key))


def plan(epoch: int, batch: int = 8) -> EpochPlan:
    return epoch_plan(0, epoch, RowSet(torch.arange(IMAGES), IMAGES, batch), Codes(), CPU)


def said(asked: Any, epoch: int, batch: int = 8) -> tuple[Tensor, Tensor]:
    """Everything that a teacher says in an epoch of batches (the last has two rows)."""
    asked.prepare([plan(epoch, batch)], 0)
    outputs = [asked(Batch(images(r), r.index, r)) for r in plan(epoch, batch).batches()]
    return torch.cat([o.logits for o in outputs]), torch.cat([o.embedding for o in outputs])


@pytest.mark.parametrize("batch", [8, 24, 64])
def test_a_table_says_what_the_live_teacher_says_bit_for_bit(tmp_path: Path, batch: int) -> None:
    live, tabled = Live(Speaker(), plain), teacher(tmp_path)
    for epoch in (0, 1, 0, 2):
        for kept, now in zip(said(tabled, epoch, batch), said(live, epoch, batch), strict=True):
            assert torch.equal(kept, now)


def test_an_answer_is_asked_for_once_and_serves_the_next_run(tmp_path: Path) -> None:
    first = teacher(tmp_path)
    said(first, 0)
    said(first, 0)
    assert (first.forwards, first.saved) == (IMAGES, IMAGES)
    first.close()
    second = teacher(tmp_path)
    assert second.check(CPU)
    asked_to_check = second.forwards
    said(second, 0)
    assert (second.forwards - asked_to_check, second.saved) == (0, IMAGES)


def test_wrong_answers_are_seen_and_made_anew(tmp_path: Path) -> None:
    first = teacher(tmp_path)
    said(first, 0)
    first.close()
    path = tmp_path / "logits.f32"
    content = np.fromfile(path, dtype=np.float32)
    np.nextafter(content, np.float32(9)).tofile(path)
    second = teacher(tmp_path)
    assert not second.check(CPU)
    kept, _ = said(second, 0)
    now, _ = said(Live(Speaker(), plain), 0)
    assert torch.equal(kept, now) and second.saved == 0


def test_a_table_of_another_teacher_is_emptied(tmp_path: Path) -> None:
    first = teacher(tmp_path, key="one")
    said(first, 0)
    first.close()
    other = table(tmp_path, key="other")
    assert other.usable and not other.has(np.arange(IMAGES * VIEWS)).any()


@pytest.mark.parametrize("damage", ["truncate", "header", "missing"])
def test_a_damaged_table_is_made_anew(tmp_path: Path, damage: str) -> None:
    first = teacher(tmp_path)
    said(first, 0)
    first.close()
    if damage == "truncate":
        with (tmp_path / "logits.f32").open("r+b") as file:
            file.truncate(100)
    elif damage == "header":
        (tmp_path / "table.json").write_text("{")
    else:
        (tmp_path / "filled.u8").unlink()
    again = teacher(tmp_path)
    assert again.check(CPU)
    kept, _ = said(again, 0)
    assert torch.equal(kept, said(Live(Speaker(), plain), 0)[0])
    assert again.forwards == IMAGES


def test_only_one_process_writes_and_the_other_is_still_right(tmp_path: Path) -> None:
    first = teacher(tmp_path)
    said(first, 0)
    second = teacher(tmp_path)
    assert first.table.writable and not second.table.writable
    for epoch in (0, 1):
        assert torch.equal(said(second, epoch)[0], said(Live(Speaker(), plain), epoch)[0])
    before = first.table.has(np.arange(IMAGES * VIEWS)).sum()
    assert before == IMAGES  # what the second one asked for was not written


def test_a_row_counts_only_after_its_data(tmp_path: Path) -> None:
    """A process killed between data and mark leaves the row as not there."""
    code = (
        "import numpy as np, os, signal, sys; from pathlib import Path\n"
        "from kdrun.training.table import Table\n"
        "t = Table(Path(sys.argv[1]), 20, {'logits': 3}, 'k')\n"
        "t.write(np.array([1, 2]), {'logits': np.ones((2, 3), np.float32)})\n"
        "class Dies(type(t.arrays['logits'])):\n"
        "    def flush(self):\n"
        "        super().flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
        "t.arrays['logits'] = t.arrays['logits'].view(Dies)\n"
        "t.write(np.array([5]), {'logits': np.ones((1, 3), np.float32)})\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert done.returncode == -9
    left = Table(tmp_path, 20, {"logits": 3}, "k")
    assert np.flatnonzero(left.has(np.arange(20))).tolist() == [1, 2]


def test_the_size_that_is_planned_is_the_size_of_the_files(tmp_path: Path) -> None:
    one = table(tmp_path)
    files = sum((tmp_path / name).stat().st_size for name in ("logits.f32", "embedding.f32", "filled.u8"))
    assert files == table_bytes(IMAGES * VIEWS, one.widths)
