"""The page about own parts: its files are written into an empty folder, its commands are run there."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdrun.cli import main
from tests.docs.pages import Block, blocks, commands, words

PAGE = "own-parts.md"
SHORT = [
    "recipe.teacher.epochs=1",
    "recipe.student.epochs=1",
    "evaluation.latency=false",
    "evaluation.plots=false",
]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the page's project."""
    root = tmp_path_factory.mktemp("project")
    for block in blocks(PAGE):
        if block.file:
            file = root / block.file
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("\n".join(block.lines) + "\n")
    return root


RUNS = [(block, command) for block in blocks(PAGE) for command, _ in commands(block)]


def test_the_page_has_a_project_and_commands() -> None:
    assert len(RUNS) == 10
    assert len([block for block in blocks(PAGE) if block.file]) == 12


@pytest.mark.parametrize(("block", "command"), RUNS, ids=[command for _, command in RUNS])
def test_each_command_runs(
    project: Path,
    block: Block,
    command: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(project)
    arguments = words(command)
    plain = arguments[0] in ("list", "check")
    assert main([*arguments, *([] if plain else SHORT)]) == 0
    out, err = capsys.readouterr()
    assert not err
    expected = {
        "list": "near",
        "check": "0.5 CE + 0.5 cosine(logits)",
        "method=near": "0.2 CE + 0.8 cosine(logits)",
        "+loss.near": "+ 2 cosine(logits)",
        "dataset=shapes": "shapes",
        "dataset=torch_dataset": "torch_dataset",
        "teacher=wide": "wide (9.90 k) -> wide (238)",
        "evaluation.figures": "entropy test",
    }
    for word, text in expected.items():
        if any(argument.startswith(word) for argument in arguments):
            assert text in out
    assert plain or "top-1 test" in out


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("teacher.family=mine.nets", "teacher.family=mine.nets: your own code must be in a package"),
        ("'+loss.near={name: mine.losses}'", "loss.near.name=mine.losses: your own code must be in"),
        (
            "packages=[mine] 'evaluation.figures=[accuracy,mine.nothing]'",
            "evaluation.figures=mine.nothing: no such evaluator",
        ),
        (
            "'evaluation.figures=[mine.entropy]'",
            "evaluation.figures=mine.entropy: your own code must be in a package",
        ),
        (
            "packages=[mine] 'evaluation.figures=[mine.nets]'",
            "evaluation.figures=mine.nets: the module must have one function figures(subject); it has none",
        ),
        (
            "packages=[mine] dataset.source=mine.nothing",
            "dataset.source=mine.nothing: no such source of images",
        ),
        (
            "packages=[mine] teacher.family=mine.shapes",
            "teacher.family=mine.shapes: the module must have a function",
        ),
        (
            "packages=[mine] '+loss.near={name: mine.losses, scal: 2}'",
            "loss.near.scal: Cosine has no such argument. Choices: scale",
        ),
        (
            "--config-dir mine/conf packages=[mine] teacher=wide +teacher.args.wdth=3",
            "teacher.args.wdth: mine.nets has no such argument. Choices: width",
        ),
        (
            "--config-dir mine/conf packages=[mine] dataset=shapes dataset.per_clas=3",
            "dataset.per_clas=3: no such key. Nearest: dataset.per_class",
        ),
    ],
)
def test_mistakes_in_own_parts_are_one_line(
    project: Path,
    line: str,
    problem: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(project)
    assert main(words(f"kdrun {line}")) == 2
    err = capsys.readouterr().err
    assert err.startswith(problem) and err.count("\n") == 1


def test_a_student_of_ones_own_family_is_used(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project)
    own = ["--config-dir", "mine/conf", "packages=mine", "experiment=bars"]
    arguments = [*own, "control=false", *SHORT, "outputs_dir=used"]
    assert main(arguments) == 0
    (run,) = (project / "used" / "runs").iterdir()
    from PIL import Image

    Image.new("L", (12, 12)).save("bar.png")
    capsys.readouterr()
    assert main(["predict", str(run), "bar.png", "--teacher"]) == 2  # no package is trusted unasked
    assert "--packages" in capsys.readouterr().err
    assert main(["predict", str(run), "bar.png", "--teacher", "--packages", "mine"]) == 0
    assert any(name in capsys.readouterr().out for name in ("standing", "lying"))
    assert main(["continue", str(run)]) == 2
    assert f"If you trust it, type kdrun continue {run} 'packages=[mine]'" in capsys.readouterr().err
    assert main(["continue", str(run), "packages=[mine]"]) == 0
    assert "finished earlier" in capsys.readouterr().out
