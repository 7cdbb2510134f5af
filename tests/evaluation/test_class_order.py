"""Heads that guess and classes in another order are told from teachers that are merely bad."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kdrun.evaluation.class_order import relabelling, standing


def answers(labels: Tensor, right: float, classes: int, seed: int = 0) -> Tensor:
    """Logits that have that share of the images right and guess the others."""
    draw = torch.Generator().manual_seed(seed)
    said = torch.where(
        torch.rand(len(labels), generator=draw) < right,
        labels,
        torch.randint(classes, (len(labels),), generator=draw),
    )
    return torch.nn.functional.one_hot(said, classes).float()


LABELS = torch.arange(400) % 10


@pytest.mark.parametrize("right", [1.0, 0.8, 0.4, 0.25])
def test_who_is_better_than_chance_is_left_alone(right: float) -> None:
    found = standing(answers(LABELS, right, 10), LABELS)
    assert found is not None and not found.permuted and not found.guesses
    assert found.exchanged == tuple(range(10)) or right < 0.5


@pytest.mark.parametrize("seed", range(20))
def test_who_guesses_is_called_a_guesser_and_not_permuted(seed: int) -> None:
    found = standing(answers(LABELS, 0.0, 10, seed), LABELS)
    assert found is not None and found.guesses and not found.permuted


@pytest.mark.parametrize("seed", range(20))
def test_a_random_head_on_good_features_is_no_other_order(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    features = torch.eye(10).repeat(20, 1) + 0.2 * torch.randn(200, 10, generator=draw)
    found = standing(features @ torch.randn(10, 10, generator=draw), torch.arange(200) % 10)
    assert found is not None and not (found.permuted and found.relabelled < 50)
    assert found.guesses or found.permuted or found.top1 > 25


def test_one_answer_to_everything_is_guessing_also_where_classes_differ_in_size() -> None:
    labels = torch.cat([torch.zeros(300), torch.ones(100)]).long()
    found = standing(torch.tensor([[1.0, 0.0]]).repeat(400, 1), labels)
    assert (
        found is not None and (found.top1, found.guess) == (75, 75) and found.guesses and not found.permuted
    )


@pytest.mark.parametrize("right", [1.0, 0.6])
def test_another_order_of_the_classes_is_found(right: float) -> None:
    order = torch.randperm(10, generator=torch.Generator().manual_seed(1))
    logits = answers(LABELS, right, 10)[:, order]  # answer j now means class order[j]
    found = standing(logits, LABELS)
    assert found is not None and found.permuted
    assert found.exchanged == tuple(order.tolist())
    assert found.relabelled == pytest.approx(standing(answers(LABELS, right, 10), LABELS).top1)  # type: ignore[union-attr]


def test_two_classes_exchanged_of_four() -> None:
    labels = torch.arange(200) % 4
    found = standing(answers(labels, 1.0, 4)[:, [1, 0, 2, 3]], labels)
    assert found is not None and found.permuted and found.top1 == 50 and found.relabelled == 100


def test_unlabelled_images_do_not_count() -> None:
    labels = torch.where(torch.arange(400) < 200, LABELS, -1)
    found = standing(answers(LABELS, 1.0, 10), labels)
    assert found is not None and found.n == 200 and found.top1 == 100
    assert standing(answers(LABELS, 1.0, 10), torch.full((400,), -1)) is None


def test_a_relabelling_is_one_to_one_and_ties_keep_their_classes() -> None:
    assert relabelling(torch.tensor([[0, 5, 0], [0, 4, 0], [0, 0, 0]])) == ((1, 0, 2), 5)
    assert relabelling(torch.tensor([[2, 2], [2, 2]])) == ((0, 1), 4)
