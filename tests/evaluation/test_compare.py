from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from kdrun.evaluation.compare import (
    Pairs,
    against_control,
    against_reference,
    bounds,
    gain,
    gain_change,
    gain_interval,
    mcnemar_p,
    pairs,
    verdict,
)
from kdrun.evaluation.counts import as_good
from tests.evaluation.subjects import one_hot


def test_pairs_count_the_discordant_images() -> None:
    labels = torch.tensor([0, 1, 2, 0, -1])
    first, second = one_hot([0, 1, 0, 1, 0]), one_hot([0, 0, 2, 1, 2])
    assert pairs(first, second, labels) == Pairs(4, 1, 1)
    assert gain(Pairs(200, 7, 4)) == 1.5


@pytest.mark.parametrize(
    ("counts", "low", "high"),
    [  # Tango 1998: the limits are the roots of the score equation (checked against a grid below)
        (Pairs(1000, 60, 30), 1.165, 4.925),
        (Pairs(50, 1, 0), -5.277, 10.495),
    ],
)
def test_interval_values(counts: Pairs, low: float, high: float) -> None:
    assert gain_interval(counts) == pytest.approx((low, high), abs=1e-3)


def test_interval_without_discordant_images_by_hand() -> None:
    """With none discordant the score limits are +- z^2 / (n + z^2)."""
    z2 = 1.959963984540054**2
    expected = 100 * z2 / (1000 + z2)
    assert gain_interval(Pairs(1000, 0, 0)) == pytest.approx((-expected, expected), abs=1e-9)


def likelihood_score(counts: Pairs, difference: float) -> float:
    """Tango's test from its definition: the discordance is the most likely one, found on a grid, under the
    given difference."""
    n, b, c = counts
    best, chance = -math.inf, 0.0
    steps = 40_000
    for i in range(1, steps):
        second = i / steps
        first = second + difference
        rest = 1 - first - second
        if first <= 0 or rest <= 0:
            continue
        value = b * math.log(first) + c * math.log(second) + (n - b - c) * math.log(rest)
        if value > best:
            best, chance = value, second
    return (b - c - n * difference) / math.sqrt(n * (2 * chance + difference * (1 - difference)))


@pytest.mark.parametrize("counts", [Pairs(100, 12, 5), Pairs(40, 3, 9)])
def test_interval_ends_where_the_score_test_turns(counts: Pairs) -> None:
    low, high = gain_interval(counts)
    assert likelihood_score(counts, low / 100) == pytest.approx(1.96, abs=0.01)
    assert likelihood_score(counts, high / 100) == pytest.approx(-1.96, abs=0.01)


def test_interval_turns_with_the_models() -> None:
    low, high = gain_interval(Pairs(300, 31, 12))
    assert gain_interval(Pairs(300, 12, 31)) == pytest.approx((-high, -low), abs=1e-9)


@pytest.mark.parametrize("counts", [Pairs(10, 10, 0), Pairs(10, 0, 10), Pairs(1, 0, 0), Pairs(1, 1, 0)])
def test_interval_of_extremes_holds_the_gain_and_stays_in_range(counts: Pairs) -> None:
    low, high = gain_interval(counts)
    assert -100 <= low <= gain(counts) <= high <= 100
    assert low < high


@pytest.mark.parametrize(
    ("first", "second"), [(0.06, 0.02), (0.02, 0.02), (0.005, 0.001)], ids=["apart", "equal", "rare"]
)
def test_interval_covers_the_true_difference(first: float, second: float) -> None:
    """2,000 simulated test parts of 400 images: about 95 % of the intervals hold the true difference, more
    where only two images in a test part are discordant."""
    generator = torch.Generator().manual_seed(7)
    chances = torch.tensor([first, second, 1 - first - second])
    kinds = torch.multinomial(chances, 2000 * 400, replacement=True, generator=generator).reshape(2000, 400)
    drawn = torch.stack([(kinds == 0).sum(1), (kinds == 1).sum(1)], 1).tolist()
    known = {(b, c): gain_interval(Pairs(400, b, c)) for b, c in {(b, c) for b, c in drawn}}
    held = sum(known[b, c][0] <= 100 * (first - second) <= known[b, c][1] for b, c in drawn) / 2000
    assert 0.93 <= held <= (0.97 if first > 0.01 else 1.0)


def test_mcnemar_by_summing_binomials() -> None:
    for b, c in [(4, 0), (1, 4), (10, 25), (26, 24), (0, 1)]:
        n = b + c
        chance = [math.comb(n, i) / 2**n for i in range(n + 1)]
        as_far = sum(p for i, p in enumerate(chance) if abs(i - n / 2) > abs(b - n / 2))
        as_seen = sum(p for i, p in enumerate(chance) if abs(i - n / 2) == abs(b - n / 2))
        assert mcnemar_p(Pairs(100, b, c)) == pytest.approx(as_far + as_seen / 2)


def test_mcnemar_by_hand() -> None:
    assert mcnemar_p(Pairs(9, 0, 0)) == 1.0
    assert mcnemar_p(Pairs(9, 3, 3)) == 1.0
    assert mcnemar_p(Pairs(9, 4, 0)) == 1 / 16
    assert mcnemar_p(Pairs(9, 0, 4)) == 1 / 16
    assert mcnemar_p(Pairs(9, 5, 0)) == 1 / 32


def test_mcnemar_of_large_parts_does_not_underflow() -> None:
    p = mcnemar_p(Pairs(50_000, 2600, 2400))
    # The normal approximation: z = 200 / sqrt(5000).
    assert p == pytest.approx(math.erfc(200 / math.sqrt(5000) / math.sqrt(2)), rel=0.01)


def test_mcnemar_falls_as_the_difference_grows() -> None:
    values = [mcnemar_p(Pairs(100, 20 + i, 20 - i)) for i in range(1, 20)]
    assert all(later < earlier for earlier, later in pairwise(values))


def test_verdict_needs_interval_and_p() -> None:
    assert verdict((0.1, 3.0), 0.01) == "better"
    assert verdict((-3.0, -0.1), 0.01) == "worse"
    assert verdict((-0.1, 3.0), 0.01) == "no measurable difference"
    assert verdict((0.1, 3.0), 0.06) == "no measurable difference"
    assert verdict((0.0, 3.0), 0.04) == "no measurable difference"


def test_four_to_nothing_is_not_yet_a_gain() -> None:
    counts = Pairs(1000, 4, 0)
    assert gain_interval(counts)[0] > 0
    assert verdict(gain_interval(counts), mcnemar_p(counts)) == "no measurable difference"


def test_against_a_control() -> None:
    labels = torch.zeros(40, dtype=torch.int64)
    figures = against_control(one_hot([0] * 40), one_hot([0] * 20 + [1] * 20), labels)
    assert list(figures) == ["gain_top1", "gain_interval", "mcnemar_p", "verdict"]
    assert figures["gain_top1"] == 50.0 and figures["verdict"] == "better"


def test_without_a_labelled_image_nothing_is_compared() -> None:
    logits = one_hot([0] * 4)
    assert against_control(logits, logits, torch.full((4,), -1)) == {}


def test_the_same_model_twice_is_no_measurable_difference() -> None:
    logits = torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
    values = against_control(logits, logits, torch.zeros(100, dtype=torch.int64))
    assert (values["gain_top1"], values["mcnemar_p"]) == (0.0, 1.0)
    assert values["verdict"] == "no measurable difference"


@pytest.mark.parametrize("counts", [Pairs(100, 12, 5), Pairs(40, 3, 9)])
def test_bounds_of_one_side_lie_where_the_score_test_turns(counts: Pairs) -> None:
    low, high = bounds(counts)
    assert likelihood_score(counts, low / 100) == pytest.approx(1.645, abs=0.01)
    assert likelihood_score(counts, high / 100) == pytest.approx(-1.645, abs=0.01)


def test_bounds_without_discordant_images_by_hand() -> None:
    """As of the interval, with the 95 % point of one side: +- z^2 / (n + z^2)."""
    z2 = 1.6448536269514722**2
    assert bounds(Pairs(500, 0, 0)) == pytest.approx((-100 * z2 / (500 + z2), 100 * z2 / (500 + z2)))


def test_bounds_approach_the_normal_ones_of_many_images() -> None:
    """gain -+ z sqrt(b + c - (b - c)^2 / n) / n, by scipy."""
    norm = pytest.importorskip("scipy.stats").norm
    n, b, c = 1_000_000, 31_000, 33_000
    half = norm.ppf(0.95) * math.sqrt(b + c - (b - c) ** 2 / n) / n
    expected = [100 * ((b - c) / n - half), 100 * ((b - c) / n + half)]
    assert bounds(Pairs(n, b, c)) == pytest.approx(expected, abs=1e-4)


def test_a_model_at_the_margin_is_called_as_good_once_in_twenty() -> None:
    """2,000 simulated test parts of 1,000 images, true difference -2 points: the lower bound is above -2 in
    about 5 %."""
    generator = torch.Generator().manual_seed(3)
    chances = torch.tensor([0.04, 0.06, 0.9])
    kinds = torch.multinomial(chances, 2000 * 1000, replacement=True, generator=generator).reshape(2000, -1)
    drawn = torch.stack([(kinds == 0).sum(1), (kinds == 1).sum(1)], 1).tolist()
    known = {(b, c): bounds(Pairs(1000, b, c))[0] for b, c in {(b, c) for b, c in drawn}}
    assert 0.035 <= sum(known[b, c] > -2 for b, c in drawn) / 2000 <= 0.065


def test_as_good_needs_the_whole_bound_within_the_margin() -> None:
    assert as_good(-0.8, 0.2, 1.0) == "as good"
    assert as_good(-1.0, 0.2, 1.0) == "not shown to be as good"
    assert as_good(-1.6, -0.6, 1.0) == "not shown to be as good"
    assert as_good(-3.1, -1.2, 1.0) == "worse"
    assert as_good(0.1, 0.9, 0.0) == "as good"


def test_against_a_reference() -> None:
    labels = torch.tensor([0] * 400 + [-1] * 5)
    student, reference = one_hot([0] * 398 + [1] * 7), one_hot([0] * 400 + [1] * 5)
    found = against_reference(student, reference, labels, 2.0)
    assert found["difference"] == -0.5 and found["margin"] == 2.0 and found["verdict"] == "as good"
    assert (found["at_least"], found["at_most"]) == bounds(Pairs(400, 0, 2))
    assert against_reference(student, reference, torch.full((405,), -1), 2.0) == {}


def answers(*classes: int) -> torch.Tensor:
    return torch.eye(3)[list(classes)]


def test_the_change_of_a_gain_is_the_mean_of_what_each_image_gives() -> None:
    labels = torch.tensor([0, 0, 0, 0, -1])
    now = (
        answers(0, 0, 1, 0, 0),
        answers(0, 1, 1, 1, 0),
    )  # 0 1 0 1
    before = answers(0, 1, 1, 0, 0), answers(0, 0, 1, 0, 0)  # 0 -1 0 0
    change, (low, high), n = gain_change(now, before, labels)
    assert (change, n) == (75.0, 4)  # 0 2 0 1
    spread = math.sqrt(sum((value - 0.75) ** 2 for value in (0, 2, 0, 1)) / 3)
    assert high - change == pytest.approx(100 * 1.959964 * spread / 2, rel=1e-5)
    assert change - low == pytest.approx(high - change)


def test_the_same_pair_has_not_changed_and_one_image_says_nothing() -> None:
    labels, pair = torch.tensor([0, 1, 2]), (answers(0, 1, 1), answers(0, 0, 2))
    assert gain_change(pair, pair, labels)[:2] == (0.0, (0.0, 0.0))
    with pytest.raises(ValueError, match="two labelled"):
        gain_change((pair[0][:1], pair[1][:1]), (pair[0][:1], pair[1][:1]), labels[:1])
