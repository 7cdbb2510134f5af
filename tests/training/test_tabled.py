"""Kept answers are the live teacher's, bit for bit, whoever asks and wherever in an epoch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kdrun.errors import KdrunError
from kdrun.training.plan import EpochPlan
from kdrun.training.tabled import TOLERANCES, Tabled
from kdrun.training.teachers import Live
from kdrun.types import Batch, Outputs, Rows
from tests.training.speaker import (
    CPU,
    IMAGES,
    VIEWS,
    Speaker,
    answers,
    images,
    live,
    plans,
    repeats,
    same,
    table,
    tabled,
)
from tests.training.world import Codes, plain


@pytest.mark.parametrize("batch", [8, 24, 64])
@pytest.mark.parametrize(("chunk", "room"), [(128, 0), (2, 0), (2, 300), (128, 500)])
def test_a_table_says_what_the_live_teacher_says_bit_for_bit(
    tmp_path: Path, batch: int, chunk: int, room: int
) -> None:
    kept, now = tabled(tmp_path, chunk, room), live()
    for epoch, first in ((0, 0), (1, 0), (0, 1 % -(-IMAGES // batch)), (2, 0)):
        every = plans(epoch, batch)
        assert same(answers(kept, every, first), answers(now, every, first), maps=False)


def test_several_plans_at_once_and_fewer_later(tmp_path: Path) -> None:
    kept, now = tabled(tmp_path, chunk=2), live()
    for epoch, seeds in ((0, (3, 4, 5)), (1, (3, 4, 5)), (2, (5,))):
        every = plans(epoch, 8, seeds)
        assert same(answers(kept, every), answers(now, every), maps=False)


def test_an_answer_is_asked_for_once_and_serves_the_next_run(tmp_path: Path) -> None:
    first = tabled(tmp_path)
    answers(first, plans(0))
    answers(first, plans(0))
    assert (first.forwards, first.saved) == (IMAGES, IMAGES)
    first.close()
    second = tabled(tmp_path)
    assert second.check(CPU)
    asked_to_check = second.forwards
    answers(second, plans(0))
    assert (second.forwards - asked_to_check, second.saved) == (0, IMAGES)
    assert second.record() == {"plan": "tabled", "forwards": asked_to_check, "forwards_saved": IMAGES}


def test_only_rows_that_are_still_to_come_are_asked_for(tmp_path: Path) -> None:
    teacher = tabled(tmp_path)
    answers(teacher, plans(0), first=5)
    assert teacher.forwards == IMAGES - 5 * 8


def test_wrong_answers_are_seen_and_kept(tmp_path: Path) -> None:
    first = tabled(tmp_path)
    answers(first, plans(0))
    codes = np.flatnonzero(first.table.has(np.arange(len(first.table))))
    wrong = {name: np.nextafter(rows, np.float32(9)) for name, rows in first.table.read(codes).items()}
    first.table.clear()
    first.table.write(codes, wrong)
    first.close()
    second = tabled(tmp_path)
    assert not second.check(CPU)
    assert second.table.count == IMAGES  # on another machine they can be right
    second.tolerance = TOLERANCES["tf32"]
    assert second.check(CPU)


class Sized(Speaker):
    """Its answers depend on the size of the batch, as those of a GPU do in their last bits."""

    def forward(self, images: Tensor) -> Outputs:
        outputs = super().forward(images)
        return outputs._replace(logits=outputs.logits * (1 + 1e-3 * len(images)))


@pytest.mark.parametrize("chunk", [32, 128])
def test_a_fixed_size_makes_answers_independent_of_who_is_asked_with_them(tmp_path: Path, chunk: int) -> None:
    def asked(folder: str, fixed: bool) -> Tabled:
        return Tabled(Live(Sized(), plain), images, 10, table(tmp_path / folder), chunk, fixed=fixed)

    for folder, fixed in (("fixed", True), ("by need", False)):
        first = asked(folder, fixed)
        whole = answers(first, plans(0, batch=10))  # of 50 rows, the last forward has fewer
        first.close()
        second = asked(folder, fixed)
        assert second.check(CPU) is fixed
        if fixed:
            assert same(answers(second, plans(0, batch=10)), whole, maps=False)
            alone = answers(asked("alone", fixed), plans(0, batch=10), first=2)
            assert same(alone, whole[2:], maps=False)  # as a training that goes on asks


def test_on_a_gpu_the_teacher_is_ahead_by_an_epoch(tmp_path: Path) -> None:
    teacher = tabled(tmp_path, chunk=2, room=300)
    teacher.window = 300
    every = plans(0, 4, seeds=(3, 4))
    teacher.prepare(every, 0)
    codes = torch.cat([teacher._codes(plan.rows) for plan in every]).unique()
    assert teacher.forwards == len(codes)
    assert same(answers(teacher, every), answers(live(), every), maps=False)


def test_a_table_that_is_read_whole_says_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of its files, and damaged rows are asked for anew; a full one needs no question after."""
    monkeypatch.setattr("kdrun.training.tabled.READ_AT_ONCE", 7)
    first = tabled(tmp_path, chunk=2)
    for epoch in range(3):
        answers(first, plans(epoch))
    stored = first.table.stored()
    assert len(stored) == first.table.count and not np.array_equal(stored, np.sort(stored))
    first.close()
    entries = np.fromfile(tmp_path / "logits.f32", dtype=np.float32).reshape(-1, 7)
    entries[10] += 1  # one row is damaged
    entries.tofile(tmp_path / "logits.f32")
    whole = tabled(tmp_path, room=IMAGES * VIEWS)
    whole.whole = True
    read = whole.table.read
    reads: list[int] = []
    monkeypatch.setattr(whole.table, "read", lambda codes: (reads.append(len(codes)), read(codes))[1])
    for epoch in (2, 0, 5):
        assert same(answers(whole, plans(epoch)), answers(live(), plans(epoch)), maps=False)
    assert whole.shelf is not None and whole.table.has(stored).all()
    assert sum(reads) >= len(stored) - 1 and max(reads) <= 7


def test_what_is_derived_takes_its_part_of_the_room(tmp_path: Path) -> None:
    teacher = tabled(tmp_path, room=300)
    teacher.derived, teacher.whole = {"softened": lambda logits: logits.log_softmax(1)}, True
    said = answers(teacher, plans(0))
    assert teacher.shelf is not None and teacher.shelf.rows == 300 * 23 // 30  # 7 + 16 numbers, and 7 more
    assert all(torch.equal(one.layers["softened"], one.logits.log_softmax(1)) for one in said)


def test_when_all_answers_are_on_the_shelf_the_device_is_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = tabled(tmp_path, room=IMAGES * VIEWS)
    codes = torch.arange(IMAGES * VIEWS)
    every = [EpochPlan(Rows(codes // VIEWS, codes % VIEWS), 10, 50)]
    answers(teacher, every)
    assert teacher.shelf is not None
    monkeypatch.setattr(teacher.shelf, "lacking", lambda codes: pytest.fail("it would wait for the device"))
    before = teacher.saved
    assert same(answers(teacher, plans(3)), answers(live(), plans(3)), maps=False)
    assert teacher.saved == before + IMAGES


def test_a_part_is_written_when_the_next_has_been_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher, done = tabled(tmp_path, chunk=2), list[str]()
    ask, write = teacher._ask, teacher.table.write
    monkeypatch.setattr(teacher, "_ask", lambda code: (done.append("ask"), ask(code))[1])
    monkeypatch.setattr(teacher.table, "write", lambda *rows: (done.append("write"), write(*rows))[1])
    teacher.prepare(plans(0, batch=2), 0)  # a window of eight forwards
    assert done == ["ask", *["ask", "write"] * 7, "write"]
    assert teacher.table.count == 16


def test_who_may_not_write_is_still_right(tmp_path: Path) -> None:
    first, second = tabled(tmp_path), tabled(tmp_path)
    answers(first, plans(0))
    for epoch in (0, 1):
        assert same(answers(second, plans(epoch)), answers(live(), plans(epoch)), maps=False)
    assert first.table.writable and first.table.count == IMAGES and second.table.count == 0


def test_fp16_rounds_what_is_asked_as_what_is_kept(tmp_path: Path) -> None:
    first = tabled(tmp_path, numbers="fp16")
    fresh = answers(first, plans(0))
    first.close()
    second = tabled(tmp_path, numbers="fp16")
    assert second.check(CPU)
    assert same(fresh, answers(second, plans(0)), maps=False) and second.saved == IMAGES
    exact = answers(live(), plans(0))
    assert not torch.equal(fresh[0].logits, exact[0].logits)
    assert torch.equal(fresh[0].logits, exact[0].logits.half().float())
    assert second.record()["answers"] == "fp16"


def test_answers_beyond_fp16_are_refused(tmp_path: Path) -> None:
    teacher = tabled(tmp_path, numbers="fp16")
    head = teacher.live.network.head
    assert isinstance(head, nn.Linear)
    nn.init.constant_(head.bias, 1e5)
    with pytest.raises(KdrunError, match="the teacher's logits are beyond what fp16 can hold"):
        teacher.prepare(plans(0), 0)


def test_the_classifier_is_handed_on(tmp_path: Path) -> None:
    asked = live()
    head = asked(batch_of(plans(0)[0].rows, 4)).classifier
    teacher = Tabled(asked, images, 10, table(tmp_path), head=head)
    assert head is not None and answers(teacher, plans(0))[0].classifier is head


def test_a_row_that_nobody_prepared_gives_no_number(tmp_path: Path) -> None:
    teacher = tabled(tmp_path)
    answers(teacher, plans(0))
    asked = teacher(batch_of(plans(1)[0].rows, 50))
    known = teacher.table.has((plans(1)[0].rows.index * 10 + plans(1)[0].rows.view).numpy())
    assert asked.logits.isnan().all(1).tolist() == (~known).tolist()


def test_a_recorded_step_reads_the_answers_of_later_epochs(tmp_path: Path) -> None:
    assert repeats(tabled(tmp_path, chunk=2), Codes(), "logits")


def batch_of(rows: Rows, count: int) -> Batch:
    part = Rows(rows.index[:count], rows.view[:count])
    return Batch(images(part), part.index, part)
