"""A teacher with a data set of its own: trained there, it teaches on the student's images."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from kdrun.cli import main
from kdrun.data.overlap import overlap
from kdrun.errors import KdrunError
from kdrun.models.seen import Seen, Sight
from kdrun.plan.plan import Plan, make_plan
from kdrun.report.schema import parts
from kdrun.stages.teacher_notes import model_notes
from tests.config.composed import composed
from tests.stages.runs import play

SOURCE = """
import torch
from torch.nn import functional as F
from kdrun.data import fake
from kdrun.data.images import Part, Raw

ORDER = [2, 0, 3, 1]

def read(data_dir, *, per_class=60, classes=4):
    raw = fake.read(data_dir, per_class=per_class, classes=classes, size=8, channels=3, noise=0.1)
    luma = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    grey = (raw.train.images.float() * luma).sum(1, keepdim=True)
    images = F.interpolate(grey, (12, 12), mode="bilinear").round().to(torch.uint8)
    labels = torch.tensor([ORDER.index(number) for number in range(classes)])[raw.train.labels]
    return Raw(Part(images, labels), None, tuple(raw.classes[number] for number in ORDER))
"""
"""The images of the student's data set in grey, 12x12, and their classes in another order."""

SHARED = [
    "method=soft", "threads=1", "packages=[mine]", "teacher=cnn_digits_small", "student=cnn_digits_small",
    "recipe=adam", "recipe.teacher.epochs=20", "recipe.student.epochs=15", "recipe.teacher.batch=8",
    "recipe.student.batch=8", "recipe.teacher.lr=1e-2", "recipe.student.lr=1e-2",
    "evaluation.latency=false", "evaluation.plots=false", "control=false",
]  # fmt: skip
STUDENT = [
    *SHARED, "dataset=fake", "dataset.size=8", "dataset.classes=4", "dataset.per_class=60",
    "dataset.noise=0.1", "dataset.validation=40", "dataset.test=80", "dataset.views.name=crop_flip",
]  # fmt: skip
GREY = {
    "source": "mine.grey", "mean": 0.4, "std": 0.2, "validation": 0, "test": 60, "split": 7,
    "views": "{name: none}",
}  # fmt: skip


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the source of the teacher's data set, and a file of it in the group."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "mine").mkdir()
    (folder / "mine" / "grey.py").write_text(SOURCE)
    (folder / "conf" / "dataset").mkdir(parents=True)
    digits = (Path(__file__).parents[2] / "conf" / "dataset" / "digits.yaml").read_text()
    lines = [line for line in digits.splitlines() if line.partition(":")[0] not in {*GREY, "name", "white"}]
    views = [line for line in lines if not line.startswith("  ") and not line.startswith("views")]
    own = ["name: grey", "white: 255", *(f"{key}: {value}" for key, value in GREY.items())]
    (folder / "conf" / "dataset" / "grey.yaml").write_text("\n".join([*views, *own]))
    return folder


@pytest.fixture(autouse=True)
def found(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(mine))


def planned(words: list[str], mine: Path) -> Plan:
    line = " ".join(f'"{word}"' for word in [*words, f"outputs_dir={mine / 'outputs'}"])
    return make_plan(composed(line, mine / "conf").run)


@pytest.fixture(scope="module")
def taught(mine: Path) -> Plan:
    sys.path.insert(0, str(mine))
    words = [*STUDENT, "teacher.dataset=grey", f"outputs_dir={mine / 'outputs'}"]
    assert main(["--config-dir", str(mine / "conf"), *words]) == 0
    return planned([*STUDENT, "teacher.dataset=grey"], mine)


def test_it_is_the_teacher_of_an_ordinary_run_there(taught: Plan, mine: Path) -> None:
    there = planned([*SHARED, "dataset=grey"], mine)
    assert taught.teacher.folder == there.teacher.folder and taught.teacher.mark.exists()
    assert taught.teacher.ground.headline == "last" != taught.ground.headline


def test_another_process_plans_it_again(taught: Plan) -> None:
    again = make_plan(taught.teacher.ground.planned)
    assert [t.folder for t in again.trainings] == [t.folder for t in taught.trainings]


def test_classes_are_related_by_name_and_its_images_by_sight(taught: Plan) -> None:
    several = taught.student.several
    assert several is not None and several.asked[0].relation.targets == (2, 0, 3, 1)
    report: Any = json.loads((taught.student.folder / "report.json").read_text())
    teacher = report["models"]["teacher"]
    assert teacher["dataset"]["name"] == "grey" and teacher["dataset"]["test"] == 60
    assert teacher["figures"]["top1_own_test"] > 85
    assert parts(report, "teacher")["test"]["top1"] > 85
    assert report["comparison"]["agreement"] > 50
    assert "top-1 own test" in (taught.student.folder / "report.md").read_text()


def test_a_killed_teacher_continues_there(taught: Plan, mine: Path, tmp_path: Path) -> None:
    words = [
        *STUDENT,
        "teacher.dataset=grey",
        "checkpoint.seconds=0",
        "stages=[teacher]",
        f"outputs_dir={tmp_path}",
    ]
    args = ["--config-dir", str(mine / "conf"), *words]
    env = pytest.MonkeyPatch()
    env.syspath_prepend(mine)  # processes take the search path from the test's
    codes = play([{"args": args, "bomb": ["step", 30]}, {"args": args, "bomb": None}])
    env.undo()
    assert codes == [-9, 0]
    ours, theirs = (
        load_file(folder / "last.safetensors")
        for folder in (tmp_path / "models" / taught.teacher.folder.name, taught.teacher.folder)
    )
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_check_says_what_is_planned(taught: Plan, mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*STUDENT, "teacher.dataset=grey", f"outputs_dir={mine / 'outputs'}", "seed=3"]
    assert main(["check", "--config-dir", str(mine / "conf"), *words]) == 0
    out = capsys.readouterr().out
    assert "data   teacher: grey, 180 training images of 12x12 grey" in out and "trained earlier" in out


def test_only_its_views_are_others() -> None:
    """Hinton's teacher saw shifted images, its student did not (Hinton et al. 2015, section 3)."""
    shifted = "{views: {name: crop_flip, padding: 2, flip: false}}"
    ours = make_plan(composed(f"dataset=digits 'teacher.dataset={shifted}'").run)
    views = "dataset.views.name=crop_flip dataset.views.padding=2 dataset.views.flip=false"
    theirs, plain = (make_plan(composed(f"dataset=digits {more}").run) for more in (views, ""))
    assert ours.teacher.folder == theirs.teacher.folder != plain.teacher.folder
    assert ours.control is not None and plain.control is not None
    assert ours.control.folder == plain.control.folder and ours.student.folder != plain.student.folder
    assert ours.student.key["teacher"]["key"] == theirs.teacher.fingerprint
    typed = views.replace("dataset", "teacher.dataset")
    assert make_plan(composed(f"dataset=digits {typed}").run).student.folder == ours.student.folder


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("teacher.dataset=mnis", "teacher.dataset=mnis: no such dataset. Nearest: mnist"),
        ("teacher.dataset=5", "teacher.dataset=5: the name of a data set is needed"),
        ("teacher.dataset.vews=1", "teacher.dataset.vews=1: no such key. Nearest: views"),
        ("teacher.dataset.views.nam=1", "teacher.dataset.views.nam"),
        ("teacher.dataset.validation=-1", "teacher.dataset.validation=-1: must be a whole number from 0"),
        ("teacher.dataset.test=5000", "teacher.dataset.test=5000"),
        (
            "dataset=digits teacher.dataset.split=1",
            r"teacher.dataset=digits: \d+ of the student's 1,000 test im",
        ),
        ("teacher.dataset.unlabelled=mnist", "is for students; a teacher learns from labels"),
        ("teacher.dataset=fake", r"have no class in common \(class 0, class 1"),
        ("dataset=fake 'teacher.dataset={channels: 4}'", "teacher.dataset=fake: its images have other chan"),
        (
            "dataset=fake 'teacher.dataset={classes: 4}'",
            "teacher.classes: it does not know class 4, .*teacher.class_map={...}",
        ),
        ("method=dml teacher.dataset.split=1", "teacher.dataset: there is one data set"),
        (
            "dataset=fake 'teacher.dataset={size: 8}' method=simkd",
            "student.reuse_classifier=true: goes with a teacher that has the student's own",
        ),
        ("'teacher=[mlp,{name: mlp, dataset: nix}]'", "teachers.mlp_2.dataset=nix: no such dataset"),
    ],
)
def test_what_cannot_be_meant(line: str, message: str) -> None:
    with pytest.raises(KdrunError, match=message) as caught:
        make_plan(composed(line).run)
    assert "\n" not in str(caught.value)


def test_several_teachers_overlap_by_name_and_each_begins_as_it_would_alone() -> None:
    two = "'teacher=[cnn_digits,{name: cnn_digits, dataset: {classes: 4}}]'"
    plan = make_plan(composed(f"dataset=fake dataset.size=8 {two} method=soft").run)
    alone = make_plan(composed("dataset=fake dataset.size=8 dataset.classes=4 teacher=cnn_digits").run)
    assert plan.teachers[1].folder == alone.teacher.folder
    assert plan.student.several is not None
    assert plan.student.several.blocks["cnn_digits_2"] == (0, 1, 2, 3)


def test_images_that_the_student_holds_out_are_counted() -> None:
    """Also if they are resized, in other channels, and of another largest pixel value."""
    other = "b: {source: fake, size: 8, channels: 3, test: 200}"
    parts = f"{{a: {{source: digits, white: 16, test: 300, split: 1}}, {other}}}"
    data = f"dataset=merged 'dataset.parts={parts}' dataset.size=8 dataset.channels=3"
    with pytest.raises(KdrunError, match=r"teacher.dataset=digits: \d+ of the student's 500 test images"):
        make_plan(composed(f"{data} teacher=mlp teacher.dataset=digits 'teacher.class_map={{}}'").run)
    plan = make_plan(composed("dataset=digits teacher.dataset.validation=0").run)
    assert overlap(plan.teacher.ground.data, plan.ground.data) == {"validation": 197, "test": 0}
    (note,) = model_notes(plan)
    assert note == "the teacher is trained on 197 validation images of the student's: too good there"


@pytest.mark.parametrize(("given", "wanted"), [(1, 3), (3, 1), (3, 3)])
def test_black_and_white_are_seen_as_such(given: int, wanted: int) -> None:
    def sight(channels: int, white: float, size: int) -> Sight:
        return Sight((0.1 * channels,) * channels, (0.5,) * channels, white, (channels, size, size))

    seen = Seen(torch.nn.Identity(), sight(given, 16, 4), sight(wanted, 255, 8))
    for share in (0.0, 1.0):
        images = torch.full((2, given, 4, 4), (share - 0.1 * given) / 0.5)
        expected = torch.full((2, wanted, 8, 8), (share - 0.1 * wanted) / 0.5)
        torch.testing.assert_close(seen(images), expected)
    if given == 3 and wanted == 1:
        red = torch.full((1, 3, 4, 4), -0.3 / 0.5)
        red[:, 0] = (1 - 0.3) / 0.5
        torch.testing.assert_close(seen(red), torch.full((1, 1, 8, 8), (0.299 - 0.1) / 0.5))
