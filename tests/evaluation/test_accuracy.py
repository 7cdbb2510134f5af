from __future__ import annotations

import math
import weakref
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from kdrun.evaluation.accuracy import confusion_matrix, correct, figures, joined, logits_of, top_k
from tests.evaluation.subjects import drawn, subject

THREE = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 2.0], [0.0, 3.0, 0.0], [1.0, 0.0, 0.5]])
LABELS = torch.tensor([0, 1, 1, 2])  # right, second, right, second


def figures_of(logits: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    return {figure.name: figure.value for figure in figures(subject(labels, student=logits))}


def test_top_k_by_hand() -> None:
    assert top_k(THREE, LABELS) == 50.0
    assert top_k(THREE, LABELS, 2) == 100.0


def test_top_1_is_argmax_also_between_equal_logits() -> None:
    logits = torch.randint(0, 3, (500, 6), generator=torch.Generator().manual_seed(1)).float()
    labels = torch.randint(0, 6, (500,), generator=torch.Generator().manual_seed(2))
    assert torch.equal(correct(logits, labels), logits.argmax(1) == labels)


def test_a_constant_answer_is_not_always_right() -> None:
    labels = torch.arange(10)
    assert top_k(torch.zeros(10, 10), labels) == 10.0
    assert top_k(torch.zeros(10, 10), labels, 5) == 50.0


def test_rows_with_nan_are_wrong() -> None:
    logits = torch.zeros(2, 3)
    logits[:, 2] = math.nan
    assert top_k(logits, torch.tensor([0, 2])) == 0.0


def test_confusion_matrix_by_hand() -> None:
    labels = torch.tensor([0, 1, 1, -1])
    assert confusion_matrix(THREE, labels).tolist() == [[1, 0, 0], [0, 1, 1], [0, 0, 0]]


def test_figures_hold_only_what_has_a_meaning() -> None:
    assert figures_of(THREE, LABELS) == {"n": 4, "top1": 50.0}
    six, labels = drawn(50, 6)
    assert set(figures_of(six, labels)) == {"n", "top1", "top5"}
    assert figures_of(THREE, torch.full((4,), -1)) == {}


def test_figures_leave_unlabelled_images_out() -> None:
    logits, labels = drawn(50, 6)
    hidden = torch.where(torch.arange(50) % 3 == 0, -1, labels)
    keep = hidden >= 0
    assert figures_of(logits, hidden) == figures_of(logits[keep], labels[keep])


class Noisy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1)
        self.drop = nn.Dropout(0.5)
        self.frozen = nn.BatchNorm2d(1).eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.drop(self.frozen(self.norm(images))).flatten(1).half()
        return out


def test_logits_of_leaves_the_model_as_it_was() -> None:
    model = Noisy()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    images = torch.randn(7, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    logits = logits_of(model, images.split(3))
    assert logits.shape == (7, 4) and logits.dtype == torch.float32 and not logits.requires_grad
    assert torch.equal(logits, logits_of(model, [images]))
    assert (model.training, model.norm.training, model.drop.training) == (True, True, True)
    assert not model.frozen.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_logits_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="no batch"):
        logits_of(Noisy(), [])


class Cramped(nn.Module):
    """Has room for so many images at once."""

    def __init__(self, room: int, error: Exception) -> None:
        super().__init__()
        self.room, self.error, self.sizes = room, error, list[int]()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if len(images) > self.room:
            raise self.error
        self.sizes.append(len(images))
        return images.flatten(1)


ON_A_CPU = "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: 9 bytes"


@pytest.mark.parametrize("error", [torch.OutOfMemoryError(), RuntimeError(ON_A_CPU)], ids=["gpu", "cpu"])
def test_a_batch_without_room_is_halved(error: Exception) -> None:
    images = torch.arange(44.0).reshape(11, 1, 2, 2)
    model = Cramped(3, error)
    assert torch.equal(logits_of(model, images.split(7)), images.flatten(1))
    assert model.sizes == [2, 2, 3, 2, 2]
    with pytest.raises(type(error)):
        logits_of(Cramped(0, error), [images])
    with pytest.raises(RuntimeError, match="another"):  # which a smaller batch does not help
        logits_of(Cramped(3, RuntimeError("another")), [images])


@pytest.mark.parametrize("rows", [0, 3, 10, 40])
def test_parts_are_joined_and_let_go(rows: int) -> None:
    """Those that were kept would keep a C library from joining the blocks around them."""
    seen: list[weakref.ref[torch.Tensor]] = []

    def parts() -> Iterator[torch.Tensor]:
        for size in (4, 1, 3, 2):
            assert not any(part() is not None for part in seen[:-1])
            part = torch.full((size, 2), float(len(seen)))
            seen.append(weakref.ref(part))
            yield part
            del part

    logits = joined(parts(), rows)
    assert logits[:, 0].tolist() == [0] * 4 + [1] + [2] * 3 + [3] * 2
