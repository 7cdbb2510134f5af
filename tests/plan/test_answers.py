"""How a teacher is asked follows from what is read of it, its views and the space, and is said."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from kdrun.cli import main
from kdrun.data.batches import training_images
from kdrun.errors import KdrunError
from kdrun.models.taps import Tapped
from kdrun.plan.answers import answers_of, table_folder
from kdrun.plan.plan import make_plan
from kdrun.plan.training import Training
from kdrun.stages.teacher import answers_note, planned
from kdrun.training.ahead import Ahead
from kdrun.training.plan import epoch_plan
from kdrun.training.tabled import Tabled
from kdrun.training.teachers import Live, Teacher
from kdrun.types import CLASSIFIER
from tests.config.composed import composed
from tests.training.speaker import answers, same
from tests.training.world import plain

DATA = "dataset=fake dataset.size=8 dataset.per_class=20 dataset.validation=20 dataset.test=40"
LOGITS = frozenset({"logits"})
ASKED = "teacher runs"
KEPT = "teacher's answers are cached: 162 views, up to"


@cache
def base() -> Training:
    """A run on 140 images of 8x8 in 162 views."""
    return make_plan(composed(f"{DATA} dataset.views.name=crop_flip").run).student


def student(gpu: bool = False, **runtime: Any) -> Training:
    """The same with other settings. gpu: as it would be planned on one."""
    ground = base().ground
    run = replace(ground.run, runtime=replace(ground.run.runtime, **runtime))
    machine = ground.machine._replace(device=torch.device("mps" if gpu else "cpu"))
    return replace(base(), ground=replace(ground, run=run, machine=machine))


@pytest.fixture(scope="module", autouse=True)
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("asking"))
        yield


@pytest.mark.parametrize(
    ("gpu", "needs", "runtime", "kind", "reason"),
    [
        (False, [], {}, "none", "no term reads the teacher"),
        (False, ["logits"], {}, "tabled", f"{KEPT} 1.09 MB"),
        (True, ["logits", "embedding", CLASSIFIER], {}, "tabled", f"{KEPT} 6.89 MB"),
        (False, ["logits"], {"table_dtype": "fp16"}, "tabled", f"{KEPT} 635 kB (fp16)"),
        (False, ["stage:-1"], {}, "live", f"{ASKED} in every step: feature maps are not cached"),
        (True, ["stage:-1"], {}, "ahead", f"{ASKED} ahead of the steps: feature maps are not cached"),
        (
            True,
            ["stages"],
            {"ahead_gb": 0.001},
            "live",
            f"{ASKED} in every step: feature maps are not cached",
        ),
        (False, ["logits"], {"table": "off"}, "live", f"{ASKED} in every step: runtime.table=off"),
        (True, ["logits"], {"table": "off"}, "ahead", f"{ASKED} ahead of the steps: runtime.table=off"),
        (
            False,
            ["logits"],
            {"table_gb": 1e-4},
            "live",
            f"{ASKED} in every step: 1.09 MB are above runtime.table_gb",
        ),
    ],
)
def test_the_plan_and_why(
    gpu: bool, needs: list[str], runtime: dict[str, Any], kind: str, reason: str
) -> None:
    chosen = answers_of(student(gpu, **runtime), frozenset(needs))
    assert (chosen.kind, chosen.reason) == (kind, reason)
    assert (chosen.bytes > 0) == (kind == "tabled")


def test_views_that_are_not_finite_and_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    affine = make_plan(composed(f"{DATA} dataset.views.name=affine").run).student
    assert answers_of(affine, LOGITS).reason == "teacher runs in every step: random augmentation, no cache"
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("", (), {"free": 1000}))
    assert (
        answers_of(student(), LOGITS).reason == "teacher runs in every step: the disk has no room for 1.09 MB"
    )


def test_answers_that_were_to_be_rounded_and_cannot_be_kept_are_refused() -> None:
    with pytest.raises(KdrunError, match=r"^runtime.table_dtype=fp16: needs a table, and 635 kB are above"):
        answers_of(student(table_dtype="fp16", table_gb=1e-4), LOGITS)


def test_rounded_answers_lie_in_a_table_of_their_own() -> None:
    one, two = student(), student(table_dtype="fp16")
    assert table_folder(one, ["logits"], one.teachers[0]) != table_folder(two, ["logits"], two.teachers[0])


@pytest.mark.parametrize(
    ("gpu", "needs", "kind"),
    [
        (False, ["logits"], Tabled),
        (False, ["logits", "embedding", CLASSIFIER], Tabled),
        (True, ["stages"], Ahead),
    ],
)
def test_the_teacher_that_was_planned_says_what_the_live_one_says(
    gpu: bool, needs: list[str], kind: type[Teacher]
) -> None:
    training = student()
    ground = training.ground
    images = training_images(ground.data, ground.views, ground.machine.device)
    live = Live(Tapped(training.teachers[0].built.model, needs), plain)
    asking = student(gpu=gpu)
    teacher = planned(asking, asking.teachers[0], frozenset(needs), live, images, print)
    assert isinstance(teacher, kind)
    every = [epoch_plan(0, 0, training.row_set(), ground.views, torch.device("cpu"))]
    kept, now = (answers(one, every, seen=images) for one in (teacher, live))
    teacher.close()
    assert same(kept, now)
    assert (kept[0].classifier is None) == (now[0].classifier is None)


def test_a_table_is_read_whole_on_a_gpu_if_most_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """140 images in 162 views: as many answers as 162 epochs ask for."""
    monkeypatch.setattr(Tabled, "check", lambda self, device: True)

    def whole(gpu: bool, epochs: int) -> bool:
        training = student(gpu=gpu)
        training = replace(training, recipe=replace(training.recipe, epochs=epochs))
        live = Live(torch.nn.Module(), plain)
        teacher = planned(
            training, training.teachers[0], frozenset(["logits"]), live, lambda rows: rows, print
        )  # type: ignore[arg-type]
        assert isinstance(teacher, Tabled)
        teacher.close()
        return teacher.whole

    assert [whole(*case) for case in ((True, 161), (True, 162), (False, 162))] == [False, True, False]


def test_the_second_run_asks_for_a_check_only(capsys: pytest.CaptureFixture[str]) -> None:
    short = "recipe.teacher.epochs=1 recipe.student.epochs=2 evaluation.plots=false evaluation.latency=false"
    for seed in (0, 1):
        assert main(f"{DATA} {short} control=false seed={seed}".split()) == 0
    assert re.search(r"teacher's answers are cached: 1 view, up to [\d.]+ kB", capsys.readouterr().out)
    paths = sorted(Path("outputs").glob("runs/*/report.json"), key=lambda path: path.stat().st_mtime_ns)
    used = [json.loads(path.read_text())["distillation"]["teacher"] for path in paths]
    assert [one["plan"] for one in used] == ["tabled", "tabled"]
    assert [(one["forwards"], one["forwards_saved"]) for one in used] == [(140, 140), (32, 280)]


def test_what_is_said_after_a_training() -> None:
    live = Live(torch.nn.Module(), plain)
    assert not answers_note(live)
    live.forwards, live.saved = 500, 9500
    assert answers_note(live) == "cache   9,500 of 10,000 teacher answers reused (95 %)"
