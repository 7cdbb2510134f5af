"""Words that people type: short keys, single values for lists, schedules, other tools' names for keys."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kdrun.config.arguments import parse
from kdrun.config.cells import asked
from kdrun.config.keys import Key, keys
from kdrun.config.schema import Remarks, Run
from kdrun.config.sweep import composed_jobs
from kdrun.config.tables import read
from kdrun.config.words import ADVICE, SYNONYMS, meant
from kdrun.errors import KdrunError
from kdrun.plan.words import pairs
from tests.config.composed import composed


def run_of(line: str) -> Run:
    return replace(composed(line).run, remarks=Remarks())


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("epochs=3", "recipe.teacher.epochs=3 recipe.student.epochs=3"),
        ("batch=16 lr=0.1", "recipe.{0}.batch=16 recipe.{0}.lr=0.1"),
        ("epochs=3 recipe.student.epochs=5", "recipe.teacher.epochs=3 recipe.student.epochs=5"),
        ("recipe.student.epochs=5 epochs=3", "recipe.teacher.epochs=3 recipe.student.epochs=5"),
        ("assistant=cnn_digits_medium epochs=3", "assistant=cnn_digits_medium recipe.{0}.epochs=3"),
        ("recipe=crd epochs=3", "recipe=crd recipe.{0}.epochs=3"),
        ("stages=teacher", "stages=[teacher]"),
        ("diagnostics=gradients evaluation.batches=4", "diagnostics=[gradients] evaluation.batches=[4]"),
        ("evaluation.figures=accuracy", "evaluation.figures=[accuracy]"),
        ("recipe.student.milestones=3", "recipe.student.milestones=[3]"),
        ("alpha=0.9..0@40", "alpha={from:0.9,to:0.0,epochs:40.0,shape:linear}"),
        ("alpha=0.9..1e-1@4:cosine", "alpha={from:0.9,to:0.1,epochs:4.0,shape:cosine}"),
        ("loss.soft.weight=0..1@20", "loss.soft.weight={from:0.0,to:1.0,epochs:20.0,shape:linear}"),
    ],
)
def test_a_short_form_is_the_run_of_the_long_one(short: str, long: str) -> None:
    both = " ".join(
        " ".join(word.format(role) for role in ("teacher", "student")) if "{0}" in word else word
        for word in long.split()
    )
    assert run_of(short) == run_of(both)


def test_the_header_names_the_keys_that_a_short_one_stands_for() -> None:
    spelled = composed("epochs=3 lr=0.1 recipe.student.lr=0.2").run.remarks.spelled
    assert list(pairs(spelled)) == [
        "recipe.teacher.epochs=3  recipe.student.epochs=3",
        "recipe.teacher.lr=0.1",
    ]
    assert composed("seed=1").run.remarks.spelled == []


def test_a_short_key_is_swept_as_one() -> None:
    jobs, loaded = composed_jobs(parse(["-m", "epochs=3,6", "logger=tensorboard"]))
    assert [job.swept for job in jobs] == [{"epochs": 3}, {"epochs": 6}]
    recipes = [each.run.recipe for each in loaded if not isinstance(each, KdrunError)]
    assert [(r.teacher.epochs, r.student.epochs) for r in recipes] == [(3, 3), (6, 6)]


def test_a_table_takes_short_keys_as_long_ones() -> None:
    table = read("crd1", None)
    words = ["pair=vgg13_cifar-vgg8", "method=kd,ab", "seed=0"]
    short = asked(table, [*words, "epochs=24"])
    long = asked(table, [*words, "recipe.teacher.epochs=24", "recipe.student.epochs=24"])
    assert short.name == long.name and list(short.jobs()) == list(long.jobs())


def test_single_values_of_a_sweep() -> None:
    assert parse(["-m", "stages=teacher,student"]).overrides == ("stages=[teacher],[student]",)
    assert parse(["-m", "stages=[teacher],[student]"]).overrides == ("stages=[teacher],[student]",)
    assert parse(["stages=[teacher,student]"]).overrides == ("stages=[teacher,student]",)
    assert parse(["logger=null"]).overrides == ("logger=null",)


@pytest.mark.parametrize(
    ("words", "quoted"),
    [
        (["loss.soft.weight=from:0", "loss.soft.weight=to:1"], "'loss.soft.weight={from: 0, to: 1}'"),
        (["dataset.train_args={root:", "pictures}", "seed=1"], "'dataset.train_args={root: pictures}'"),
        (["stages=[teacher,", "student]"], "'stages=[teacher, student]'"),
    ],
)
def test_what_a_shell_took_apart_is_to_be_quoted(words: list[str], quoted: str) -> None:
    with pytest.raises(KdrunError, match="quote it") as caught:
        parse(words)
    assert quoted in str(caught.value)


def test_one_piece_of_a_mapping_is_to_be_quoted() -> None:
    with pytest.raises(KdrunError, match=r"quote it: 'alpha=\{from: 0, to: 1, epochs: 20\}'"):
        composed("alpha=shape:linear")


def both(last: str) -> list[str]:
    return [f"recipe.{role}.{last}" for role in ("teacher", "student")]


@pytest.mark.parametrize(
    ("typed", "keys"),
    [
        ("batch_size", ["batch", *both("batch")]),
        ("optimizer", both("optimiser")),
        ("recipe.epochs", both("epochs")),
        ("recipe.student.batch_size", ["recipe.student.batch"]),
        ("T", ["temperature"]),
        ("--temperature", ["temperature"]),
        ("gpu", ["device"]),
        ("num-workers", ["runtime.workers"]),
        ("pretrained", ["teacher.pretrained", "student.pretrained", "reference.pretrained"]),
        ("augmentation", ["dataset.views.name"]),
        ("dataset.augment", ["dataset.views.name"]),
        ("nonsense", []),
    ],
)
def test_what_is_meant(typed: str, keys: list[str]) -> None:
    assert meant(typed) == keys


def test_arguments_of_terms_are_meant_too() -> None:
    with pytest.raises(KdrunError, match=r"beta=3: no such key. Is it loss\.dkd\.beta\?"):
        composed("method=dkd beta=3")


def test_synonyms_lead_to_keys_and_are_none_themselves() -> None:
    names = {key.name for key in keys()}
    lasts = {key.last for key in keys()}
    every = [word for words in SYNONYMS.values() for word in words]
    assert len(every) == len(set(every)) and not set(every) & set(ADVICE)
    assert not set(every) & {name for name in names if "." not in name}
    for target in SYNONYMS:
        assert target in names or target in lasts, target


def test_every_key_is_explained() -> None:
    assert [key.name for key in keys() if not key.comment] == []
    assert all(isinstance(key, Key) for key in keys()) and len(keys()) > 200
