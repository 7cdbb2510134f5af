"""How a report says where weights come from and how each model was trained."""

from __future__ import annotations

from typing import Any

import pytest

from kdrun.report.caption import caption
from kdrun.report.markdown import markdown
from kdrun.report.origin import began, origin, trainings
from kdrun.report.schema import Report
from tests.report.example import example

TORCHVISION, TIMM = "ResNet18_Weights.IMAGENET1K_V1", "resnet18.a1_in1k"


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"source": "trained", "epochs": 80}, "trained, 80 epochs"),
        ({"source": "cache", "epochs": 1}, "cache, 1 epoch"),
        (
            {"source": "trained", "epochs": 4, "began_from": TORCHVISION},
            "fine-tuned from ImageNet weights (IMAGENET1K_V1), 4 epochs",
        ),
        (
            {"source": "cache", "epochs": 4, "began_from": TIMM},
            "fine-tuned from ImageNet weights (resnet18.a1_in1k), 4 epochs, cached",
        ),
        (
            {"source": "trained", "epochs": 4, "began_from": "old/s.pth"},
            "fine-tuned from weights of old/s.pth, 4 epochs",
        ),
        ({"source": "checkpoint", "began_from": "t.pth"}, "weights of t.pth, not trained here"),
        (
            {"source": "pretrained", "began_from": TORCHVISION},
            "ImageNet weights (IMAGENET1K_V1), not trained here",
        ),
        ({"source": "trained", "began_from": "net.mnist"}, "fine-tuned from net.mnist weights"),
        ({}, ""),
    ],
)
def test_where_weights_come_from(model: Any, words: str) -> None:
    assert origin(model) == words


def fine_tuned() -> Report:
    report = example()
    for role, weights in (("teacher", TORCHVISION), ("student", "s.pth"), ("control", "s.pth")):
        report["models"][role]["began_from"] = weights
    return report


def test_table_and_page_name_the_weights_of_a_fine_tuned_teacher() -> None:
    report = fine_tuned()
    line = "teacher: cnn_digits, fine-tuned from ImageNet weights (IMAGENET1K_V1), 40 epochs, cached"
    assert began(report) == [
        line,
        "student, control: cnn_digits_small, fine-tuned from weights of s.pth, 80 epochs",
    ]
    assert line in caption(report) and began(example()) == []
    assert "| teacher | cnn_digits (fine-tuned from ImageNet weights" in markdown(report)


RECIPES = {
    "teacher": {
        "name": "own",
        "optimiser": "sgd",
        "momentum": 0.9,
        "nesterov": True,
        "weight_decay": 5e-4,
        "lr": 0.1,
        "schedule": "step",
        "gamma": 0.1,
        "milestones": [10, 20],
        "batch": 64,
        "epochs": 40,
    },
    "student": {
        "name": "digits",
        "optimiser": "adamw",
        "lr": 0.03,
        "schedule": "onecycle",
        "warmup": 0.3,
        "batch": 32,
        "epochs": 100,
    },
    "assistant": [{"name": "middle", "optimiser": "adam", "lr": 1, "batch": 8, "epochs": 80}],
}


def trained() -> Report:
    report = example()
    report["config"] |= {
        "recipe": RECIPES,
        "dataset": {"views": {"name": "crop_flip", "padding": 4, "flip": True, "degrees": 15}},
    }
    return report


def test_each_training_has_a_line() -> None:
    report = trained()
    report["models"]["assistant"] = {"name": "cnn", "source": "trained", "epochs": 80}
    rate, views = "0.03, onecycle, warm-up 30.0 %", "crop_flip (padding 4, flip true)"
    assert [tuple(line) for line in trainings(report)] == [
        (
            "teacher",
            "own",
            "sgd, Nesterov momentum 0.9, weight decay 0.0005",
            "0.1, times 0.1 after [10,20]",
            "64",
            "40",
            views,
        ),
        ("assistant", "middle", "adam", "1, constant", "8", "80", views),
        ("student", "digits", "adamw", rate, "32", "80 of 100", views),
        ("control", "digits", "adamw", rate, "32", "80 of 100", views),
    ]
    assert f"| student | digits | adamw | {rate} | 32 | 80 of 100 | {views} |" in markdown(report)


def test_what_was_not_trained_has_none_and_a_peer_has_the_updates_of_the_teacher() -> None:
    report = trained()
    report["models"]["teacher"]["source"] = "pretrained"
    assert [line[0] for line in trainings(report)] == ["student", "control"]
    report["models"]["teacher"]["source"] = "peer"
    assert next(iter(trainings(report)))[:4] == (
        "peer",
        "digits",
        "sgd, Nesterov momentum 0.9, weight decay 0.0005",
        "0.1, onecycle, warm-up 30.0 %",
    )
    assert not list(trainings(example()))


def test_a_teacher_has_the_views_of_its_own_data_set() -> None:
    report = trained()
    report["config"]["teacher"] = {"dataset": {"views": {"name": "none"}}}
    views = {line[0]: line[-1] for line in trainings(report)}
    assert views["teacher"] == "none" and views["student"] == "crop_flip (padding 4, flip true)"
