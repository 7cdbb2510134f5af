"""Several answers as one, in float64, against plain probabilities."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kdrun.training.combine import Combination, combine
from kdrun.types import MISSING

ALL = torch.ones(2, 4, dtype=torch.bool)
HALVES = torch.tensor([[True, True, False, False], [False, False, True, True]])
SHARES = torch.tensor([1.0, 3.0], dtype=torch.float64)
UNKNOWN = torch.full((6,), -1)


def drawn(knows: Tensor = ALL) -> Tensor:
    """(2, 6, 4) logits of two teachers for six images."""
    draw = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(2, 6, 4, generator=draw, dtype=torch.float64)
    return logits.where(knows[:, None], torch.tensor(MISSING, dtype=torch.float64))


def test_means_with_fixed_weights() -> None:
    logits = drawn()
    mean = combine(logits, ALL, SHARES, Combination(), UNKNOWN)
    plain = 0.25 * logits[0].softmax(1) + 0.75 * logits[1].softmax(1)
    torch.testing.assert_close(mean.logits.exp(), plain, rtol=1e-12, atol=0)
    assert mean.counts is None
    of_logits = combine(logits, ALL, SHARES, Combination("mean_logits"), UNKNOWN).logits
    torch.testing.assert_close(of_logits, 0.25 * logits[0] + 0.75 * logits[1], rtol=1e-12, atol=0)


@pytest.mark.parametrize("weights", ["confidence", "entropy", "energy", "most_confident"])
def test_weights_of_each_image(weights: str) -> None:
    logits = drawn()
    shares = logits.softmax(2)
    sure = {
        "confidence": shares.amax(2),
        "entropy": 1 + (shares * shares.log()).sum(2) / torch.tensor(4.0, dtype=torch.float64).log(),
        "energy": logits.exp().sum(2),
        "most_confident": (shares.amax(2) == shares.amax(2).amax(0)).double(),
    }[weights]
    own = SHARES[:, None] * sure
    expected = ((own / own.sum(0))[..., None] * shares).sum(0)
    given = combine(logits, ALL, SHARES, Combination(weights=weights), UNKNOWN).logits
    torch.testing.assert_close(given.exp(), expected, rtol=1e-10, atol=1e-14)


def test_energy_is_one_softmax_over_all_classes_of_all_teachers() -> None:
    logits, equal = drawn(HALVES), torch.ones(2, dtype=torch.float64)
    given = combine(logits, HALVES, equal, Combination(weights="energy"), UNKNOWN).logits
    side_by_side = torch.cat([logits[0, :, :2], logits[1, :, 2:]], 1)
    torch.testing.assert_close(given.exp(), side_by_side.softmax(1), rtol=1e-10, atol=1e-14)


def test_the_known_domain_decides_alone_even_against_a_teacher_that_is_sure_and_wrong() -> None:
    logits, labels = drawn(HALVES), torch.tensor([0, 1, 2, 3, -1, 0])
    logits[1, :, 2] = 50.0  # the second teacher is sure of everything
    given = combine(logits, HALVES, SHARES, Combination(weights="known"), labels)
    own = torch.tensor([0, 0, 1, 1])
    torch.testing.assert_close(
        given.logits[:4].exp(), logits[own, torch.arange(4)].softmax(1), rtol=1e-12, atol=1e-300
    )
    assert given.counts is not None and given.counts.tolist() == [True] * 4 + [False, True]
    sure = combine(logits, HALVES, SHARES, Combination(weights="most_confident"), labels)
    assert (sure.logits.argmax(1) == 2).all()


def test_a_class_that_two_teachers_know_has_the_mass_of_both() -> None:
    knows = torch.tensor([[True, True, True, False], [False, True, True, True]])
    logits, labels = drawn(knows), torch.tensor([0, 1, 2, 3, 3, 0])
    given = combine(logits, knows, SHARES, Combination(weights="known"), labels).logits.exp()
    torch.testing.assert_close(given[0], logits[0, 0].softmax(0), rtol=1e-12, atol=1e-300)
    both = 0.25 * logits[0, 1].softmax(0) + 0.75 * logits[1, 1].softmax(0)
    torch.testing.assert_close(given[1], both, rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("weights", ["confidence", "most_confident", "entropy", "energy"])
def test_an_image_of_which_no_teacher_is_sure_has_no_answer(weights: str) -> None:
    logits = drawn()
    logits[:, 0] = 0.0
    logits[0, 1] = torch.tensor([9.0, 0, 0, 0], dtype=torch.float64)
    least = 5.0 if weights == "energy" else 0.9
    counts = combine(logits, ALL, SHARES, Combination(weights=weights, least=least), UNKNOWN).counts
    assert counts is not None and not counts[0] and counts[1]


@pytest.mark.parametrize("weights", ["confidence", "most_confident", "entropy", "energy"])
@pytest.mark.parametrize("knows", [ALL, HALVES])
def test_no_label_is_read_and_extremes_are_finite(weights: str, knows: Tensor) -> None:
    how = Combination(weights=weights)
    for scale in (0.0, 1.0, 1e4):
        logits = (scale * drawn(ALL)).float().where(knows[:, None], torch.tensor(MISSING))
        given = combine(logits, knows, SHARES.float(), how, UNKNOWN)
        assert given.logits.isfinite().all() and given.logits.min() >= MISSING
        spoilt = combine(logits, knows, SHARES.float(), how, torch.randint(0, 4, (6,)))
        assert torch.equal(given.logits, spoilt.logits)
