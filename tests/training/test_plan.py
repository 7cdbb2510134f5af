"""An epoch's plan depends on (seed, epoch, row set) alone, and shows every row as often as it should."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kdrun.training.plan import EpochPlan, RowSet, Shares, epoch_plan
from tests.training.world import Codes


def plan(
    seed: int = 0, epoch: int = 0, rows: Tensor | None = None, length: int = 20, batch: int = 8
) -> EpochPlan:
    row_set = RowSet(torch.arange(20) if rows is None else rows, length, batch)
    return epoch_plan(seed, epoch, row_set, Codes(), torch.device("cpu"))


def test_each_row_once_in_another_order_each_epoch() -> None:
    first, second = plan(epoch=0), plan(epoch=1)
    assert sorted(first.rows.index.tolist()) == list(range(20)) == sorted(second.rows.index.tolist())
    assert not torch.equal(first.rows.index, second.rows.index)
    assert not torch.equal(first.rows.view, second.rows.view)


def test_a_function_of_seed_and_epoch_alone() -> None:
    torch.manual_seed(1)
    one = plan(seed=3, epoch=5)
    torch.manual_seed(2)
    two = plan(seed=3, epoch=5)
    assert torch.equal(one.rows.index, two.rows.index) and torch.equal(one.rows.view, two.rows.view)
    assert not torch.equal(one.rows.index, plan(seed=4, epoch=5).rows.index)


def test_few_rows_are_repeated_evenly_to_the_length_of_an_epoch() -> None:
    index = plan(rows=torch.tensor([4, 7, 9]), length=20).rows.index
    counts = torch.bincount(index, minlength=10)
    assert len(index) == 20 and set(index.tolist()) == {4, 7, 9}
    assert int(counts.max()) - int(counts[[4, 7, 9]].min()) <= 1


def test_batches_cut_the_epoch_and_can_start_within() -> None:
    cut = plan()
    sizes = [len(rows.index) for rows in cut.batches()]
    assert sizes == [8, 8, 4] and cut.steps == 3
    joined = torch.cat([rows.index for rows in cut.batches()])
    assert torch.equal(joined, cut.rows.index)
    assert torch.equal(torch.cat([rows.index for rows in cut.batches(first=1)]), cut.rows.index[8:])


def test_a_last_batch_of_one_image_is_left_out_unless_it_is_all() -> None:
    assert [len(rows.index) for rows in plan(length=17).batches()] == [8, 8]
    assert [len(rows.index) for rows in plan(rows=torch.tensor([3]), length=1).batches()] == [1]


def shared_out(share: float, epoch: int = 0, length: int = 22, batch: int = 8) -> EpochPlan:
    """Rows 0 to 4 carry labels, rows 5 to 19 do not."""
    rows = torch.arange(20)
    row_set = RowSet(rows, length, batch, Shares(rows[:5], rows[5:], share))
    return epoch_plan(0, epoch, row_set, Codes(), torch.device("cpu"))


@pytest.mark.parametrize(("share", "counts"), [(0.5, [4, 4, 3]), (0.01, [1, 1, 1]), (0.99, [7, 7, 5])])
def test_each_batch_holds_its_share_of_labelled_rows(share: float, counts: list[int]) -> None:
    batches = [rows.index for rows in shared_out(share).batches()]
    assert [len(index) for index in batches] == [8, 8, 6]
    assert [int((index < 5).sum()) for index in batches] == counts
    for index, count in zip(batches, counts, strict=True):
        assert bool((index[:count] < 5).all())
    others = torch.cat(batches)[torch.cat(batches) >= 5]
    assert len(set(others.tolist())) == min(len(others), 15)  # none comes again before all have come


def test_the_labelled_rows_are_a_part_of_what_the_control_sees() -> None:
    """So the labels' term is a mean over some of the control's rows of that step, in the control's views."""
    for epoch in (0, 1):
        control = plan(epoch=epoch, rows=torch.arange(5), length=22)
        for share in (0.25, 0.5, 1.0):
            student = shared_out(share, epoch)
            labelled = student.rows.index < 5
            assert torch.equal(student.rows.index[labelled], control.rows.index[labelled])
            assert torch.equal(student.rows.view, control.rows.view)
        assert bool(labelled.all())  # of the last share, 1
