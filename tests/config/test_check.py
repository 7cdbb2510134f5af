"""What is wrong with a run whatever its data is, each mistake in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from kdrun.config import choices
from kdrun.config.schema import Recipe
from kdrun.errors import KdrunError
from kdrun.models.build import build
from kdrun.progress.loggers import LOGGERS
from kdrun.training.learning_rate import learning_rate
from kdrun.training.optimisers import optimiser
from kdrun.training.table import NUMBERS
from tests.sampled import sampled

from .composed import composed

COUNT = "must be a count per class from 1, a fraction above 0 and up to 1, a file, or null (all)"
MISTAKES = {
    "headline=best": "no such choice. Choices: auto, last, val_best",
    "resize=always": "no such choice. Choices: auto, none",
    "train=0": "must be a whole number from 1, or null (all that are left)",
    "train=0.5": "must be a whole number from 1, or null (all that are left)",
    "test=0": "must be a whole number from 1 or a fraction below 1",
    "test=0.0": "must be a whole number from 1 or a fraction below 1",
    "test=1.0": "must be a whole number from 1 or a fraction below 1",
    "validation=-1": "must be a whole number from 0 or a fraction below 1",
    "validation=1.0": "must be a whole number from 0 or a fraction below 1",
    "validation=true": "must be a whole number from 0 or a fraction below 1",
    "split=a": "must be a whole number from 0",
    "split=null": "must be a whole number from 0",
    "split=-1": "must be a whole number from 0",
    "label_seed=0.5": "must be a whole number from 0",
    "labelled=0": COUNT,
    "labelled=-3": COUNT,
    "labelled=1.5": COUNT,
    "labelled=0.0": COUNT,
    "labelled=true": COUNT,
    "labelled=[1]": COUNT,
    "labelled=nowhere.txt": "no such file. A count per class, a fraction, or a file of indices, one a line",
    "mean=a": "must be a number, or one for each channel",
    "mean=[]": "must be a number, or one for each channel",
    "mean=[0.5,a]": "must be a number, or one for each channel",
    "mean=null": "must be a number, or one for each channel",
    "mean=.nan": "must be a number, or one for each channel",
    "std=0": "must be above 0",
    "std=[0.5,0]": "must be above 0",
    "std=true": "must be a number, or one for each channel",
    "white=0": "must be a number above 0",
    "white=a": "must be a number above 0",
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_wrong_value_of_any_data_set_is_one_line(mistake: str) -> None:
    with pytest.raises(KdrunError) as caught:
        composed(f"dataset=digits 'dataset.{mistake}'")
    key = mistake.partition("=")[0]
    line = str(caught.value)
    assert line.startswith(f"dataset.{key}") and MISTAKES[mistake] in line and "\n" not in line


@pytest.mark.parametrize("value", ["yes", "1", "null"])
def test_plots_are_auto_or_a_boolean(value: str) -> None:
    with pytest.raises(
        KdrunError, match=r"^evaluation.plots(=.*)?: no such choice. Choices: auto, true, false$"
    ):
        composed(f"dataset=digits evaluation.plots={value}")


@pytest.mark.parametrize("key", sampled(choices.DATASET_KEYS, 5))
def test_a_key_that_every_data_set_has_is_missed(tmp_path: Path, key: str) -> None:
    from kdrun.config.files import shipped

    text = (shipped() / "dataset" / "digits.yaml").read_text().splitlines()
    kept = [line for line in text if not line.startswith(f"{key}:")]
    if key == "views":
        kept = [line for line in kept if not line.startswith("  ")]
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "mine.yaml").write_text("\n".join(kept))
    problem = rf"^dataset\.{key}: is missing: every data set must give it$"
    with pytest.raises(KdrunError, match=problem):
        composed("dataset=mine", tmp_path)


def test_right_values_pass() -> None:
    given = "train=100 validation=0.1 test=7 labelled=6 mean=[0.5] std=2 headline=last split=3"
    run = composed("dataset=digits " + " ".join(f"dataset.{one}" for one in given.split())).run
    assert (run.dataset["validation"], run.dataset["mean"]) == (0.1, [0.5])


def test_every_choice_is_one_that_the_code_knows() -> None:
    assert set(LOGGERS) == set(choices.LOGGERS)
    assert set(NUMBERS) == set(choices.TABLE_DTYPES)
    weight = torch.zeros(1, requires_grad=True)

    def recipe(**changes: Any) -> Recipe:
        return Recipe(
            **{"optimiser": "sgd", "lr": 1.0, "momentum": 0.9, "milestones": [2], "warmup": 0.3} | changes
        )

    made = [optimiser(recipe(optimiser=name), [weight]) for name in choices.OPTIMISERS]
    states = {(type(one).__name__, getattr(one, "decoupled", None)) for one in made}
    assert len(states) == len(choices.OPTIMISERS)
    courses = {
        tuple(learning_rate(recipe(schedule=name), step, 40, 10) for step in range(40))
        for name in choices.SCHEDULES
    }
    assert len(courses) == len(choices.SCHEDULES)
    node = {"name": "resnet18", "family": "torchvision", "args": {}}
    stems = {build(node | {"stem": stem}, 10, (3, 128, 128), "auto", 0).notes for stem in choices.STEMS}
    assert len(stems) == 2  # auto is one of the others


@pytest.mark.parametrize("value", ["[[1]]", "[5,3]", "[0]", "[3,3]"])
def test_milestones_are_epochs_in_rising_order(value: str) -> None:
    with pytest.raises(KdrunError, match=r"must be epochs from 1, in rising order|a whole number is needed"):
        composed(f"recipe.student.milestones={value}")
