"""What a search may choose from, read from what is typed."""

from __future__ import annotations

import math
from typing import Any

import pytest

from kdrun.commands.tune import read
from kdrun.config.space import Choices, Interval, SearchedKey, Space, swept
from kdrun.errors import KdrunError


def space_of(*words: str) -> Space:
    return read(words).space


@pytest.mark.parametrize(
    ("given", "values"),
    [
        ("interval(1,16)", Interval(1.0, 16.0)),
        ("int(interval(1,16))", Interval(1, 16, whole=True, step=1)),
        ("tag(log, interval(1e-4,0.1))", Interval(1e-4, 0.1, log=True)),
        ("tag(log, int(interval(1,64)))", Interval(1, 64, log=True, whole=True, step=1)),
        ("range(1,10,2)", Interval(1, 9, whole=True, step=2)),
        ("range(0,1,0.25)", Interval(0, 0.75, step=0.25)),
        ("4,8,16", Choices(("4", "8", "16"))),
        ("choice(4,8)", Choices(("4", "8"))),
    ],
)
def test_a_space_in_hydras_grammar(given: str, values: Any) -> None:
    (key,) = space_of(f"temperature={given}").keys
    assert key == SearchedKey("temperature", given, values)


def test_seeds_are_repeated_and_the_rest_is_fixed() -> None:
    found = space_of("alpha=0.1,0.5", "seed=0,1", "teacher.seed=3,4", "method=dkd", "alpha=0.2,0.4")
    assert [key.given for key in found.keys] == ["0.2,0.4"]  # the later one counts
    assert found.repeats[0] == ("seed=0", "teacher.seed=3") and len(found.repeats) == 4
    assert found.fixed == ("method=dkd",)
    assert space_of("alpha=0.1,0.5").repeats == ((),)


def test_a_file_may_hold_the_space() -> None:
    assert [key.name for key in space_of("sweep=alpha").keys] == ["alpha"]


def test_names_of_files_are_matched() -> None:
    (key,) = space_of("method=glob(dkd*)").keys
    assert key.values == Choices(("dkd", "dkd_std"))


def test_numbers_are_as_short_as_they_are_tried() -> None:
    assert Interval(1.0, 16.0).rounded(3.7264518) == 3.73
    assert Interval(0.0, 1.0).rounded(0.123456) == 0.123
    assert Interval(1e-4, 0.1, log=True).rounded(0.00123456) == 0.00123
    assert Interval(1, 16, whole=True, step=1).rounded(3.0) == 3
    assert Interval(0.12342, 1.0).rounded(0.123421) == 0.12342  # not below the end
    assert Interval(0, 5000.0).rounded(1234.4) == 1234


def test_a_value_without_a_search_is_found_in_its_space() -> None:
    rate, model, step = space_of(
        "recipe.student.lr=interval(0,1)", "method=kd,dkd", "alpha=range(0,1,0.25)"
    ).keys
    assert rate.like(0.03) == 0.03 and rate.like(2) is None and rate.like(None) is None
    assert model.like("kd") == "kd" and model.like("at") is None
    assert step.like(0.5) == 0.5 and step.like(0.6) is None


def test_a_setting_is_typed_and_read_as_the_configuration_has_it() -> None:
    found = space_of("temperature=interval(1,16)", "method=kd,dkd", "seed=0,1")
    setting = {"temperature": 2.5, "method": "dkd"}
    assert found.overrides(setting) == ("temperature=2.5", "method=dkd")
    assert swept(found, setting, ("seed=1",)) == {"temperature": 2.5, "method": "dkd", "seed": 1}


def test_the_size_of_a_space() -> None:
    assert space_of("alpha=0.1,0.5", "temperature=range(1,5)").size == 8
    assert space_of("alpha=interval(0,1)", "method=kd,dkd").size == math.inf


def test_what_changes_no_result_is_no_other_search() -> None:
    plain, more = (
        space_of("alpha=interval(0,1)"),
        space_of("alpha=interval(0,1)", "outputs_dir=x", "threads=1"),
    )
    assert plain.described == more.described != space_of("alpha=interval(0,1)", "method=dkd").described


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        (
            "alpha=interval(0,1) seed=range(0,1000000000)",
            "seed=range(0,1000000000): has more than 1,000 values",
        ),
        (
            "temperature=shuffle(range(1,1000000000))",
            "temperature=shuffle(range(1,1000000000)): has more than 1,000 values",
        ),
        ("seed=0,1 method=dkd", "kdrun tune: no key is searched: at least one is a list a,b or an interval"),
        ("temperature=interval(5,1)", "temperature=interval(5,1): the first number must be below the second"),
        ("temperature=interval(1,1)", "temperature=interval(1,1): the first number must be below"),
        ("temperature=interval(1,inf)", "temperature=interval(1,inf): both ends must be finite"),
        (
            "temperature=interval(1)",
            "temperature=interval(1): cannot be read: an interval is interval(LOW,HIGH)",
        ),
        (
            "alpha=tag(log,interval(0,1))",
            "alpha=tag(log,interval(0,1)): a logarithmic interval begins above 0",
        ),
        ("alpha=tag(lug,interval(0,1))", "alpha=tag(lug,interval(0,1)): no such tag as lug. Choices: log"),
        ("method=tag(log,choice(kd,at))", "method=tag(log,choice(kd,at)): choices have no order"),
        ("alpha=tag(log,range(1,5))", "alpha=tag(log,range(1,5)): a range has steps"),
        ("alpha=range(1,2)", "alpha=range(1,2): fewer than two numbers are in it"),
        ("alpha=choice(0.5)", "alpha=choice(0.5): one value leaves nothing to choose"),
        ("method=glob(zz*)", "method=glob(zz*): no name matches it"),
        (
            "method=interval(0,1)",
            "method=interval(0,1): names are needed, not an interval: method=NAME,NAME.",
        ),
        ("seed=interval(0,5)", "seed=interval(0,5): is repeated within each trial, so a list is needed"),
        ("dataset=digits,mnist", "dataset=digits,mnist: changes the images"),
        ("dataset.validation=50,100", "dataset.validation=50,100: changes the images"),
        ("int8.lr=0.1,0.2 quantise=int8", "int8.lr=0.1,0.2: trials are compared without int8; the best one"),
        ("alpha=0.1,0.5 seed=range(1,0)", "seed=range(1,0): there is no number in it"),
        ("alpha=0.1,0.5 seed=range(0,1e99)", "seed=range(0,1e99): has more than 1,000 values"),
        ("method=glob(nothing*)", "method=glob(nothing*): no name matches it"),
        ("quantise=int8,null", "quantise=int8,null: trials are compared without int8"),
        ("experiment=a,b", "experiment=a,b: may change the images too"),
        ("runtime.jobs=1,2", "runtime.jobs=1,2: changes no result"),
        ("stages=[student]", "stages=[student]: kdrun tune sets the stages itself"),
        ("--trials=0", "--trials=0: must be a whole number from 1"),
        ("--minutes=soon", "--minutes=soon: must be a number above 0"),
        ("--sampler-seed=-1", "--sampler-seed=-1: must be a whole number from 0"),
        ("--name=a/b", "--name=a/b: letters, digits, - _ . only"),
        ("--trails=3", "--trails: no such flag. Nearest: --trials"),
        ("--pruner=hyperband", "--pruner=hyperband: no such choice. Choices: median, none"),
    ],
)
def test_a_bad_space_is_one_line(typed: str, line: str) -> None:
    words = typed.split()
    if words[0].startswith("-") or words[0].startswith("stages"):
        words.append("alpha=interval(0,1)")
    with pytest.raises(KdrunError) as error:
        read(words)
    assert str(error.value).startswith(line) and "\n" not in str(error.value)
