from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from kdrun.errors import KdrunError
from kdrun.losses.crd import CRD, contrast
from kdrun.losses.sampling import Order, Sampler, negatives, positives
from kdrun.types import Batch, Outputs, Rows, Shapes

from .golden_cases import case, close, matches

WEIGHTS = {"student_head": "embed_s", "teacher_head": "embed_t"}


def built(tensors: dict[str, Tensor], temperature: float) -> CRD:
    images, dimension = tensors["buffer.memory_student"].shape
    loss = CRD(dimension=dimension, images=images)
    student, teacher = tensors["student.embedding"].shape[1], tensors["teacher.embedding"].shape[1]
    loss.build(Shapes({"embedding": (student,)}, 0), Shapes({"embedding": (teacher,)}, 0))
    loss.double()
    loss.temperature = torch.tensor(temperature, dtype=torch.float64)
    for ours, theirs in WEIGHTS.items():
        for name in ("weight", "bias"):
            leaf = tensors[f"param.{theirs}.{name}"]
            del getattr(loss, ours)._parameters[name]
            setattr(getattr(loss, ours), name, leaf)
    loss.student_bank.rows.copy_(tensors["buffer.memory_student"])
    loss.teacher_bank.rows.copy_(tensors["buffer.memory_teacher"])
    return loss


def step(loss: CRD, tensors: dict[str, Tensor], at: str = "") -> Tensor:
    names = ("student.embedding", "teacher.embedding", "buffer.sample_index", "buffer.contrast_index")
    total = loss.against_banks(*(tensors[name + at] for name in names))
    close(total, tensors[f"loss.total{at}"])
    close(loss.student_bank.rows, tensors[f"out.memory_student_after{at}"])
    close(loss.teacher_bank.rows, tensors[f"out.memory_teacher_after{at}"])
    close(loss.scales, torch.stack([tensors["out.z_student"], tensors["out.z_teacher"]]))
    return total


@pytest.mark.parametrize(("name", "temperature"), [("b8", 0.07), ("b1", 0.07), ("hand", 1.0)])
def test_golden(name: str, temperature: float) -> None:
    tensors = case("crd", name)
    matches(tensors, step(built(tensors, temperature), tensors))


def test_golden_second_step_reads_what_the_first_wrote() -> None:
    tensors = case("crd", "b8_two_steps")
    loss = built(tensors, 0.07)
    step(loss, tensors)
    matches(tensors, step(loss, tensors, "_step2"))


def test_by_hand() -> None:
    # One negative of two images: scores e and 1, scale e + 1, noise 1/2
    found = contrast(torch.tensor([[1.0, 0.0]]), torch.eye(2), torch.tensor([[0, 1]]), 1.0)
    p = math.e / (math.e + 1)
    assert found.scale.item() == pytest.approx(math.e + 1)
    assert found.loss.item() == pytest.approx(-math.log(p / (p + 0.5)) - math.log(0.5 / (1.5 - p)), rel=1e-5)


def test_the_order_of_the_negatives_does_not_matter() -> None:
    generator = torch.Generator().manual_seed(0)
    bank = torch.randn(20, 4, generator=generator, dtype=torch.float64)
    drawn = torch.randint(20, (3, 9), generator=generator)
    turned = torch.cat([drawn[:, :1], drawn[:, 1:].flip(1)], dim=1)
    close(contrast(bank[:3], bank, turned, 0.5).loss, contrast(bank[:3], bank, drawn, 0.5).loss, 1e-12)


def test_negatives_are_of_other_classes() -> None:
    torch.manual_seed(0)
    classes = torch.tensor([0, 1, -1, 1, 2, 0, -1, 1])
    index, labels = torch.tensor([1, 4, 2]), torch.tensor([1, 2, -1])
    drawn = negatives(Order.of(classes), index, labels, 500)
    assert set(drawn[0].tolist()) == {0, 2, 4, 5, 6}
    assert set(drawn[1].tolist()) == {0, 1, 2, 3, 5, 6, 7}
    assert set(drawn[2].tolist()) == {0, 1, 3, 4, 5, 6, 7}
    alone = negatives(Order.of(torch.zeros(4, dtype=torch.long)), torch.tensor([2]), torch.tensor([0]), 200)
    assert set(alone.flatten().tolist()) == {0, 1, 3}


def test_relaxed_positives_are_of_the_same_class() -> None:
    torch.manual_seed(0)
    classes = torch.tensor([0, 1, -1, 1, 2, 0, -1, 1])
    index, labels = torch.tensor([1, 2, 4]), torch.tensor([1, -1, 2])
    drawn = torch.stack([positives(Order.of(classes), index, labels) for _ in range(100)])
    assert [set(column.tolist()) for column in drawn.T] == [{1, 3, 7}, {2}, {4}]


def test_banks_change_in_training_only() -> None:
    loss = CRD(negatives=5, dimension=3, positive="relaxed")
    loss.build(Shapes({"embedding": (4,)}, 0), Shapes({"embedding": (6,)}, 0), images=12)
    index = torch.tensor([3, 8, 0])
    batch = Batch(torch.zeros(3), torch.tensor([1, 0, -1]), Rows(index, index))
    student, teacher = (Outputs(torch.zeros(3, 2), torch.randn(3, size)) for size in (4, 6))
    before = {name: buffer.clone() for name, buffer in loss.named_buffers()}
    loss.eval()
    loss(student, teacher, batch)
    assert all(torch.equal(buffer, before[name]) for name, buffer in loss.named_buffers())
    loss.train()
    loss(student, teacher, batch)
    changed = (loss.student_bank.rows != before["student_bank.rows"]).any(dim=1).nonzero().flatten()
    assert changed.tolist() == [0, 3, 8]
    assert loss.sampler.classes[index].tolist() == [1, 0, -1]


def test_refusals() -> None:
    with pytest.raises(KdrunError, match="positive=near: no such choice"):
        CRD(positive="near")
    with pytest.raises(KdrunError, match="images=0: how many training images there are"):
        CRD().build(Shapes({"embedding": (4,)}, 0), Shapes({"embedding": (4,)}, 0))
    with pytest.raises(KdrunError, match="negatives=0: must be 1 or more"):
        CRD(negatives=0)


@pytest.mark.parametrize("relaxed", [False, True])
def test_what_is_sorted_once_an_epoch_draws_what_is_sorted_in_each_step(relaxed: bool) -> None:
    """Also an image that the first epoch left out, one without a label, and rows that share a place."""
    labels = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, -1, 2])
    epochs = [torch.tensor([1, 2, 3, 4, 5, 6, 7, 8, 9]), *[torch.tensor([9, 0, 8, 3, 4, 5, 6, 7, 2, 1])] * 3]
    draws: dict[bool, list[Tensor]] = {}
    for prepared in (False, True):
        torch.manual_seed(0)
        sampler, sorts = Sampler(10, 4, relaxed), list[bool]()
        draws[prepared] = []
        for index in epochs:
            if prepared:
                sampler.prepare(index, labels[index])
                sorts.append(sampler.order is not None)
            draws[prepared] += [sampler(part, labels[part]) for part in index.split(3)]
        assert sorts == ([False, False, True, True] if prepared else [])
    assert all(torch.equal(one, other) for one, other in zip(draws[False], draws[True], strict=True))


def test_rows_that_share_a_place_are_sorted_in_each_step() -> None:
    sampler, index, labels = Sampler(3, 4, False), torch.arange(6) % 3, torch.tensor([0, 1, 0, 1, 0, 1])
    sampler.classes.copy_(torch.tensor([0, 1, 0]))
    sampler.prepare(index, labels)
    assert sampler.order is None
