"""What a sweep's jobs are: combinations, their names, the folder's name, and what cannot be swept."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

import pytest

from kdrun.config.arguments import parse
from kdrun.config.files import entries, shipped
from kdrun.config.load import Loaded
from kdrun.config.sweep import Job, composed_jobs, folder_name, jobs, plain
from kdrun.errors import KdrunError
from kdrun.figures import as_typed


def swept(line: str) -> list[dict[str, Any]]:
    return [job.swept for job in composed_jobs(parse(["-m", *shlex.split(line)]))[0]]


def job(*overrides: str, **values: Any) -> Job:
    return Job(overrides, values)


@pytest.mark.parametrize(
    ("line", "values"),
    [
        (["seed=range(0,3)"], [{"seed": 0}, {"seed": 1}, {"seed": 2}]),
        (["seed=range(6,0,-3)"], [{"seed": 6}, {"seed": 3}]),
        (["alpha=range(0,1,0.4)"], [{"alpha": 0.0}, {"alpha": 0.4}, {"alpha": 0.8}]),
        (["seed=choice(1,4)"], [{"seed": 1}, {"seed": 4}]),
        (["seed=sort(4,1)"], [{"seed": 1}, {"seed": 4}]),
        (["method=kd,dkd", "seed=3"], [{"method": "kd"}, {"method": "dkd"}]),
        (["alpha={from: 0, to: 1},0.5"], [{"alpha": {"from": 0, "to": 1}}, {"alpha": 0.5}]),
        (["+loss@loss.hint=fitnet,feature"], [{"loss@loss.hint": "fitnet"}, {"loss@loss.hint": "feature"}]),
        (["seed=7"], [{}]),
        (["seed=0,1", "seed=2"], [{}]),
        (["temperature=2,2.0,3"], [{"temperature": 2}, {"temperature": 3}]),
    ],
)
def test_what_can_be_swept(line: list[str], values: Sequence[dict[str, Any]]) -> None:
    assert [job.swept for job in jobs(line)] == values


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("seed=interval(0,1)", "seed=interval(0,1): holds no end of values"),
        ("seed=range(1,1)", "seed=range(1,1): there is no number in it: from the first, up to"),
        ("seed=range(5,0)", "seed=range(5,0): there is no number in it"),
        ("seed=range(0,5,0)", "seed=range(0,5,0): needs finite numbers, and a step that is not 0"),
        ("alpha=range(0.0,1.0,0.0)", "alpha=range(0.0,1.0,0.0): needs finite numbers"),
        ("alpha=range(0,inf)", "alpha=range(0,inf): needs finite numbers"),
        ("seed=range(0,1000000000000)", "-m: 1,000,000,000,000 jobs are more than 1,000. To"),
        ("seed=range(0,11) alpha=range(0,1,0.01)", "-m: 1,100 jobs are more than 1,000."),
    ],
)
def test_what_cannot_be_swept(line: str, error: str) -> None:
    with pytest.raises(KdrunError) as raised:
        jobs(line.split())
    assert str(raised.value).startswith(error)


def test_as_many_jobs_as_are_asked_for() -> None:
    assert len(jobs(["seed=range(0,1500)"], most=1500)) == 1500
    with pytest.raises(KdrunError, match=r"-m: 4 jobs are more than 3\. To run them all: --max-jobs 4"):
        swept("--max-jobs 3 seed=range(0,4)")
    with pytest.raises(KdrunError, match="--max-jobs=few: must be a whole number from 1"):
        swept("--max-jobs few seed=0,1")


def test_what_has_one_value_stays_as_it_was_typed() -> None:
    assert jobs(["~loss.hard", "outputs_dir='a b'", "seed=0,1"])[0].overrides == (
        "~loss.hard", "outputs_dir='a b'", "seed=0",
    )  # fmt: skip


def test_a_glob_finds_files_of_a_group() -> None:
    assert swept("'method=glob(dk*)'") == [{"method": "dkd"}, {"method": "dkd_std"}]
    with pytest.raises(KdrunError, match="no name matches it"):
        swept("'method=glob(nosuch*)'")


def test_all_combinations_are_composed_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    found, runs = composed_jobs(parse(["-m", "temperature=1,2", "alpha=0.5,0.9"]))
    expected = [(t, a) for t in (1, 2) for a in (0.5, 0.9)]
    assert [(job.swept["temperature"], job.swept["alpha"]) for job in found] == expected
    assert [isinstance(r, Loaded) and (r.run.temperature, r.run.alpha) for r in runs] == expected
    assert capsys.readouterr().out == "checking 4 jobs\n"


def test_a_job_that_does_not_compose_says_why() -> None:
    fine, wrong = composed_jobs(parse(["-m", "recipe=quick,quik"]))[1]
    assert isinstance(fine, Loaded) and isinstance(wrong, KdrunError)
    assert str(wrong).startswith("recipe=quik: no such recipe")


def test_an_experiment_that_sweeps_over_experiments_is_these_experiments() -> None:
    parts = ("whole", "labelled_only", "plain_answers", "self_taught")
    assert swept("experiment=digits_parts") == [{"experiment": f"parts/{part}"} for part in parts]


def test_a_sweep_file_says_the_values_and_typed_ones_replace_them() -> None:
    assert swept("sweep=temperature_alpha temperature=3 seed=5,6") == [
        {"alpha": a, "seed": s} for a in (0.1, 0.5, 0.9) for s in (5, 6)
    ]


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("temperature=2", "temperature=2.0"),
        ("alpha=0.5", "alpha=5e-1"),
        ("alpha={from: 0, to: 1.0}", "alpha={from: 0.0, to: 1}"),
        ("method=kd", "method='kd'"),
        ("control=true", "control=True"),
        ("stages=[teacher,student]", "stages=[teacher, 'student']"),
    ],
)
def test_a_value_is_one_however_it_is_typed(one: str, two: str) -> None:
    assert job(one).name == job(two).name
    assert folder_name(job(one, "seed=1", seed=1)) == folder_name(job(two, "seed=1", seed=1))


def test_other_values_are_other_jobs() -> None:
    assert len({job(f"seed={seed}").name for seed in (1234567, 1234568)}) == 2
    assert len({job(f"alpha={alpha}").name for alpha in ("0.1", "0.10000001", "null")}) == 3


def test_what_changes_no_result_changes_no_name() -> None:
    assert job("seed=1", "outputs_dir=A", "device=cpu").name == job("seed=1", "outputs_dir=B").name
    assert job("device=cpu", device="cpu").name != job("device=cuda", device="cuda").name


def test_the_folder_is_named_by_what_is_swept_and_what_is_fixed() -> None:
    def name(*overrides: str) -> str:
        return folder_name(Job(overrides, {"temperature": 1, "recipe.student.lr": 2}))

    base = name("temperature=1", "alpha=0.5")
    assert base.startswith("temperature-lr-") and len(base) == len("temperature-lr-") + 6
    assert name("alpha=0.5", "recipe.student.lr=3", "temperature=8") == base
    assert name("temperature=1", "alpha=0.5", "fresh=true") == base
    assert name("temperature=1", "alpha=0.6") != base


@pytest.mark.parametrize("name", [entry.name for entry in entries(shipped(), "sweep")])
def test_each_job_of_a_shipped_sweep_composes(name: str) -> None:
    made, loaded = composed_jobs(parse([f"sweep={name}"]))
    assert len(made) > 1 and [each for each in loaded if isinstance(each, KdrunError)] == []


def test_no_two_of_many_jobs_share_a_name() -> None:
    """Six digits were too few: of these, six jobs had the name of another, and were not run."""
    made = jobs(["seed=range(0,100)", "temperature=range(1,101)"], most=10_000)
    assert len(made) == len({job.name for job in made}) == 10_000


@pytest.mark.parametrize("text", ["0", "7", "-7", "007", "-0", "1_000", "1.0", "1e3", "9" * 20, "'7'", "x"])
def test_whole_numbers_are_read_as_by_hydra(text: str) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    (parsed,) = OverridesParser.create().parse_overrides([f"a.b={text}"])
    (job, _) = jobs([f"a.b={text},other"])
    assert job.swept == {"a.b": parsed.value()} and type(job.swept["a.b"]) is type(parsed.value())
    assert plain(f"a.b={text}") == f"a.b={as_typed(parsed.value())}"
