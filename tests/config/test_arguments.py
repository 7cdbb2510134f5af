"""Flags and overrides in any order; a sweep's file makes a sweep."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdrun.config.arguments import parse
from kdrun.config.files import heading, refuse_clashes
from kdrun.errors import KdrunError


def test_flags_may_stand_anywhere() -> None:
    typed = parse(["seed=1", "-m", "temperature=1,2", "--config-dir", "mine", "~loss.hard"])
    assert typed.many and not typed.shows
    assert typed.overrides == ("seed=1", "temperature=1,2", "~loss.hard")
    assert typed.config_dir == Path("mine")


def test_a_value_may_follow_an_equals_sign() -> None:
    assert parse(["--cfg=job", "seed=1", "--resolve"]).shows == ("--cfg", "job", "--resolve")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--mltirun"], "--mltirun: no such flag. Nearest: --multirun"),
        (["--cfg"], "--cfg: needs a value. Choices: job, hydra, all"),
        (["--cfg", "jobs"], "--cfg=jobs: no such choice. Choices: job, hydra, all"),
        (["--config-dir"], "--config-dir: needs a value"),
        (["--cfg", "job", "-m"], "--cfg: shows one configuration, so without -m"),
        (["-sc"], '-sc: says what to do for completion: eval "$(kdrun -sc install=bash)"'),
    ],
)
def test_unknown_flags_are_one_line(words: list[str], line: str) -> None:
    with pytest.raises(KdrunError) as error:
        parse(words)
    assert str(error.value).startswith(line)


def test_a_sweep_file_makes_a_sweep() -> None:
    typed = parse(["sweep=temperature"])
    assert typed.many and typed.params == {"temperature": "1,2,4,8,16"}
    assert not parse(["sweep=null"]).overrides
    assert not parse(["experiment=tutorial_cifar10"]).many


def test_an_experiment_that_sweeps_over_experiments_is_replaced_by_them() -> None:
    typed = parse(["experiment=digits_parts", "seed=0,1"])
    assert typed.many
    assert typed.words == ("experiment=digits_parts", "seed=0,1")
    first, seeds = typed.overrides
    assert first.startswith("experiment=parts/whole,") and seeds == "seed=0,1"


def test_a_sweep_is_not_run_where_it_is_only_to_be_shown() -> None:
    assert not parse(["sweep=temperature", "--cfg", "job"]).many


@pytest.mark.parametrize("plus", ["+", "++"])
def test_a_plus_before_what_each_run_has_one_of_is_left_out(plus: str) -> None:
    typed = parse([f"{plus}experiment=digits_parts", f"{plus}method=kd", "+loss@loss.hint=fitnet"])
    assert typed.many and typed.overrides[0].startswith("experiment=parts/whole,")
    assert typed.overrides[1:] == ("method=kd", "+loss@loss.hint=fitnet")


def test_the_first_comment_that_is_not_hydras_describes_a_file(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("# @package _global_\n# What it is | Paper, 2020\n# more\nname: x\n")
    assert heading(path) == ("What it is", "Paper, 2020")
    path.write_text("name: x\n# no heading\n")
    assert heading(path) == ("", "")


@pytest.mark.parametrize("path", ["method/kd.yaml", "model/resnet18.yaml", "recipe/quick.yaml"])
def test_a_file_of_a_shipped_name_is_refused_since_it_would_be_ignored(tmp_path: Path, path: str) -> None:
    own = tmp_path / path
    own.parent.mkdir()
    own.write_text("name: x\n")
    with pytest.raises(KdrunError, match=r"kdrun has a .* of this name; give yours another"):
        refuse_clashes(tmp_path, ("resnet18",))
    own.rename(own.with_name("mine.yaml"))
    refuse_clashes(tmp_path, ("resnet18",))


def test_a_range_is_named_as_hydra_writes_it() -> None:
    problem = r"seed=0:3: is no range: write 'seed=range\(0,3\)', with -m; 3 is left out"
    with pytest.raises(KdrunError, match=problem):
        parse(["-m", "seed=0:3"])
