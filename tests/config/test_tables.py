"""Every shipped table is read, names what there is, and its cells compose; a mistake is one line."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from kdrun.config.arguments import parse
from kdrun.config.compose import single
from kdrun.config.files import entries, shipped
from kdrun.config.load import Loaded
from kdrun.config.overrides import key_of
from kdrun.config.table import BASELINES, PublishedTable, changed
from kdrun.config.tables import OPTIONAL, REQUIRED, parsed, read, tables, work_of
from kdrun.errors import KdrunError
from kdrun.models.names import library
from tests.sampled import sampled
from tests.scripts import loaded

NAMES = [entry.name for entry in tables()]
ASKED_FOR = {
    *("crd1", "crd2", "dkd", "dist", "lskd", "simkd", "dot", "ofd", "wttm", "reviewkd", "mlkd"),
    *("imagenet", "hinton_mnist", "pytorch_tutorial", "keras_example"),
}
CIFAR = {
    *("crd1", "crd2", "dkd", "dist", "lskd", "lskd_weights", "lskd_teachers"),
    *("simkd", "dot", "wttm", "mlkd", "reviewkd", "ofd"),
}


@cache
def table(name: str) -> PublishedTable:
    return read(name)


def composed(overrides: list[str]) -> Loaded:
    return single(parse(overrides))


def names(group: str) -> set[str]:
    return {entry.name for entry in entries(shipped(), group)}


def test_the_tables_that_there_are() -> None:
    assert set(NAMES) >= ASKED_FOR


@pytest.mark.parametrize("name", NAMES)
def test_a_file_says_what_it_is_and_how_to_run_it(name: str) -> None:
    first, command, *_ = (shipped() / "table" / f"{name}.yaml").read_text().splitlines()
    assert first.startswith("# ") and first.count(" | ") == 1
    assert command.startswith(f"# kdrun table {name} ")
    chosen = dict(word.split("=") for word in command.split()[4:])
    this = table(name)
    pairs, methods = (tuple(filter(None, chosen.get(key, "").split(","))) for key in ("pair", "method"))
    places = [place for place in this.places(pairs, methods) if place[1] not in BASELINES]
    assert len(places) >= max(1, len(pairs)) * max(1, len(methods))


@pytest.mark.parametrize("name", NAMES)
def test_a_table_names_models_methods_and_data_that_there_are(name: str) -> None:
    this, models, presets = table(name), names("model"), names("method")
    for pair in this.pairs.values():
        for model in (pair.teacher, pair.student):
            assert pair.lacks or model in models or library(model) == "torchvision", model
    for method in this.methods.values():
        chosen = [text.partition("=")[2] for text in method.run if key_of(text) == "method"]
        assert (
            method.lacks
            or method.of
            or method.name in BASELINES
            or (len(chosen) == 1 and chosen[0] in presets)
        )
    assert this.dataset in names("dataset")


@pytest.mark.parametrize("name", sampled(NAMES, 4))
def test_a_few_cells_compose(name: str) -> None:
    this = table(name)
    places = this.places()
    special = [(p, m.name) for m in this.methods.values() for p in m.by_pair if (p, m.name) in places]
    # The first, and the last of those that differ by pair: a cell takes a quarter of a second.
    for pair, method in {places[0], (special or places)[-1]}:
        run = composed(this.cell(pair, method, 3)).run
        assert (run.teacher.name, run.student.name) == (this.pairs[pair].teacher, this.pairs[pair].student)
        assert (run.dataset["name"], run.seed) == (this.dataset, 3)
        assert (run.dataset["validation"], run.dataset["headline"], run.precision) == (0, "last", "fp32")
        for override in this.methods[method].by_pair.get(pair, ()):
            assert (
                value_of(run, key_of(override)) == yaml.safe_load(override.partition("=")[2])
                or "{" in override
            )


def value_of(run: Any, key: str) -> Any:
    found = run
    for part in key.split("."):
        found = found[part] if isinstance(found, dict) else getattr(found, part)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_every_published_number_carries_its_source(name: str) -> None:
    this = table(name)
    every = [*this.published.values(), *(value for values in this.others.values() for value in values)]
    assert every
    for value in every:
        assert value.source.where and value.source.name != "unverified"
        assert value.std is None or (value.std_source or value.source).where
    assert all(value.who for values in this.others.values() for value in values)
    assert all(not value.who for value in this.published.values())
    assert not set(this.published) & set(this.unverified)


@pytest.mark.parametrize("name", NAMES)
def test_every_table_says_how_it_differs(name: str) -> None:
    this = table(name)
    assert this.differences and this.convention.evidence and this.seeds
    if this.convention.epoch != "last":
        assert any("epoch" in text and "last" in text.lower() for text in this.differences)


@pytest.mark.parametrize("name", sorted(CIFAR))
def test_the_protocol_of_the_cifar_tables(name: str) -> None:
    this = table(name)
    pair, method = next(place for place in this.places() if this.baseline(*place) or name == "mlkd")
    run = composed(this.cell(pair, method, 0)).run
    recipe = run.recipe.teacher
    own = {"ofd": (200, 128, 0.1, True, [100, 150]), "reviewkd": (240, 128, 0.1, True, [150, 180, 210])}
    found = (recipe.epochs, recipe.batch, recipe.lr, recipe.nesterov, recipe.milestones)
    assert found == own.get(name, (240, 64, 0.05, False, [150, 180, 210]))
    assert (recipe.momentum, recipe.weight_decay, recipe.gamma) == (0.9, 5e-4, 0.1)
    views = run.dataset["views"]
    assert (views["name"], views["padding"], views["flip"]) == ("crop_flip", 4, True)


def test_some_cells_of_the_papers() -> None:
    this = table("crd1")
    kd = this.published["resnet32x4-resnet8x4", "kd"]
    assert (kd.value, kd.std, kd.runs, kd.source.name) == (73.33, 0.25, 5, "rep_readme")
    assert kd.std_source is not None and kd.std_source.quoted
    assert this.published["resnet32x4-resnet8x4", "teacher"].runs is None  # one model
    (again,) = this.others["resnet32x4-resnet8x4", "crd"]
    assert (again.value, again.std, again.runs, again.who) == (75.33, 0.20, 5, "CRD-Reproduction")
    assert ("resnet110-resnet20", "crd+kd") in this.unverified
    assert ("wrn_40_2-wrn_40_1", "fsp") not in this.published
    assert table("dkd").published["resnet32x4-resnet8x4", "dkd"].value == 76.32
    assert table("wttm").published["resnet32x4-shufflenet_v2", "wttm"].runs == 3
    imagenet = table("imagenet").others["resnet34-resnet18", "dkd"]
    assert {value.who: value.value for value in imagenet}["PaddleClas"] == 72.59


def test_two_phases_take_30_and_240_epochs() -> None:
    this = table("crd1")
    run = composed(this.cell("resnet56-resnet20", "ft", 0)).run
    assert (run.recipe.student.epochs, run.phase_one.epochs, run.recipe.teacher.epochs) == (270, 30, 240)
    assert run.recipe.student.milestones == [180, 210, 240]
    assert not this.baseline("resnet56-resnet20", "ft") and this.baseline("resnet56-resnet20", "crd")


def test_a_users_key_wins_and_makes_another_experiment() -> None:
    typed = ["recipe.student.epochs=10", "device=cpu", "runtime.jobs=2"]
    cell = table("crd1").cell("resnet56-resnet20", "ab", 1, typed)
    assert [text for text in cell if "student.epochs" in text] == ["recipe.student.epochs=10"]
    assert changed(typed) == ("recipe.student.epochs=10",)
    for own in ("seed=3", "method=kd", "teacher=resnet8"):
        with pytest.raises(KdrunError, match="sets it"):
            table("crd1").cell("resnet56-resnet20", "kd", 1, [own])


def test_places() -> None:
    this = table("crd1")
    assert this.places(["resnet56-resnet20"], ["kd", "crd"]) == [
        ("resnet56-resnet20", "kd"),
        ("resnet56-resnet20", "crd"),
    ]
    every = this.places()
    assert ("wrn_40_2-wrn_40_1", "fsp") not in every and ("resnet110-resnet20", "crd+kd") in every
    assert not {"cc", *BASELINES} & {method for _, method in every}
    with pytest.raises(KdrunError, match=r"no such pair\. Nearest: resnet56-resnet20"):
        this.places(["resnet56-resnet2"])
    with pytest.raises(KdrunError, match="method=cc: kdrun lacks the loss"):
        this.places((), ["cc"])
    with pytest.raises(KdrunError, match="pair=pyramid_200_240-wrn_28_4: kdrun lacks PyramidNet"):
        table("ofd").cell("pyramid_200_240-wrn_28_4", "ofd", 0)
    with pytest.raises(KdrunError, match="comes with every other method"):
        this.cell("resnet56-resnet20", "teacher", 0)


def test_an_unknown_table_and_one_of_ones_own(tmp_path: Path) -> None:
    with pytest.raises(KdrunError, match="table=crd3: no such table"):
        read("crd3")
    (tmp_path / "table").mkdir()
    (tmp_path / "table" / "mine.yaml").write_text((shipped() / "table" / "dot.yaml").read_text())
    assert read("mine", tmp_path).published == table("dot").published
    (tmp_path / "table" / "mine.yaml").write_text("a: [")
    with pytest.raises(KdrunError, match=r"mine.yaml: not valid YAML"):
        read("mine", tmp_path)
    (tmp_path / "table" / "mine.yaml").rename(tmp_path / "table" / "dkd.yaml")
    with pytest.raises(KdrunError, match=r"dkd.yaml: kdrun has a table of this name"):
        read("dkd", tmp_path)


MISTAKES: list[tuple[str, Any, str]] = [
    ("titel", "x", "f.yaml.titel: no such key. Nearest: title"),
    ("title", None, "f.yaml.title: is missing"),
    ("figure", "speed", "f.yaml: figure=speed: no such choice. Choices: accuracy, error, errors"),
    ("seeds", [0, -1], "f.yaml: seeds=-1: a whole number from 0 is needed"),
    ("run", ["dataset"], "f.yaml: run=dataset: an override is"),
    ("pairs", {"resnet20": {}}, "f.yaml: pairs.resnet20: a pair is called TEACHER-STUDENT"),
    ("methods", {"kd": {}}, "f.yaml: methods.kd: run (its overrides), of"),
    ("published.0.source", "nowhere", "f.yaml: published.0.source=nowhere: no such choice"),
    ("published.0.source", None, "f.yaml: published.0.source: is missing"),
    ("published.0.cells.kd.a-b", 1, "f.yaml: published.0.cells.kd.a-b=a-b: no such choice"),
    ("published.0.cells.kdd", {}, "f.yaml: published.0.cells.kdd=kdd: no such choice"),
    ("published.0.cells.kd.vgg13_cifar-vgg8", "73.1 (5)", "=73.1 (5): a number is needed, or NUMBER"),
    ("convention.epoch", "first", "f.yaml: convention.epoch=first: no such choice"),
    ("paper", "Zhao 2023", "f.yaml: paper: a mapping (key: value) is needed"),
    ("notes", "one", "f.yaml: notes: a list is needed"),
]


@pytest.mark.parametrize(("key", "value", "line"), MISTAKES)
def test_a_mistake_is_one_line(key: str, value: Any, line: str) -> None:
    content = yaml.safe_load((shipped() / "table" / "dot.yaml").read_text())
    node: Any = copy.deepcopy(content)
    whole = node
    *above, last = key.split(".")
    for part in above:
        node = node[int(part) if part.isdigit() else part]
    node[last] = value
    with pytest.raises(KdrunError) as error:
        parsed(whole, "mine", "f.yaml")
    assert line in str(error.value) and "\n" not in str(error.value)


def test_a_number_that_is_there_twice() -> None:
    content = yaml.safe_load((shipped() / "table" / "dot.yaml").read_text())
    content["published"].append(content["published"][0])
    with pytest.raises(KdrunError, match="is there twice"):
        parsed(content, "mine", "f.yaml")


def test_the_page_on_tables_names_every_key() -> None:
    page = (Path(__file__).parents[2] / "docs" / "tables.md").read_text()
    assert all(f"`{key}`" in page for key in (*REQUIRED, *OPTIONAL))


def test_the_work_in_a_head_is_what_the_script_counts() -> None:
    script = loaded("table_work")
    for name in ("hinton_mnist", "keras_example", "pytorch_tutorial"):
        path = shipped() / "table" / f"{name}.yaml"
        assert work_of(path) == float(f"{script.work_of_all(name):.1e}")


def test_every_head_says_how_much_work_a_table_is() -> None:
    assert all(work_of(shipped() / "table" / f"{name}.yaml") for name in NAMES)
