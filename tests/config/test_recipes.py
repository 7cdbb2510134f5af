"""Which recipe `auto` takes, and which of its numbers a model gets."""

from __future__ import annotations

from typing import Any

import pytest

from kdrun.config.recipes import resolve
from kdrun.errors import KdrunError

FILES: dict[str, Any] = {
    name: {
        role: {
            "name": name,
            "epochs": epochs,
            "batch": 8,
            "optimiser": "sgd",
            "lr": {"mlp": 0.5, "default": 0.1},
        }
        for role in ("teacher", "student")
    }
    for name, epochs in (("quick", 3), ("crd", 240))
}
SAYS_NOTHING = {"name": "auto", "epochs": None, "batch": None, "optimiser": None, "lr": None}


def read(name: str, key: str) -> Any:
    if name not in FILES:
        raise KdrunError(key, name, "no such recipe")
    return FILES[name]


def resolved(
    family: str = "mlp", dataset: str | None = None, student: dict[str, Any] = SAYS_NOTHING
) -> dict[str, Any]:
    models = {"teacher": {"name": "t", "family": "wrn"}, "student": {"name": "s", "family": family}}
    return resolve({"teacher": SAYS_NOTHING, "student": student}, {"recipe": dataset}, models, read)


@pytest.mark.parametrize(
    ("family", "name"),
    [
        ("wrn", "crd"),
        ("cifar_resnet", "crd"),
        ("cifar_vgg", "crd"),
        ("mlp", "quick"),
        ("torchvision", "quick"),
    ],
)
def test_auto_goes_by_family(family: str, name: str) -> None:
    found = resolved(family)
    assert found["student"]["name"] == name
    assert found["teacher"]["name"] == "crd"
    assert found["reasons"] == {"teacher": "by model family", "student": "by model family"}


def test_the_data_set_comes_before_the_family() -> None:
    found = resolved("wrn", dataset="quick")
    assert (found["student"]["name"], found["student"]["epochs"]) == ("quick", 3)
    assert found["reasons"]["student"] == "by data set"


def test_what_was_typed_beats_what_auto_took() -> None:
    found = resolved(student=SAYS_NOTHING | {"epochs": 5})
    assert found["student"] == {"name": "quick", "epochs": 5, "batch": 8, "optimiser": "sgd", "lr": 0.5}
    assert found["teacher"]["epochs"] == 240


def test_a_named_recipe_is_taken_as_it_is_and_without_a_reason() -> None:
    found = resolved(student=FILES["crd"]["student"])
    assert (found["student"]["name"], found["student"]["lr"]) == ("crd", 0.5)
    assert "student" not in found["reasons"]


@pytest.mark.parametrize(
    ("mapping", "expected"),
    [({"s": 1, "mlp": 2, "default": 3}, 1), ({"mlp": 2, "default": 3}, 2), ({"default": 3}, 3)],
)
def test_a_number_for_the_model_before_its_family_before_the_default(
    mapping: dict[str, int], expected: int
) -> None:
    assert resolved(student=SAYS_NOTHING | {"epochs": mapping})["student"]["epochs"] == expected


def test_a_mapping_without_this_model_is_named() -> None:
    with pytest.raises(
        KdrunError, match=r"recipe\.student\.lr: has no number for model s, its family mlp, nor a default"
    ):
        resolved(student=SAYS_NOTHING | {"lr": {"vgg": 1.0}})


def test_a_recipe_that_leaves_out_a_number_is_named() -> None:
    with pytest.raises(KdrunError, match=r"recipe\.student\.epochs: recipe mine does not say it"):
        resolved(student={"name": "mine", "batch": 1, "optimiser": "sgd", "lr": 1})


def test_a_data_set_that_names_no_recipe_is_named() -> None:
    with pytest.raises(KdrunError, match=r"dataset\.recipe=nosuch"):
        resolved(dataset="nosuch")
