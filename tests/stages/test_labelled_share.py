"""Batches with a share of labelled images: what is planned, kept apart, and trained."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kdrun.models.weights import read_weights
from kdrun.plan.plan import Plan, make_plan
from tests.config.composed import composed
from tests.stages.runs import SHORT, play

HALF = "recipe.labelled_share=0.5"


def made(line: str = "") -> Plan:
    return make_plan(composed(line).run)


def test_it_is_in_the_key_of_the_student_that_uses_it_alone() -> None:
    plain, half = made(), made(HALF)
    assert half.student.key == {**plain.student.key, "labelled_share": 0.5}
    assert half.control is not None and plain.control is not None
    assert half.control.fingerprint == plain.control.fingerprint
    assert half.teacher.fingerprint == plain.teacher.fingerprint
    for unused in ("dataset=digits", "transfer=labelled", "alpha=0"):
        assert made(f"{unused} {HALF}").student.fingerprint == made(unused).student.fingerprint
    rows = half.student.row_set()
    assert rows.shares is not None and rows.shares.count(32) == 16
    assert rows.steps == half.control.row_set().steps == plain.student.row_set().steps


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The students' weights by what their run was. `killed` is killed twice, and continued."""
    root = tmp_path_factory.mktemp("shares")
    common = [*SHORT, "stages=[teacher,student]", "checkpoint.seconds=0"]
    asked = {
        "half": [HALF], "killed": [HALF],
        "nothing but labels": ["recipe.labelled_share=1", "alpha=1e-6"],
        "labelled": ["transfer=labelled", "alpha=1e-6"],
    }  # fmt: skip
    bombs: dict[str, list[Any]] = {"killed": [["step", 60], ["wrote", "state.pt", 1], None]}
    plan = [
        {"args": [*common, *more, f"outputs_dir={root / name}"], "bomb": bomb}
        for name, more in asked.items()
        for bomb in bombs.get(name, [None])
    ]
    statuses = play(plan)
    assert statuses[0] == statuses[3] == 0 and statuses[1:3] == [-9, -9]
    assert statuses[4:] == [0, 0]
    weights = {name: read_weights(next((root / name).glob("runs/*/last.safetensors"))) for name in asked}
    control = next((root / "labelled").glob("models/control-*/last.safetensors"))
    return weights | {"control": read_weights(control)}


def test_killed_and_continued_it_ends_with_the_same_bits(trained: dict[str, dict[str, Any]]) -> None:
    assert all(torch.equal(trained["half"][name], trained["killed"][name]) for name in trained["half"])


def test_batches_of_labelled_images_alone_lead_to_the_control_as_alpha_goes_to_0(
    trained: dict[str, dict[str, Any]],
) -> None:
    """Share 1 has the rows of `transfer=labelled`, so the same bits; what is left of alpha is small."""
    one, other, control = (trained[name] for name in ("nothing but labels", "labelled", "control"))
    for name, value in control.items():
        assert torch.equal(one[name], other[name])
        assert torch.allclose(one[name], value, atol=1e-3), name
        assert not torch.equal(trained["half"][name], value)
