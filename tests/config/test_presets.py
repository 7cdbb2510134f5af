"""Presets have the numbers that are published; where these differ, each has a preset of its own."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from kdrun.config.files import entries, shipped, terms_of
from kdrun.config.presets import presets
from tests.config.composed import composed

# By method: the weights and arguments of its terms on CIFAR-100, from the authors' code or, where that is not
# the source, from the code of the tables of Tian et al. 2020.
PUBLISHED: dict[str, dict[str, dict[str, Any]]] = {
    "at": {"hard": {"weight": 1}, "attention": {"weight": 1000, "power": 2, "stages": 0}},
    "at_kd": {"hard": {"weight": 1}, "soft": {"weight": 1}, "attention": {"weight": 1000}},
    "crd": {"contrast": {"weight": 0.8, "temperature": 0.07, "negatives": 16384, "dimension": 128}},
    "crd_kd": {"soft": {"weight": 1}, "contrast": {"weight": 0.8, "temperature": 0.07}},
    "crd_paper": {"contrast": {"weight": 0.8, "temperature": 0.1, "negatives": 16384, "momentum": 0.5}},
    "ctkd": {"hard": {"weight": 0.1}, "soft": {"weight": 0.9}},
    "dist": {"hard": {"weight": 1}, "dist": {"weight": 2, "beta": 1, "gamma": 1, "temperature": 4}},
    "ft": {"factors": {"weight": 500, "ratio": 0.5}},
    "kd_class_mean": {"hard": {"weight": 0.1}, "soft": {"weight": 0.009}},
    "kd_std": {"hard": {"weight": 0.1}, "soft": {"weight": 9}},
    "kd_without_t2": {"hard": {"weight": 0.1}, "soft": {"weight": 0.05625, "temperature": 4}},
    "kdsvd": {"vectors": {"weight": 1, "vectors": 1}},
    "mlkd": {"hard": {"weight": 0.1}, "mlkd": {"weight": 0.9, "temperatures": [2, 3, 4, 5, 6]}},
    "nst": {"patterns": {"weight": 50, "stages": 0}},
    "ofd": {"features": {"weight": 1e-3}},
    "pkt": {"neighbours": {"weight": 30000}},
    "reviewkd": {"review": {"weight": {"from": 0, "to": 1, "epochs": 20, "shape": "linear"}}},
    "rkd": {"relations": {"weight": 1, "distance": 25, "angle": 50}},
    "simkd": {"features": {"weight": 1}},
    "sp": {"similarities": {"weight": 3000}},
    "srrl": {"hard": {"weight": 1}, "features": {"weight": 1}},
    "ttm": {"ttm": {"weight": 45, "gamma": 0.1}},
    "vid": {"vid": {"weight": 1, "variance": 5}},
    "wsld": {"wsld": {"weight": 2.25, "temperature": 4}},
    "wttm": {"wttm": {"weight": 2.25, "gamma": 0.1}},
}
PRESETS = {preset.name: preset for preset in presets()}


def test_the_terms_of_a_file_are_those_of_its_defaults_list() -> None:
    for entry in entries(shipped(), "method"):
        listed = [{f"/loss@{term.key}.{term.name}": term.loss} for term in terms_of(entry.path)]
        assert listed == yaml.safe_load(entry.path.read_text())["defaults"], entry.name


@pytest.mark.parametrize("method", PUBLISHED)
def test_a_preset_has_the_published_numbers(method: str) -> None:
    terms = PRESETS[method].phases[-1]
    for term, numbers in PUBLISHED[method].items():
        assert {key: terms[term][key] for key in numbers} == numbers, term


def test_phases_of_their_own_come_first() -> None:
    first = {name: preset.phases[0] for name, preset in PRESETS.items() if len(preset.phases) > 1}
    assert {name: [term["weight"] for term in terms.values()] for name, terms in first.items()} == {
        "ab": [0.003],
        "fsp": [1],
        "ft": [1],
    }


def test_kd_and_its_variants_on_cifar100() -> None:
    run = composed("dataset=cifar100").run
    assert (run.alpha, run.temperature, run.loss["soft"]["weight"]) == (0.9, 4, 0.9)
    run = composed("dataset=cifar100 method=dot").run
    assert (run.alpha, run.temperature, run.momentum_delta) == (0.9, 4, 0.075)


@pytest.mark.parametrize(
    ("method", "numbers"),
    [
        ("kd", {"loss.hard.weight": 0.5, "loss.soft.weight": 0.5, "loss.soft.temperature": 1}),
        ("dot", {"loss.hard.weight": 0.5, "loss.soft.temperature": 1, "momentum_delta": 0.09}),
        ("dist", {"loss.dist.weight": 2, "loss.dist.temperature": 1}),
        ("ofd", {"loss.features.weight": 1e-4}),
        ("ft", {"loss.factors.weight": 1000}),
        ("wttm", {"loss.wttm.weight": 1.6, "loss.wttm.gamma": 0.8}),
    ],
)
def test_a_preset_has_numbers_for_imagenet(method: str, numbers: dict[str, float]) -> None:
    run = composed(f"dataset=imagenet teacher=resnet34 student=resnet18 method={method}").run
    assert "methods" not in run.dataset  # they are the methods', no part of the data
    for key, number in numbers.items():
        found: Any = vars(run)
        for part in key.split("."):
            found = found[part]
        assert found == number, key


def test_what_is_typed_beats_the_data_sets_numbers() -> None:
    line = "dataset=imagenet teacher=resnet34 student=resnet18 alpha=0.9 temperature=4"
    run = composed(line).run
    assert (run.alpha, run.temperature) == (0.9, 4)
