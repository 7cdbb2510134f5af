"""Mistakes that every command may meet: each is one line, before anything is planned or trained."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import kdrun.plan.plan
from kdrun.cli import main
from kdrun.commands import ranked
from kdrun.commands.pages import PAGES
from kdrun.config.arguments import parse
from kdrun.errors import KdrunError
from kdrun.ranks import Ranks

UNREADABLE = [
    *(
        "recipe.*.milestones=[7,9]",
        "~loss.*",
        "seed*=1",
        "[x]=1",
        "sé=1",
        "a b=1",
        "==",
        "/seed=1",
        "seed/=1",
    ),
    *(
        "x=[1",
        "teacher.seed={a",
        "epochs=[",
        "temperature=interval(1)",
        "temperature=\udc80",
        "lr=(1",
        "alpha=choice(",
    ),
]

OTHERS = {name: [name] for name in PAGES if name not in ("completion", "help", "version")}
COMMANDS = {
    **OTHERS,
    "-m": ["-m", "temperature=1,2"],
    "--cfg": ["--cfg", "job"],
    "check -m": ["check", "-m", "teacher=cnn_digits,cnn_digits_small"],
    "table": ["table", "keras_example", "--list"],
    "tune": ["tune", "temperature=1,2"],
    "look": ["look", "none"],
    "predict": ["predict", "none"],
    "export": ["export", "none"],
    "compare": ["compare", "none"],
}
"""How each command begins that takes keys, runs or paths."""

WITH_KEYS = ("run", "-m", "--cfg", "check", "check -m", "table", "tune")


@pytest.fixture(autouse=True)
def nothing_is_planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ground(*_: object) -> None:
        raise AssertionError("a run was planned")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(kdrun.plan.plan, "ground", ground)


@pytest.fixture
def line(capsys: pytest.CaptureFixture[str]) -> Callable[[Sequence[str]], str]:
    """The one line of a mistake."""

    def of(words: Sequence[str]) -> str:
        assert main(list(words)) in (1, 2), words
        said = [
            each for each in capsys.readouterr().err.splitlines() if not each.startswith(("checking", "$ "))
        ]
        assert len(said) == 1, (words, said)
        return said[0]

    return of


@pytest.mark.parametrize("name", COMMANDS)
def test_what_cannot_be_read_is_one_line(name: str, line: Callable[[Sequence[str]], str]) -> None:
    if name in ("explain", "list"):  # which answer questions of any word
        return
    for override in UNREADABLE:
        said = line([*COMMANDS[name], override])
        if name in WITH_KEYS and override != "==":
            key = override.partition("=")[0]
            assert said.startswith(key.encode("ascii", "backslashreplace").decode()) or key == "sé", said
            assert "cannot be read" in said or key.startswith("/"), said


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in WITH_KEYS])
def test_the_home_of_nobody_is_no_such_file(name: str, line: Callable[[Sequence[str]], str]) -> None:
    if name not in ("explain", "list"):
        assert line([*COMMANDS[name], "~nobody-has-this-name/x"])


@pytest.mark.parametrize(
    "key", ["teacher.checkpoint", "dataset.unlabelled", "dataset.labelled", "--config-dir"]
)
def test_the_home_of_nobody_as_a_value(key: str, line: Callable[[Sequence[str]], str]) -> None:
    assert line([f"{key}=~nobody-has-this-name/x"]).startswith(f"{key}=~nobody-has-this-name/x: no such f")


@pytest.mark.parametrize("command", ["kdrun 'seed=1", "", "kdrun table", "kdrun table --format"])
def test_a_recorded_command_that_is_damaged_is_one_line(
    command: str, tmp_path: Path, line: Callable[[Sequence[str]], str]
) -> None:
    run, table = tmp_path / "run", tmp_path / "table"
    for folder in (run, table / "calls", table / "jobs"):
        folder.mkdir(parents=True)
    content = json.dumps({"kdrun": "0", "command": command, "trainings": []})
    (run / "plan.json").write_text(content)
    (table / "calls" / "one.json").write_text(content)
    assert command == "kdrun table" or line(["continue", str(run)]).split(": ")[1]
    assert line(["report", str(table)])


def test_all_paths_are_expanded_by_the_function_that_knows_nobody() -> None:
    package = Path(kdrun.plan.plan.__file__).parents[1]
    own = [path.name for path in package.rglob("*.py") if ").expanduser(" in path.read_text()]
    assert not own, own


ENGINES = [name for name in WITH_KEYS if name != "--cfg"]


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_that_cannot_work_is_refused_before_the_plan(
    name: str, line: Callable[[Sequence[str]], str]
) -> None:
    own = [word for word in COMMANDS[name] if word != "--list"]
    assert line([*own, "+engine.gpus=1"]) == "engine.gpus: engine auto has no such argument"


def test_torchrun_refuses_keys_of_another_engine_before_the_plan() -> None:
    with pytest.raises(KdrunError, match=r"^engine\.gpus: engine auto has no such argument"):
        ranked._run(parse(["+engine.gpus=1"]), Ranks())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("quantise=int8", "quantise=int8: a table has no figures of int8; a run or a sweep has them"),
        ("int8.epochs=3", "int8.epochs=3: a table has no figures of int8; a run or a sweep has them"),
        ("engine.partition=x", "engine.partition=x: no such key here, only with engine=slurm"),
        ("seed=range(0,1e99)", "seed=range(0,1e99): has more than 1,000 values"),
        ("method=glob(k*)", "method=glob(k*): a name is needed, or several: a,b"),
        ("threads=1,2", "threads=1,2: several values: to run each, add -m; for a list, [brackets]"),
    ],
)
def test_what_no_cell_of_a_table_takes_is_said_of_the_first(
    word: str, said: str, line: Callable[[Sequence[str]], str]
) -> None:
    assert line(["table", "crd1", word]) == said
