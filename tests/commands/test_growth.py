"""The commands that read a whole store take time in proportion to the number of runs."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import pytest

from kdrun.garbage import uncollected
from tests.commands.many import store
from tests.commands.short import Here

SIZES = (20, 40, 80)
COMMANDS = {
    "outputs": ["outputs", "{root}"],
    "named outputs": ["outputs", "{runs}"],
    "report of runs": ["report", "{root}/runs"],
    "report of all": ["report", "{root}"],
    "report of some": ["report", "{runs}"],
    "cross table": ["report", "{root}/runs", "--rows", "temperature", "--cols", "dataset"],
    "a sweep": ["report", "{root}/sweeps/temperature-0123456789ab", "--format", "csv"],
}


@pytest.fixture(scope="module")
def stores(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root, (run, *_) = tmp_path_factory.mktemp("stores"), sorted(trained.glob("runs/*"))
    return [store(run, root / str(count), count) for count in SIZES]


def calls(here: Here, words: list[str], root: Path) -> int:
    """How many functions a command calls."""
    runs = [str(path) for path in sorted(root.glob("runs/*"))]
    arguments = [one for word in words for one in (runs if word == "{runs}" else [word.format(root=root)])]
    total = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal total
        total += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        code, _, err = here(*arguments)
    finally:
        sys.setprofile(None)
    assert code == 0, err
    return total


@pytest.mark.parametrize("name", COMMANDS)
def test_twice_the_runs_are_twice_the_work(here: Here, stores: list[Path], name: str) -> None:
    calls(here, COMMANDS[name], stores[0])  # imports, and what is kept from then on
    small, middle, large = (calls(here, COMMANDS[name], root) for root in stores)
    assert large - middle < 1.2 * 2 * (middle - small)


MOST = 1200
"""Calls of functions for each run in `kdrun report`: 3,000 runs then take less than 2 s of processor time."""


def test_a_run_in_a_report_costs_few_calls(here: Here, stores: list[Path]) -> None:
    words = COMMANDS["report of runs"]
    calls(here, words, stores[0])
    _, middle, large = (calls(here, words, root) for root in stores)
    assert large - middle < MOST * (SIZES[2] - SIZES[1])


def test_reports_are_read_without_a_search_for_cycles() -> None:
    assert gc.isenabled()
    with uncollected():
        assert not gc.isenabled()
    assert gc.isenabled()
