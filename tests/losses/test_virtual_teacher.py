from __future__ import annotations

import math

import pytest
import torch

from kdrun.errors import KdrunError
from kdrun.losses.cross_entropy import cross_entropy
from kdrun.losses.virtual_teacher import VirtualTeacher, virtual_teacher

LABELS = torch.tensor([0, 3, 1, -1])


def drawn() -> torch.Tensor:
    return torch.randn(4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize(("a", "temperature"), [(0.9, 1.0), (0.99, 20.0), (0.95, 3.0)])
def test_is_the_equation_number_by_number(a: float, temperature: float) -> None:
    logits, expected = drawn(), []
    for row, label in zip(logits.tolist(), LABELS.tolist(), strict=True):
        p = [a if k == label else (1 - a) / 4 for k in range(5)]
        powers = [value ** (1 / temperature) for value in p]
        soft = [value / sum(powers) for value in powers]
        grown = [math.exp(value / temperature) for value in row]
        own = [value / sum(grown) for value in grown]
        terms = [t * math.log(t / s) for t, s in zip(soft, own, strict=True)]
        expected.append(temperature**2 * sum(terms) if label >= 0 else 0.0)
    assert virtual_teacher(logits, LABELS, temperature, a).tolist() == pytest.approx(expected, rel=1e-12)


def test_at_one_it_is_label_smoothing_without_the_teachers_entropy() -> None:
    """Yuan et al.: with T = 1 and a = 1 - e (K - 1) / K the targets are those of label smoothing by e."""
    smoothing, known = 0.1, LABELS >= 0
    a = 1 - smoothing * 4 / 5
    entropy = -(a * math.log(a) + (1 - a) * math.log((1 - a) / 4))
    smoothed = cross_entropy(drawn(), LABELS, smoothing)[known]
    ours = virtual_teacher(drawn(), LABELS, 1.0, a)[known] + entropy
    torch.testing.assert_close(ours, smoothed, rtol=1e-12, atol=1e-12)


def test_zero_for_a_student_that_says_the_same() -> None:
    p = torch.full((1, 5), 0.01 / 4, dtype=torch.float64)
    p[0, 2] = 0.99
    assert virtual_teacher(p.log() + 7, torch.tensor([2]), 20.0, 0.99).abs().max() < 1e-10


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_share_of_nothing_or_all_is_refused(value: float) -> None:
    with pytest.raises(KdrunError, match="true_class"):
        VirtualTeacher(true_class=value)
