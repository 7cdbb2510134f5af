"""Names and paths are read as they are typed, whatever Hydra's grammar makes of them."""

from __future__ import annotations

import pytest

from kdrun.config.arguments import parse
from kdrun.config.compose import single
from kdrun.config.overrides import quoted, readable
from kdrun.config.sweep import jobs
from kdrun.errors import KdrunError

pytestmark = pytest.mark.usefixtures("hydra_composes_each")

PATHS = (
    "/home/j\u00f6rg/o", "\u65e5\u672c/d", "run(1).pt", "x~1", "it's", 'a"b', "a b", " a", "a#b", "runs (1)",
    "epoch=3-step=10.ckpt", "a\\b", "a\\", "[run] 1", "{x} 1", "2024", "007", "1e3", "true", "null_x", "a:b",
    "50%", "a!b", "a&b", "a;b", "'a", "x=", "\U0001f600",
)  # fmt: skip


KEYS = ("dataset.path", "outputs_dir", "data_dir", "note")


@pytest.mark.parametrize("first", range(0, len(PATHS), len(KEYS)))
@pytest.mark.parametrize("several", [[], ["-m"]])
def test_a_path_is_what_was_typed(first: int, several: list[str]) -> None:
    paths = PATHS[first : first + len(KEYS)]
    typed = parse([*several, *map("=".join, zip(KEYS, paths, strict=True)), "dataset=imagefolder"])
    if several:
        typed = typed._replace(overrides=jobs(typed.overrides)[0].overrides)
    run = single(typed).run
    assert (run.dataset["path"], run.outputs_dir, run.data_dir, run.note) == paths


@pytest.mark.parametrize(
    ("override", "same"),
    [
        ("outputs_dir='a,b'", "a quoted text"),
        ("outputs_dir=/home/x/o", "nothing to quote"),
        ("teacher.checkpoint=null", "no checkpoint"),
        ("data_dir=${oc.env:HOME}/d", "refers to something else"),
        ("temperature=x~1", "no path"),
        ("dataset.labelled=5", "a number"),
        ("dataset.mean=[0.5", "a list with a mistake"),
        ("outputs_dir=a,b", "several values without -m, which Hydra refuses"),
        ("~loss.hard", "no value"),
        ("engine.setup", "a list without a value"),
        ("+packages", "a list without a value"),
        ("dataset.path", "a path without a value"),
    ],
)
def test_what_is_meant_for_hydra_stays_as_it_is(override: str, same: str) -> None:
    assert readable(override) == override, same


def test_each_value_of_a_sweep_is_quoted() -> None:
    assert (
        readable("teacher.checkpoint=run(1).pt,b.pt", several=True) == "teacher.checkpoint='run(1).pt',b.pt"
    )
    assert readable("dataset.path=2023,2024", several=True) == "dataset.path='2023','2024'"
    assert readable("dataset.path=a,b", several=True) == "dataset.path=a,b"
    assert readable("method=glob(a*)", several=True) == "method=glob(a*)"
    assert readable("dataset.labelled=3,0.5", several=True) == "dataset.labelled=3,0.5"


def test_quotes_are_escaped() -> None:
    assert quoted("it's") == r"'it\'s'"


@pytest.mark.parametrize("value", ["a(1)", "a~1", "[1,2"])
def test_other_values_are_told_how_to_quote(value: str) -> None:
    with pytest.raises(KdrunError) as error:
        single(parse([f"temperature={value}"]))
    assert str(error.value) == (
        f"temperature={value}: cannot be read. Lists [a,b] and mappings {{a: 1}} need quotes in a shell; "
        f"as a text: 'temperature=\"{value}\"'"
    )


@pytest.mark.parametrize("key", ["outputs_dir", "data_dir"])
def test_a_tilde_is_the_users_folder(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/x")
    runs = [single(parse([f"{key}={path}"])).run for path in ("~", "~/o", "x~/o")]
    assert [getattr(run, key) for run in runs] == ["/home/x", "/home/x/o", "x~/o"]
