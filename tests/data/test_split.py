"""Splits and labels: exact, in proportion, and each a function of its own seeds alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kdrun.data import digits
from kdrun.data.split import labelled, labelled_by_file, shared_out, split
from kdrun.errors import KdrunError

DIGITS = digits.read(Path()).train.labels


def parts(seed=0, train=None, validation=197, test=1000):
    return split(DIGITS, train, validation, test, seed)


def test_digits_split_is_exact_and_in_proportion():
    found = parts()
    assert [len(part) for part in found] == [600, 197, 1000]
    assert torch.cat(list(found)).sort().values.equal(torch.arange(1797))
    for part in found:
        share = DIGITS[part].bincount() - DIGITS.bincount() * len(part) / 1797
        assert share.abs().max() <= 1.5  # a rounding of its own for each part taken before
        assert part.diff().min() > 0


def test_split_means_the_same_images_for_good():
    """A change of these figures silently changes every result with a data set that is split here."""
    found = parts()
    assert found.train[:5].tolist() == [1, 5, 17, 24, 26]
    assert found.validation[:5].tolist() == [3, 4, 8, 11, 31]
    assert labelled(DIGITS[found.train], 6, 0, 0).nonzero().flatten()[:5].tolist() == [9, 10, 12, 20, 22]


def test_split_depends_on_its_seed():
    assert all(a.equal(b) for a, b in zip(parts(seed=1), parts(seed=1), strict=True))
    assert not parts(seed=1).test.equal(parts(seed=2).test)


def test_a_smaller_training_part_moves_nothing():
    small, large = parts(train=100), parts()
    assert small.test.equal(large.test)
    assert small.validation.equal(large.validation)
    assert set(small.train.tolist()) < set(large.train.tolist())
    assert parts(validation=0).test.equal(large.test)


def test_no_held_out_parts_leaves_all_images_in_their_order():
    found = parts(validation=0, test=0)
    assert found.train.equal(torch.arange(1797))
    assert len(found.validation) == len(found.test) == 0


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"test": 1798}, "dataset.test=1798"),
        ({"validation": 798}, "dataset.validation=798: must be between 0 and 797"),
        ({"train": 601}, "dataset.train=601"),
        ({"train": 0}, "dataset.train=0: no image"),
        ({"validation": 797}, "dataset.train: no image"),
    ],
)
def test_too_many_images_are_refused(settings, key):
    with pytest.raises(KdrunError, match=key):
        parts(**settings)


def test_one_class_is_refused():
    with pytest.raises(KdrunError, match="of one class"):
        split(torch.zeros(10, dtype=torch.int64), None, 0, 0, 0)


def test_images_without_a_label_only_train():
    labels = DIGITS.where(torch.arange(1797) % 2 == 0, -1)
    found = split(labels, None, 100, 200, 0)
    assert labels[found.test].min() >= 0
    assert labels[found.validation].min() >= 0
    assert int((labels[found.train] < 0).sum()) == 898
    shown = labelled(labels[found.train], 3, 0, 0)
    assert int(shown.sum()) == 30
    assert labels[found.train][shown].min() >= 0


@pytest.mark.parametrize(
    ("sizes", "count", "shares"),
    [
        ([10, 10], 5, [3, 2]),
        ([1, 99], 10, [0, 10]),
        ([3, 3, 3], 9, [3, 3, 3]),
        ([], 0, []),
        ([5, 0], 2, [2, 0]),
    ],
)
def test_shares_by_largest_remainder(sizes, count, shares):
    assert shared_out(sizes, count) == shares


def test_labels_per_class_are_exact_and_nested():
    train = DIGITS[parts().train]
    six, ten = (labelled(train, n, 0, 0) for n in (6, 10))
    assert train[six].bincount().tolist() == [6] * 10
    assert train[ten].bincount().tolist() == [10] * 10
    assert (six & ten).equal(six)


def test_a_fraction_is_stratified():
    train = DIGITS[parts().train]
    shown = labelled(train, 0.25, 0, 0)
    assert int(shown.sum()) == 150
    assert (train[shown].bincount() - train.bincount() / 4).abs().max() < 1
    assert labelled(train, 1.0, 0, 0).all()
    assert labelled(train, None, 0, 0).all()


def test_labels_depend_on_split_and_label_seed_alone():
    train = DIGITS[parts().train]
    assert labelled(train, 6, 0, 0).equal(labelled(train, 6, 0, 0))
    draws = [labelled(train, 6, s, n) for s in (0, 1) for n in (0, 1)]
    assert all(not a.equal(b) for i, a in enumerate(draws) for b in draws[:i])


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        (100, r"dataset.labelled=100: class \d has (59|60|61) training images, fewer than 100"),
    ],
)
def test_labels_out_of_range_are_refused(setting, problem):
    with pytest.raises(KdrunError, match=problem):
        labelled(DIGITS[parts().train], setting, 0, 0)


def test_an_index_file_counts_the_sources_images(tmp_path):
    found = parts()
    rows = found.train[[5, 0, 77]]
    file = tmp_path / "rows.txt"
    file.write_text("\n".join(map(str, rows.tolist())) + "\n\n")
    assert found.train[labelled_by_file(file, found, 1797)].equal(rows.sort().values)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{train}\n{test}\n", r"index \d+ \(number 2\) is not in the training part: it is held out"),
        ("1797\n", "there are images 0 to 1796"),
        ("-1\n", "there are images 0 to 1796"),
        ("{train}\n{train}\n", "more than once"),
        ("1.5\n", "one whole number per line"),
        ("one\n", "one whole number per line"),
        ("\n", "the file is empty"),
        (None, "cannot be read as text"),
    ],
)
def test_a_wrong_index_file_is_refused(tmp_path, text, problem):
    found = parts()
    file = tmp_path / "rows.txt"
    if text is not None:
        file.write_text(text.format(train=int(found.train[0]), test=int(found.test[0])))
    with pytest.raises(KdrunError, match=rf"^dataset\.labelled=.*rows\.txt: .*{problem}"):
        labelled_by_file(file, found, 1797)
