"""Runs with several controls: trained, killed and continued, compared, shown."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from kdrun.cli import main
from kdrun.config.choices import CONTROLS
from kdrun.evaluation.compare import against_control
from kdrun.models.weights import read_weights
from kdrun.report.statistics import holm
from kdrun.stages.evaluate import against_controls
from tests.evaluation.test_controls import planted
from tests.stages.runs import SHORT, folders, play, report

ALL = f"control=[{','.join(CONTROLS)}]"
ROLES = ["control", "control_smoothed", "control_teacher_free", "control_self", "control_longer"]
COMMON = (
    *SHORT,
    "threads=1",
    "controls.longer_epochs=3",
    "checkpoint.seconds=0",
    "evaluation.figures=[accuracy]",
)


def weights(outputs: Path) -> dict[str, dict[str, torch.Tensor]]:
    return {name: read_weights(folder / "last.safetensors") for name, folder in folders(outputs).items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs of a run that was killed while `smoothed` and while `self` trained."""
    outputs = tmp_path_factory.mktemp("killed") / "outputs"
    args = [*COMMON, ALL, f"outputs_dir={outputs}"]
    # Each has 38 steps, `longer` has 57, and `self` comes last.
    bombs: list[Any] = [["step", 3 * 38 + 25], ["step", 19 + 38 + 57 + 25], None]
    exits = play([{"args": args, "bomb": bomb} for bomb in bombs])
    assert exits[-1] == 0 and all(exits[:-1]), "each bomb went off"
    return outputs


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs of the same run, which nobody killed."""
    outputs = tmp_path_factory.mktemp("whole") / "outputs"
    assert main([*COMMON, ALL, f"outputs_dir={outputs}"]) == 0
    return outputs


def test_continued_it_has_the_bits_of_the_uninterrupted_run(ran: Path, whole: Path) -> None:
    killed, plain = weights(ran), weights(whole)
    assert list(killed) == ["teacher", "student", *ROLES]
    assert all(same(killed[name], plain[name]) for name in plain)
    assert report(ran)["comparison"] == report(whole)["comparison"]


def test_self_is_what_the_plain_controls_weights_teach(whole: Path, tmp_path: Path) -> None:
    teacher = folders(whole)["control"] / "last.safetensors"
    taught = (
        f"teacher.checkpoint={teacher}",
        "teacher=cnn_digits_small",
        "stages=[student]",
        "control=false",
    )
    assert main([*COMMON, *taught, f"outputs_dir={tmp_path}"]) == 0
    (own,) = tmp_path.glob("runs/*/last.safetensors")
    assert same(read_weights(own), weights(whole)["control_self"])


def test_each_has_its_row_and_the_verdict_says_which_it_is_about(whole: Path) -> None:
    found = report(whole)
    assert list(found["models"]) == ["teacher", "student", *ROLES]
    assert found["models"]["control_longer"]["epochs"] == 3
    scores = {role: found["models"][role]["last"]["validation"]["top1"] for role in ROLES}
    comparison = found["comparison"]
    assert comparison["control"] == max(ROLES, key=lambda role: scores[role])
    assert comparison["chosen_by"] == "validation" and list(comparison["controls"]) == ROLES
    page = next(whole.glob("runs/*/report.md")).read_text()
    assert "|  | unit | teacher | student | plain | smoothed | teacher_free | self | longer |" in page
    chosen = comparison["control"].removeprefix("control_").replace("control", "plain")
    assert f"`{chosen}` is the strongest on validation" in page
    assert "| longer | plain, for 3 epochs |" in page
    smoothed = next(line for line in page.splitlines() if line.startswith("| smoothed | digits |"))
    assert "smoothing 0.1" in smoothed


def test_a_later_call_is_about_the_controls_that_it_asks_for(
    whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    every, args = copy.deepcopy(report(whole)), [*COMMON, f"outputs_dir={whole}"]
    assert main([*args, ALL]) == 0 and "finished earlier" in capsys.readouterr().out
    for line, control in (("control=true", None), ("control=smoothed", "control_smoothed")):
        assert main([*args, line]) == 0
        found = report(whole)
        assert found["comparison"].get("control") == control and "controls" not in found["comparison"]
        gained = [found["models"][role]["last"]["test"]["top1"] for role in ("student", control or "control")]
        assert found["comparison"]["gain_top1"] == pytest.approx(gained[0] - gained[1])
        assert set(found["models"]) == set(every["models"]), "what was measured stays"
        assert main([*args, line]) == 0 and "finished earlier" in capsys.readouterr().out
    assert main([*args, ALL]) == 0
    assert report(whole)["comparison"] == every["comparison"]


def test_each_control_is_tested_with_holms_correction() -> None:
    subject = planted()
    found = against_controls(subject)
    answers = {
        role: subject.on_test(role) for role in ("student", "control", "control_smoothed", "control_longer")
    }
    student = answers.pop("student")
    assert student is not None
    alone = {
        role: against_control(student.logits, own.logits, student.labels)
        for role, own in answers.items()
        if own is not None
    }
    assert (found["control"], found["chosen_by"]) == ("control_longer", "validation")
    assert {name: found[name] for name in alone["control"]} == alone["control_longer"], "one comparison"
    corrected = [one["mcnemar_p"] for one in found["controls"].values()]
    assert corrected == holm([one["mcnemar_p"] for one in alone.values()])  # type: ignore[misc]
    assert found["controls"]["control_longer"]["mcnemar_p"] > found["mcnemar_p"]
