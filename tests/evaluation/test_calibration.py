from __future__ import annotations

import math

import pytest
import torch

from kdrun.evaluation.calibration import TEMPERATURES, ece, figures, fit_temperature, nll
from tests.evaluation.subjects import drawn, subject


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
        fit_temperature(torch.empty(0, 3), torch.empty(0, dtype=torch.int64))


def test_the_temperature_is_fitted_on_validation_and_used_on_test() -> None:
    logits, labels = drawn(4000, 5)
    logits = 3 * logits
    every = list(figures(subject(labels, validation=2000, student=logits)))
    on_validation, on_test = (
        {figure.name: figure.value for figure in every if figure.part == part}
        for part in ("validation", "test")
    )
    assert list(on_validation) == ["nll", "ece"]
    assert list(on_test) == ["nll", "ece", "temperature", "ece_calibrated"]
    fitted = fit_temperature(logits[:2000], labels[:2000])
    assert on_test["temperature"] == fitted
    assert on_test["ece_calibrated"] == ece(logits[2000:].double() / fitted, labels[2000:])
    assert on_test["ece_calibrated"] < on_test["ece"]


def test_without_validation_there_is_no_temperature() -> None:
    logits, labels = drawn(50, 6)
    assert [figure.name for figure in figures(subject(labels, student=logits))] == ["nll", "ece"]


def test_unlabelled_images_are_left_out() -> None:
    logits, labels = drawn(60, 6)
    hidden = torch.where(torch.arange(60) % 3 == 0, -1, labels)
    keep = hidden >= 0
    some, all_known = subject(hidden, student=logits), subject(labels[keep], student=logits[keep])
    assert [figure.value for figure in figures(some)] == [figure.value for figure in figures(all_known)]
    assert list(figures(subject(torch.full((60,), -1), validation=20, student=logits))) == []
