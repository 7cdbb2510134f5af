from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from kdrun.evaluation.accuracy import (
    TEMPERATURES,
    confusion_matrix,
    correct,
    ece,
    fit_temperature,
    logits_of,
    nll,
    scores,
    top_k,
)

THREE = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 2.0], [0.0, 3.0, 0.0], [1.0, 0.0, 0.5]])
LABELS = torch.tensor([0, 1, 1, 2])  # right, second, right, second


def drawn(n: int, classes: int, seed: int = 0, sharpness: float = 1.5) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits whose softmax is exactly the chance that the label was drawn with."""
    generator = torch.Generator().manual_seed(seed)
    logits = sharpness * torch.randn(n, classes, generator=generator)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    return logits, labels


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


def test_nll_by_hand() -> None:
    logits = torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0]])
    assert nll(logits, torch.tensor([1, 0])) == pytest.approx((math.log(4 / 3) + math.log(2)) / 2, abs=1e-7)


def test_nll_of_extreme_logits_is_finite() -> None:
    assert nll(torch.tensor([[1e4, -1e4]]), torch.tensor([1])) == 2e4


def test_ece_by_hand() -> None:
    # Confidences 0.9, 0.9 (one right) and 0.6 (right): bins 14, 14 and 9 of 15.
    chances = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6]])
    labels = torch.tensor([0, 1, 1])
    expected = 100 * (2 / 3 * abs(0.5 - 0.9) + 1 / 3 * abs(1 - 0.6))
    assert ece(chances.log(), labels) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("classes", [2, 10])
def test_ece_equals_a_loop_over_bins(classes: int) -> None:
    logits, labels = drawn(400, classes)
    logits = 2 * logits
    confidence, answer = logits.double().softmax(1).max(1)
    total = 0.0
    for m in range(15):
        inside = (confidence > m / 15) & (confidence <= (m + 1) / 15)
        if inside.any():
            accuracy = (answer == labels)[inside].double().mean()
            total += inside.double().mean().item() * abs(accuracy - confidence[inside].mean()).item()
    assert ece(logits, labels) == pytest.approx(100 * total, abs=1e-9)


def test_ece_of_certain_and_right_answers_is_zero() -> None:
    assert ece(1e3 * torch.eye(4), torch.arange(4)) == 0.0


@pytest.mark.parametrize("factor", [0.4, 1.0, 3.0])
def test_fitted_temperature_undoes_a_factor(factor: float) -> None:
    logits, labels = drawn(20_000, 5)
    assert fit_temperature(factor * logits, labels) == pytest.approx(factor, rel=0.03)


def test_fitted_temperature_is_a_minimum_and_always_the_same() -> None:
    logits, labels = drawn(300, 4, seed=3)
    best = fit_temperature(2 * logits, labels)
    around = [nll(2 * logits.double() / (best * factor), labels) for factor in (0.99, 1.0, 1.01)]
    assert around[1] == min(around)
    assert best == fit_temperature(2 * logits, labels)


def test_fitted_temperature_stays_in_bounds() -> None:
    low, high = TEMPERATURES
    assert fit_temperature(5 * torch.eye(3), torch.arange(3)) == pytest.approx(low, rel=1e-4)
    assert fit_temperature(5 * torch.eye(3), torch.tensor([1, 2, 0])) == pytest.approx(high, rel=1e-4)
    with pytest.raises(ValueError, match="no labelled image"):
        fit_temperature(torch.eye(3), torch.tensor([-1, -1, -1]))


def test_confusion_matrix_by_hand() -> None:
    labels = torch.tensor([0, 1, 1, -1])
    assert confusion_matrix(THREE, labels).tolist() == [[1, 0, 0], [0, 1, 1], [0, 0, 0]]


def test_scores_hold_only_what_has_a_meaning() -> None:
    assert set(scores(THREE, LABELS)) == {"n", "top1", "nll", "ece"}
    six, labels = drawn(50, 6)
    assert set(scores(six, labels)) == {"n", "top1", "top5", "nll", "ece"}
    assert scores(THREE, torch.full((4,), -1)) == {}


def test_scores_leave_unlabelled_images_out() -> None:
    logits, labels = drawn(50, 6)
    hidden = torch.where(torch.arange(50) % 3 == 0, -1, labels)
    keep = hidden >= 0
    assert scores(logits, hidden) == scores(logits[keep], labels[keep])


def test_scores_with_a_temperature() -> None:
    logits, labels = drawn(2000, 5)
    figures = scores(3 * logits, labels, temperature=3.0)
    assert figures["temperature"] == 3.0
    assert figures["ece_calibrated"] == pytest.approx(ece(logits, labels), abs=1e-4)
    assert figures["ece_calibrated"] < figures["ece"]


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
