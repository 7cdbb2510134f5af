"""Names of classes in files of weights, and how they differ from those of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from kdrun.models.class_names import differences, moved, renamed, stated_classes
from kdrun.models.weights import save_weights

WEIGHTS = {"head.weight": torch.zeros(2, 3)}


@pytest.mark.parametrize(
    "beside",
    [
        {"classes": ["cat", "größe"]},
        {"class_names": ("cat", "größe")},
        {"class_to_idx": {"größe": 1, "cat": 0}},
        {"idx_to_class": {1: "größe", 0: "cat"}},
        {"hyper_parameters": {"lr": 0.1, "id2label": {"0": "cat", "1": "größe"}}},
    ],
)
def test_torch_files_state_classes_in_usual_places(tmp_path: Path, beside: dict[str, Any]) -> None:
    torch.save({"state_dict": WEIGHTS, **beside}, tmp_path / "w.pth")
    assert stated_classes(tmp_path / "w.pth") == ("cat", "größe")


def test_our_own_and_other_safetensors_state_classes(tmp_path: Path) -> None:
    save_weights(tmp_path / "own.safetensors", WEIGHTS, {"classes": ["cat", "größe"]})
    assert stated_classes(tmp_path / "own.safetensors") == ("cat", "größe")
    save_file(WEIGHTS, tmp_path / "w.safetensors", {"class_to_idx": '{"größe": 1, "cat": 0}', "note": "cat"})
    assert stated_classes(tmp_path / "w.safetensors") == ("cat", "größe")


@pytest.mark.parametrize("beside", [{}, {"classes": 10}, {"classes": [1, 2]}, {"class_to_idx": {"cat": 1}}])
def test_files_that_name_no_classes_state_none(tmp_path: Path, beside: dict[str, Any]) -> None:
    torch.save({"state_dict": WEIGHTS, **beside}, tmp_path / "w.pth")
    assert stated_classes(tmp_path / "w.pth") == ()
    torch.save(WEIGHTS, tmp_path / "plain.pth")
    assert stated_classes(tmp_path / "plain.pth") == ()
    (tmp_path / "none.safetensors").write_bytes(b"no such file")
    assert stated_classes(tmp_path / "none.safetensors") == stated_classes(tmp_path / "absent.pth") == ()


HERE = ("ant", "cat", "dog")


@pytest.mark.parametrize(
    ("stated", "is_moved", "said"),
    [
        (("ant", "dog", "cat"), True, "in another order: class 1 is dog there and cat here, class 2"),
        (("cat", "dog", "fox"), True, "other ones (it has fox, the data set ant): class 0 is cat there"),
        (("emmet", "cat", "dog"), False, "other ones (it has emmet, the data set ant): class 0 is emmet"),
        (("Ant", " cat", "dog"), False, ""),
        ((), False, ""),
        (HERE, False, ""),
    ],
)
def test_renamed_missing_and_exchanged_classes_are_named(
    stated: tuple[str, ...], is_moved: bool, said: str
) -> None:
    assert moved(stated, HERE) == is_moved
    assert said in differences(stated, HERE) and bool(differences(stated, HERE)) == bool(said)


def test_names_that_occur_twice_are_not_moved() -> None:
    """As ImageNet's crane and maillot."""
    assert not moved(("crane", "dog", "crane"), ("crane", "dog", "crane"))


def test_few_of_many_classes_are_named() -> None:
    stated, here = [f"a{i}" for i in range(1000)], [f"b{i}" for i in range(1000)]
    assert differences(stated, here).endswith("class 2 is a2 there and b2 here, and 997 more")
    assert len(differences(stated, here)) < 200


NUMBERED = [f"class {n}" for n in range(3)]


@pytest.mark.parametrize(
    ("stated", "pairs"),
    [
        (("emmet", "cat", "dog"), [("emmet", "ant")]),
        (("car", "lorry", "bus"), [("car", "ant"), ("lorry", "cat"), ("bus", "dog")]),
        (("Ant", "cat", "dog"), []),
        (("7", "8", "9"), [("7", "ant"), ("8", "cat"), ("9", "dog")]),
        (("LABEL_0", "LABEL_1", "dog"), [("LABEL_0", "ant"), ("LABEL_1", "cat")]),
        ((), []),
        (("cat", "dog"), []),
        *(
            (names, [])
            for names in (NUMBERED, ["0", "1", "2"], ["01", "02", "03"], ["LABEL_0", "LABEL_1", "LABEL_2"])
        ),
    ],
)
def test_classes_are_others_if_both_have_names(stated: Sequence[str], pairs: list[tuple[str, str]]) -> None:
    assert renamed(stated, HERE) == pairs
    assert renamed(HERE, stated) == [pair[::-1] for pair in pairs]
