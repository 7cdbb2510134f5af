"""The pair of a data set: taken if nothing else is said, and shown as that."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdrun.config.files import OTHERWISE, entries, paired, shipped
from tests.config.composed import composed


@pytest.mark.parametrize(
    ("line", "models", "left"),
    [
        ("", ("cnn_digits", "cnn_digits_small"), ["teacher", "student"]),
        ("dataset=cifar100", ("resnet56", "resnet20"), ["teacher", "student"]),
        ("dataset=cifar100 teacher=resnet110", ("resnet110", "resnet20"), ["student"]),
        ("dataset=cifar100 student=resnet8 teacher=wrn_40_2", ("wrn_40_2", "resnet8"), []),
        ("experiment=born_again", ("cnn_digits_small", "cnn_digits_small"), []),
        (
            "dataset=mnist student.args.slope=0.1",
            ("keras_mnist_teacher", "keras_mnist_student"),
            ["teacher", "student"],
        ),
    ],
)
def test_the_models_of_a_run(line: str, models: tuple[str, str], left: list[str]) -> None:
    run = composed(line).run
    assert (run.teacher.name, run.student.name) == models
    assert run.remarks.by_data_set == left


@pytest.mark.parametrize("name", [entry.name for entry in entries(shipped(), "dataset")])
def test_every_shipped_set_names_its_pair(name: str) -> None:
    teacher, student = (paired(name, role, [shipped()]) for role in ("teacher", "student"))
    assert teacher != student
    assert composed(f"dataset={name}").run.teacher.name == teacher


def test_sets_of_a_user(tmp_path: Path) -> None:
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "mine.yaml").write_text("defaults: [cifar10, _self_]\nname: mine\n")
    (tmp_path / "dataset" / "bare.yaml").write_text("name: bare\n")
    (tmp_path / "dataset" / "own.yaml").write_text("pair: {teacher: wrn_40_2}\n")
    folders = [shipped(), tmp_path]
    assert [paired("mine", role, folders) for role in OTHERWISE] == ["resnet56", "resnet20"]
    assert [paired("bare", role, folders) for role in OTHERWISE] == list(OTHERWISE.values())
    assert [paired("own", role, folders) for role in OTHERWISE] == ["wrn_40_2", OTHERWISE["student"]]
    assert composed("dataset=mine", tmp_path).run.student.name == "resnet20"
