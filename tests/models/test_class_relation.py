"""Class relations: by name, in any order, many to one, and what is not declared is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch

from kdrun.errors import KdrunError
from kdrun.models.class_relation import Related, Relation, relation
from kdrun.types import MISSING

OURS = ("cat", "dog", "apple", "pear")


def logits(classes: int) -> torch.Tensor:
    return torch.randn(7, classes, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_permuted_names_are_put_in_order() -> None:
    theirs = ("pear", "cat", "apple", "dog")
    own = logits(4)
    found = relation(theirs, OURS, "teacher")
    assert found == Relation((3, 0, 2, 1), 4) and found.whole and not found.same
    mapped = Related(found)(own)
    for place, name in enumerate(theirs):
        assert torch.equal(mapped[:, OURS.index(name)], own[:, place])


def test_same_classes_change_nothing() -> None:
    own, found = logits(4), relation(OURS, OURS, "teacher")
    assert found.same and Related(found)(own) is own


def test_a_subset_leaves_the_other_classes_without_probability() -> None:
    found = relation(("dog", "cat"), OURS, "teacher", subset=True)
    own = logits(2)
    mapped = Related(found)(own)
    assert found.known == (0, 1) and (mapped[:, 2:] == MISSING).all()
    assert torch.equal(mapped.softmax(1)[:, [1, 0]], own.softmax(1)) and (mapped.softmax(1)[:, 2:] == 0).all()


def test_classes_that_mean_one_of_ours_add_up_and_the_others_are_left_out() -> None:
    theirs = ("tabby", "horse", "siamese", "dog", "pear")
    found = relation(theirs, OURS, "teacher", {"tabby": "cat", "siamese": "cat"})
    own = logits(5)
    shares = own.softmax(1)
    kept = torch.stack([shares[:, 0] + shares[:, 2], shares[:, 3], torch.zeros(7), shares[:, 4]], 1)
    expected = kept / kept.sum(1, keepdim=True)  # the mass of the horse goes to the others in proportion
    torch.testing.assert_close(Related(found)(own).softmax(1), expected, rtol=1e-12, atol=1e-15)


def test_extreme_logits_stay_finite() -> None:
    found = relation(("a", "b", "dog"), OURS, "teacher", {"a": "cat", "b": "cat"})
    mapped = Related(found)(torch.tensor([[3e4, 3e4, -3e4], [-3e4, -3e4, 3e4]]))
    assert mapped.isfinite().all()
    torch.testing.assert_close(mapped[:, 0], torch.tensor([3e4, -3e4]) + torch.tensor(2.0).log())


@pytest.mark.parametrize(
    ("theirs", "more", "message"),
    [
        (("cat", "dog", "apple"), {}, "it does not know pear. If that is meant"),
        ((*OURS, "horse"), {}, "it has horse, which the data set has not. If that is meant"),
        (("cat", "dgo"), {"subset": True}, "it has dgo, which the data set has not"),
        (OURS, {"class_map": {"hen": "cat"}}, "class_map=hen: the teacher has no such class"),
        (("tabby", "dog"), {"class_map": {"tabby": "cta"}}, "class_map.tabby=cta: the data set has no such"),
        (("x", "y"), {"class_map": {}}, "have no class in common"),
        (("cat", "y"), {"class_map": {}}, r"knows one class of the data set only \(cat\)"),
        (("cat", "cat"), {}, "classes=cat: is there more than once"),
    ],
)
def test_what_is_not_declared_is_refused(
    theirs: tuple[str, ...], more: Mapping[str, Any], message: str
) -> None:
    with pytest.raises(KdrunError, match=message) as caught:
        relation(theirs, OURS, "teachers.a", **more)
    assert str(caught.value).startswith("teachers.a.") and "\n" not in str(caught.value)
