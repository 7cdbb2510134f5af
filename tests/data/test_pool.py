"""Images without labels beside the training part: what is read, left out, mined, and learned from."""

from __future__ import annotations

import json
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from kdrun.cli import main
from kdrun.data.load import load
from kdrun.data.pool import as_seen, near_duplicates
from kdrun.errors import KdrunError
from kdrun.plan.plan import make_plan
from kdrun.stages.mining import chosen
from kdrun.stages.saved import load_model, saved
from tests.config.composed import composed


def digits() -> Any:
    return make_plan(composed().run).ground.data


def save(path: Path, image: Tensor, brighter: float = 1.0, side: int = 8) -> None:
    """A digit as a picture file, its 0..16 as 0..255."""
    path.parent.mkdir(parents=True, exist_ok=True)
    grey = (image[0].float() * 255 / 16 * brighter).clamp(0, 255).round().numpy().astype(np.uint8)
    Image.fromarray(grey).resize((side, side), Image.Resampling.NEAREST).save(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve new pictures, a test and a validation image (darker, larger), one training image."""
    root, data = tmp_path_factory.mktemp("pool"), digits()
    for number in range(12):
        save(root / "9" / f"new{number}.png", data.train.images[number].flip(1).roll(number % 3, 2))
    save(root / "planted.png", data.test.images[7], brighter=0.8)
    save(root / "z" / "held.png", data.validation.images[3], side=16)
    save(root / "again.png", data.train.images[50])
    return root


def test_planted_images_are_named_and_left_out(folder: Path) -> None:
    plan = make_plan(composed(f"dataset.unlabelled={folder}").run)
    pool = plan.student.pool
    assert pool is not None
    assert pool.left_out == ("z/held.png (validation image 3)", "planted.png (test image 7)")
    assert pool.repeated == 1 and len(pool.images) == 12
    assert all(name.startswith("9/new") for name in pool.names)
    assert pool.images.max() <= 16 and pool.images.shape[1:] == (1, 8, 8)


def test_only_the_student_sees_them_and_only_its_key_has_them(folder: Path) -> None:
    plain, more = (
        make_plan(composed(f"alpha=0.5 {line}").run) for line in ("", f"dataset.unlabelled={folder}")
    )
    assert more.control is not None and plain.control is not None
    assert more.teacher.fingerprint == plain.teacher.fingerprint
    assert more.control.fingerprint == plain.control.fingerprint
    assert more.student.key.keys() - plain.student.key.keys() == {"unlabelled"}
    assert len(more.student.rows) == 612 and int(more.control.rows.max()) < 600
    assert bool((more.student.labels[600:] == -1).all())
    assert more.student.row_set().steps == more.control.row_set().steps == plain.student.row_set().steps
    mined = torch.tensor([2, 5])
    assert more.student.row_set(mined=mined).rows[600:].tolist() == [602, 605]
    without_labels = make_plan(composed(f"alpha=0 dataset.unlabelled={folder}").run).student
    assert (
        without_labels.pool is None
        and without_labels.fingerprint == make_plan(composed("alpha=0").run).student.fingerprint
    )


def test_a_data_set_by_name_gives_its_images_and_none_of_its_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    from kdrun.data import fake

    real = fake.read

    @wraps(real)
    def spoilt(*args: Any, **more: Any) -> Any:
        raw = real(*args, **more)
        return raw._replace(train=raw.train._replace(labels=torch.zeros_like(raw.train.labels)))

    fingerprints = []
    for read in (real, spoilt):
        monkeypatch.setattr(fake, "read", read)
        plan = make_plan(composed("dataset.unlabelled=fake").run)
        assert plan.student.pool is not None and plan.student.pool.source == "fake"
        fingerprints.append(plan.student.fingerprint)
    assert fingerprints[0] == fingerprints[1]


def test_near_duplicates_are_found_however_they_were_saved() -> None:
    test = digits().test.images
    g = torch.Generator().manual_seed(0)
    darker = (test.float() * 0.7).round().to(torch.uint8)
    noisy = (test.int() + torch.randint(-1, 2, test.shape, generator=g)).clamp(0, 16).to(torch.uint8)
    for changed, share in ((test, 1.0), (darker, 0.99), (noisy, 0.85)):
        right = near_duplicates(changed, test) == torch.arange(len(test))
        assert float(right.float().mean()) >= share
    others = near_duplicates(digits().train.images, test)
    assert float((others >= 0).float().mean()) < 0.05
    assert near_duplicates(test[:3], test[:0]).tolist() == [-1, -1, -1]


def test_pixels_become_those_of_the_training_part() -> None:
    colour = torch.full((2, 3, 4, 4), 255, dtype=torch.uint8)
    assert as_seen(colour, (1, 8, 8), 255, 16).unique().tolist() == [16]
    grey = torch.arange(16, dtype=torch.uint8).view(1, 1, 4, 4)
    assert torch.equal(as_seen(grey, (3, 4, 4), 255, 255), grey.expand(-1, 3, -1, -1))
    assert as_seen(grey, (1, 4, 4), 16, 16) is grey


def test_the_images_of_which_a_teacher_is_sure() -> None:
    probabilities = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.95, 0.05], [0.1, 0.9], [0.9, 0.1]])
    assert chosen(probabilities, 0.0, None).tolist() == [0, 1, 2, 3, 4, 5]
    assert chosen(probabilities, 0.8, None).tolist() == [0, 2, 3, 4, 5]
    assert chosen(probabilities, 0.0, 2).tolist() == [0, 2, 3, 4]  # of equals the first
    assert chosen(probabilities, 0.85, 1).tolist() == [3, 4]


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("dataset.unlabelled=digitz", "dataset.unlabelled=digitz: no such dataset"),
        ("dataset.unlabelled=no/where", "dataset.unlabelled=no/where: no such folder"),
        ("dataset.unlabelled_top_k=3", "dataset.unlabelled_top_k=3: needs dataset.unlabelled"),
        ("dataset.unlabelled=fake dataset.unlabelled_confidence=2", ".*confidence=2: must be above 0"),
        ("dataset.unlabelled=fake transfer=labelled", "transfer=labelled: leaves out the images"),
        ("dataset.unlabelled=digits", "dataset.unlabelled=digits: none of its 1797 images is left: 1[12]"),
    ],
)
def test_refusals(line: str, error: str) -> None:
    with pytest.raises(KdrunError, match=f"^{error}") as raised:
        make_plan(composed(line).run)
    assert "\n" not in str(raised.value)


def test_a_run_says_what_the_student_saw_more(folder: Path, tmp_path: Path, capsys: Any) -> None:
    short = [
        "recipe.teacher.epochs=2", "recipe.student.epochs=1", "evaluation.latency=false", "control=false",
        "evaluation.plots=false", f"outputs_dir={tmp_path}", f"dataset.unlabelled={folder}",
        "dataset.unlabelled_top_k=2", "recipe.labelled_share=0.5",
    ]  # fmt: skip
    assert main(short) == 0
    screen = capsys.readouterr().out
    assert "2 near-duplicates of validation or test images left out of" in screen and "planted.png" in screen
    report = json.loads(next(tmp_path.glob("runs/*/report.json")).read_text())
    pool = report["distillation"]["pool"]
    assert pool["images"] == 12 and 2 <= pool["used"] <= 12 and len(pool["left_out"]) == 2
    assert report["distillation"]["unlabelled"] == 540 + pool["used"]


def test_a_pool_changes_nothing_else() -> None:
    dataset = {**composed().run.dataset, "unlabelled": None}
    assert load(dataset, Path("data")).fingerprint == digits().fingerprint


TWO = "'teacher=[cnn_digits_small,cnn_digits_small]'"


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("experiment=merge_digits combine.weights=known", "combine.weights=known: reads labels, and the ima"),
        (
            f"{TWO} method=soft loss.soft.teacher=cnn_digits_small '+loss@loss.other=hard_labels' "
            "loss.other.teacher=cnn_digits_small_2 dataset.unlabelled_top_k=2",
            "dataset.unlabelled_top_k=2: no term reads the teachers as one",
        ),
    ],
)
def test_several_teachers_that_give_the_pool_no_answer_are_refused(
    folder: Path, line: str, error: str
) -> None:
    with pytest.raises(KdrunError, match=f"^{error}"):
        make_plan(composed(f"{line} dataset.unlabelled={folder}").run)


def test_several_teachers_choose_images_together(folder: Path, tmp_path: Path) -> None:
    """Which ones is what the mean of their probabilities says, and each keeps a table of the pool, too."""
    words = [
        "teacher=[cnn_digits_small,{name: cnn_digits_small, weight: 2}]", "student=cnn_digits_small",
        "dataset.views.name=none", "recipe.teacher.epochs=3", "recipe.student.epochs=1",
        "evaluation.latency=false", "evaluation.plots=false", "control=false",
        f"outputs_dir={tmp_path}", f"dataset.unlabelled={folder}", "dataset.unlabelled_top_k=1",
    ]  # fmt: skip
    assert main(words) == 0
    student = make_plan(composed(" ".join(f"'{word}'" for word in words)).run).student
    pool = student.pool
    assert pool is not None
    pixels = (pool.images.float() / 16 - student.ground.data.mean[0]) / student.ground.data.std[0]
    mean = torch.zeros(len(pixels), 10)
    for share, teacher in zip((1 / 3, 2 / 3), student.teachers, strict=True):
        weights = saved(teacher)
        assert weights is not None
        with torch.no_grad():
            mean += share * load_model(weights, "last").eval()(pixels).softmax(1)
        (table,) = (teacher.folder / "tables").glob("logits-*")
        assert list(table.iterdir())
    used = json.loads((student.folder / "unlabelled.json").read_text())["used"]
    assert used == chosen(mean, 0.0, 1).tolist() and len(used) == len(mean.argmax(1).unique())
