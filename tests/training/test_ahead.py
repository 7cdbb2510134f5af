"""A teacher that is asked ahead says what the live one says, bit for bit, and lays it out as that does."""

from __future__ import annotations

import pytest
import torch

from kdrun.training.ahead import Ahead
from kdrun.types import Batch, Outputs, Rows
from tests.training.speaker import IMAGES, Drawn, answers, images, live, plans, repeats, same
from tests.training.world import Codes


def ahead(chunk: int = 128, rows: int = 1000) -> Ahead:
    return Ahead(live(), images, chunk, rows)


@pytest.mark.parametrize("views", [Codes(), Drawn()], ids=["codes", "drawn"])
@pytest.mark.parametrize("batch", [8, 24, 64])
@pytest.mark.parametrize(("chunk", "rows"), [(128, 1000), (16, 32), (16, 40), (24, 1)])
def test_ahead_is_live_bit_for_bit(views: Codes | Drawn, batch: int, chunk: int, rows: int) -> None:
    teacher, now = ahead(chunk, rows), live()
    for epoch, first in ((0, 0), (1, 0), (2, -(-IMAGES // batch) // 2)):
        every = plans(epoch, batch, views=views)
        assert same(answers(teacher, every, first), answers(now, every, first))


@pytest.mark.parametrize("views", [Codes(), Drawn()], ids=["codes", "drawn"])
def test_several_plans_at_once_fewer_and_more_later(views: Codes | Drawn) -> None:
    teacher, now = ahead(16, 50), live()
    for epoch, seeds in ((0, (3, 4)), (1, (3, 4)), (2, (5,)), (3, (3, 4, 5, 6, 7, 8, 9))):
        every = plans(epoch, 8, seeds, views)
        assert same(answers(teacher, every), answers(now, every))


def test_each_row_is_asked_about_once_and_no_more_are_held_than_there_is_room_for() -> None:
    teacher = ahead(chunk=16, rows=32)
    answers(teacher, plans(0))
    assert teacher.forwards == IMAGES and teacher.held is not None
    assert len(teacher.held.logits) == 32 + 1
    assert teacher.record() == {"plan": "ahead", "forwards": IMAGES, "forwards_saved": 0}


def test_forwards_are_cut_at_the_same_rows_wherever_a_run_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU, other rows beside a row may change its last bits."""

    def cuts(first: int) -> list[list[int]]:
        teacher, seen = ahead(chunk=16, rows=32), []
        ask = teacher.live.padded

        def asked(batch: Batch, size: int) -> Outputs:
            assert size == 16  # also where fewer are left
            seen.append(batch.labels.tolist())
            return ask(batch, size)

        monkeypatch.setattr(teacher.live, "padded", asked)
        answers(teacher, plans(0), first)
        return seen

    assert [len(part) for part in cuts(0)] == [16, 16, 16, 2]
    assert cuts(3) == cuts(0)[1:]


def test_the_classifier_is_handed_on() -> None:
    teacher = ahead()
    head = answers(teacher, plans(0))[0].classifier
    assert head is not None and head.weight is teacher.live.network.get_parameter("head.weight")


def test_a_row_that_nobody_prepared_gives_no_number() -> None:
    teacher = ahead()
    (plan,) = plans(0, views=Drawn())
    teacher.prepare([plan], 0)
    rows = Rows(plan.rows.index[:4], plan.rows.view[:4].clone())
    rows.view[1, 0] = torch.nextafter(rows.view[1, 0], torch.tensor(2.0))
    outputs = teacher(Batch(images(rows), rows.index, rows))
    for tensor in (outputs.logits, outputs.stages[1], outputs.layers["tokens"]):
        assert tensor is not None
        assert tensor.flatten(1).isnan().all(1).tolist() == [False, True, False, False]


def test_a_recorded_step_reads_the_answers_of_later_windows_and_epochs() -> None:
    assert repeats(ahead(chunk=16, rows=32), Drawn(), "stage:1")
