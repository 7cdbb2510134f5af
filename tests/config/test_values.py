"""Numbers and texts that no key can mean: one line each, before anything is allocated."""

from __future__ import annotations

import pytest

from kdrun.config.arguments import parse
from kdrun.config.compose import single
from kdrun.config.values import LARGEST, MOST_SEED, most_of, refuse_unusable_numbers
from kdrun.errors import KdrunError
from kdrun.nested import places
from tests.config.composed import composed

HUGE = "1" + "0" * 30


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("dataset.mean=nan", "finite"),
        ("dataset.std=inf", "finite"),
        ("dataset.white=inf", "finite"),
        ("recipe.student.clip=inf", "finite"),
        ("recipe.teacher.lr=nan", "finite"),
        ("temperature=inf", "finite"),
        ("alpha=nan", "finite"),
        ("+dataset.noise=nan", "finite"),
        ("loss.soft.weight={from:0,to:inf,epochs:2,shape:linear}", "finite"),
        (f"threads={HUGE}", "too large"),
        (f"seed={HUGE}", "too large"),
        (f"teacher.seed={HUGE}", "too large"),
        (f"dataset.split={HUGE}", "too large"),
        (f"+dataset.image_seed={HUGE}", "too large"),
        ("runtime.cache_gb=1e300", "too large"),
        ("runtime.jobs=100000", "too large"),
        ("generations=100000", "too large"),
        ("student.args.widths=[1000000000,8]", "too large"),
        (f"recipe.student.epochs={HUGE}", "too large"),
        ("stages=[[teacher]]", "a name is needed"),
        ("packages=[[x]]", "a name is needed"),
        ("tags=[[a]]", "a name is needed"),
        ("tags=[{a:1}]", "a name is needed"),
        ("evaluation.batches=[[1]]", "a whole number is needed"),
        ("recipe.student.betas=[[0.9],0.99]", "a number is needed"),
        ("transfer_classes=[[3]]", "a name or a number is needed"),
        ("name=''", "is empty; for none: name=null"),
        ("name=' '", "is empty"),
        ("tags=[' ']", r"is empty; for none: tags=\[\]"),
        ("name=a/b", "as a path or an option"),
        ("name=-m", "as a path or an option"),
        ("name=..", "as a path or an option"),
        (f"name={'a' * 201}", "one line of at most 200"),
        ("dataset.name=[a]", "a name is needed"),
    ],
)
def test_one_line_that_names_the_key(override: str, problem: str) -> None:
    key = override.lstrip("+").partition("=")[0]
    with pytest.raises(KdrunError, match=problem) as raised:
        composed(f'"{override}"')
    text = str(raised.value)
    assert text.startswith(key) and "\n" not in text and len(text) < 300


def test_what_can_be_meant_passes() -> None:
    refuse_unusable_numbers({"seed": MOST_SEED, "recipe": {"lr": 1e-12}, "x": [LARGEST, None, True, "text"]})
    assert most_of("dataset.image_seed") == most_of("seed") == MOST_SEED
    assert most_of("seedling") == LARGEST
    nested = {"a": {"b": [1, {"c": 2.5}]}, "d": True}
    assert dict(places(nested)) == {("a", "b", 0): 1, ("a", "b", 1, "c"): 2.5, ("d",): True}


@pytest.mark.parametrize("folder", ["a\x1b[31m", "a\nb", "a\u202eb"])
@pytest.mark.parametrize("key", ["outputs_dir", "data_dir"])
def test_folders_have_printable_letters(key: str, folder: str) -> None:
    with pytest.raises(KdrunError, match="printable letters is needed") as raised:
        single(parse([f"{key}={folder}"]))
    assert str(raised.value).isprintable()


@pytest.mark.parametrize("override", ["note='two\nlines'", "name='a\x1bb'", "tags=['\x07']"])
def test_what_is_no_line(override: str) -> None:
    with pytest.raises(KdrunError, match="one line of at most"):
        single(parse([override]))


def test_names_that_people_give_pass() -> None:
    run = single(parse(["name=jörg's best (1)", "note=after lunch", "tags=[paper,2]"])).run
    assert (run.name, run.note, run.tags) == ("jörg's best (1)", "after lunch", ["paper", "2"])
