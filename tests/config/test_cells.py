"""Cells that a command line chooses: names, seeds, own overrides; a mistake is one line."""

from __future__ import annotations

import pytest

from kdrun.config.cells import asked
from kdrun.config.tables import read
from kdrun.errors import KdrunError

CRD = read("crd1")
PAIR = "resnet32x4-resnet8x4"


def test_pairs_methods_and_seeds_are_chosen_in_the_tables_own_order_of_pairs() -> None:
    cells = asked(CRD, [f"pair={PAIR},wrn_40_2-wrn_16_2", "method=kd,crd+kd", "seed=range(3,5)"])
    jobs = list(cells.jobs())
    assert [tuple(job.swept.values()) for job in jobs[:4]] == [
        (PAIR, "kd", 3), (PAIR, "crd+kd", 3), (PAIR, "kd", 4), (PAIR, "crd+kd", 4),
    ]  # fmt: skip
    assert len(jobs) == 8 and not cells.reduced and cells.name == "crd1"


def test_without_a_choice_all_cells_and_the_seeds_of_the_table() -> None:
    cells = asked(CRD, [])
    assert len(list(cells.jobs())) == len(CRD.places()) * len(CRD.seeds)


def test_own_keys_make_another_experiment_unless_they_change_no_result() -> None:
    same = asked(CRD, [f"pair={PAIR}", "outputs_dir=x", "runtime.jobs=2", "engine=here"])
    less = asked(CRD, [f"pair={PAIR}", "recipe.student.epochs=2"])
    plain = asked(CRD, [f"pair={PAIR}"])
    names = [{job.name for job in cells.jobs()} for cells in (plain, same, less)]
    assert names[0] == names[1] and not names[0] & names[2]
    assert same.name == plain.name == "crd1" != less.name
    assert less.reduced == ("recipe.student.epochs=2",)
    assert all("recipe.student.epochs=2" in job.overrides for job in less.jobs())


def test_two_spellings_of_one_reduction_are_one_folder() -> None:
    first, second = (asked(CRD, [f"recipe.student.lr={text}"]) for text in ("0.01", "1e-2"))
    assert first.name == second.name


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["pair=resnet8"], "pair=resnet8: table crd1 has no such pair. Nearest: "),
        (["method=kdd"], "method=kdd: table crd1 has no such method. Nearest: "),
        (["method=student"], "method=student: comes with every other method; choose one of these. Nearest: "),
        (["method=cc"], "method=cc: kdrun lacks the loss that the published weight 0.02 belongs to"),
        (["seed=-1"], "seed=-1: a whole number from 0 is needed"),
        (["seed=a"], "seed=a: a whole number from 0 is needed"),
        (["seed=interval(0,1)"], "seed=interval(0,1): a name is needed, or several: a,b"),
        (["seed=range(0,1000000000)"], "seed=range(0,1000000000): has more than 1,000 values"),
        (["teacher=resnet20"], "teacher=resnet20: a cell of table crd1 sets it: pair=, method=, seed="),
        (["sweep=seeds"], "kdrun table: a sweep is kdrun -m; a table has cells: pair=, method=, seed="),
    ],
)
def test_mistakes(words: list[str], line: str) -> None:
    with pytest.raises(KdrunError) as raised:
        list(asked(CRD, words).jobs())
    assert str(raised.value).startswith(line)
