"""Whole evaluations: evaluators of one's own, and second looks at a finished run."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from kdrun.cli import main
from kdrun.config.schema import Evaluation, Runtime
from kdrun.data import digits
from kdrun.data.images import Part, Raw
from kdrun.evaluation.accuracy import logits_of
from kdrun.evaluation.latency import LatencyResults
from kdrun.evaluation.latency import measure as measure_latency
from kdrun.machine import Machine
from kdrun.models.weights import read_weights
from kdrun.progress.screen import Lines
from kdrun.report import answers
from kdrun.stages import evaluate as stage
from kdrun.stages import subject
from kdrun.stages.facts import _numerics
from tests.conftest import forget
from tests.stages.runs import report

SHORT = ("recipe.teacher.epochs=1", "recipe.student.epochs=1", "threads=1", "evaluation.seconds=0.02")

QUIET = ("evaluation.latency=false", "evaluation.plots=false")

Go = Callable[..., str]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs of a short run that was evaluated with everything."""
    root = tmp_path_factory.mktemp("finished")
    assert main([*SHORT, f"outputs_dir={root / 'outputs'}"]) == 0
    return root / "outputs"


@pytest.fixture
def go(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Go:
    """Calls the same run again, in a folder with its outputs; gives what was printed."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished, "outputs")

    def run(*arguments: str) -> str:
        capsys.readouterr()
        assert main([*SHORT, *arguments]) == 0
        return capsys.readouterr().out

    return run


def page() -> str:
    (path,) = Path("outputs").glob("runs/*/report.md")
    return path.read_text()


def test_latencies_are_not_lost_by_a_call_without(go: Go) -> None:
    before = report()
    assert "finished earlier" in go("evaluation.latency=false")
    assert report() == before


def test_latencies_are_not_lost_by_a_call_that_evaluates_again(go: Go) -> None:
    before = report()
    latencies = {role: model["latency"] for role, model in before["models"].items()}
    out = go(
        "evaluation.latency=false", "evaluation.figures=[accuracy,cost,agreement]", "evaluation.plots=false"
    )
    assert "finished earlier" in out, "these figures are there"
    path = next(Path("outputs").glob("runs/*/report.json"))
    before["models"]["student"]["latency"] = before["models"]["student"]["latency"][:1]  # someone cut it
    path.write_text(json.dumps(before | {"fingerprint": "another"}))
    assert "finished earlier" not in go("evaluation.latency=false")
    after = report()
    assert after["models"]["teacher"]["latency"] == latencies["teacher"]
    assert after["models"]["student"]["latency"] == latencies["student"][:1]
    assert len(after["comparison"]["speedup"]) == 1
    assert after["earlier"][0]["created"] == before["created"]
    assert "Measured by an earlier evaluation" in page()


def test_other_batch_sizes_are_added(go: Go) -> None:
    before = report()
    assert "finished earlier" not in go("evaluation.batches=[4]")
    after = report()
    for role in ("teacher", "student", "control"):
        batches = [row["batch"] for row in after["models"][role]["latency"]]
        assert batches == [4, 1, 32]
        assert after["models"][role]["latency"][1:] == before["models"][role]["latency"]
    assert "finished earlier" in go(), "the first call has all that it asks for"
    assert report() == after


def test_a_call_without_control_keeps_control_gain_and_pictures(go: Go) -> None:
    before, (picture,) = report(), Path("outputs").glob("runs/*/confusion.png")
    pixels = picture.read_bytes()
    assert "finished earlier" not in go("control=false", "evaluation.latency=false")
    after = report()
    for key in ("gain_top1", "gain_interval", "mcnemar_p", "verdict"):
        assert after["comparison"][key] == before["comparison"][key]
    assert after["models"]["control"] == before["models"]["control"]
    assert after["folders"] == before["folders"]
    assert picture.read_bytes() == pixels and "![confusion](confusion.png)" in page()
    (metrics,) = Path("outputs").glob("runs/*/metrics.jsonl")
    stages = [json.loads(line)["stage"] for line in metrics.read_text().splitlines()]
    assert stages == ["teacher", "student", "control"]
    assert "finished earlier" in go(), "with the control again"


def test_a_picture_that_was_removed_is_drawn_again(go: Go) -> None:
    (picture,) = Path("outputs").glob("runs/*/confusion.png")
    pixels, before = picture.read_bytes(), report()
    picture.unlink()
    assert "finished earlier" in go("evaluation.plots=false") and not picture.exists()
    assert "finished earlier" in go(), "nothing is measured again"
    assert (picture.read_bytes(), report()) == (pixels, before)
    picture.unlink()
    assert main(["report", str(picture.parent)]) == 0
    assert picture.read_bytes() == pixels and "![confusion](confusion.png)" in page()


def test_a_run_of_a_version_that_kept_no_answers_is_evaluated_to_be_drawn(go: Go) -> None:
    (picture,) = Path("outputs").glob("runs/*/confusion.png")
    pixels = picture.read_bytes()
    picture.unlink()
    (picture.parent / "answers.npz").unlink()
    assert "finished earlier" not in go()
    assert picture.read_bytes() == pixels


def test_the_kept_answers_are_those_of_the_report(go: Go) -> None:
    (path,) = Path("outputs").glob("runs/*/answers.npz")
    for whose, model in report()["models"].items():
        for part in answers.PARTS:
            right = answers.right(answers.read(path.parent), whose, part)
            assert right is not None and 100 * right.mean() == pytest.approx(model["last"][part]["top1"])
    before = answers.read(path.parent)
    go("control=false", "evaluation.figures=[accuracy,cost]", "fresh=false", "evaluation.batches=[2]")
    assert answers.read(path.parent).keys() == before.keys(), "those of the control stay"


def test_a_control_that_another_run_has_trained_is_added(go: Go) -> None:
    go("outputs_dir=other", "control=false", *QUIET)
    (control,) = Path("outputs").glob("models/control-*")
    shutil.copytree(control, Path("other", "models", control.name))
    assert "finished earlier" not in go("outputs_dir=other", *QUIET)
    (path,) = Path("other").glob("runs/*/report.json")
    assert "control" in json.loads(path.read_text())["models"]


def test_the_runs_threads_evaluate(go: Go, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, real = [], subject.logits_of

    def counted(*arguments: Any) -> Any:
        seen.append(torch.get_num_threads())
        return real(*arguments)

    monkeypatch.setattr(subject, "logits_of", counted)
    before, figures = torch.get_num_threads(), report()["models"]["student"]["last"]
    for threads in (2, 3):
        seen.clear()
        next(Path("outputs").glob("runs/*/report.json")).unlink()
        go(f"threads={threads}", *QUIET)
        assert set(seen) == {threads} and torch.get_num_threads() == before
        assert report()["models"]["student"]["last"]["test"]["top1"] == figures["test"]["top1"]


TOY = """
from kdrun.evaluation.figure import Figure


def figures(subject):
    for answers in subject.answers:
        yield answers.figure("mean_logit", answers.logits.mean(), "nats")
    for name, model in subject.networks.items():
        yield Figure("layers", sum(1 for _ in model.modules()), "", name)
"""


def test_an_evaluator_of_ones_own_is_shown_everywhere(go: Go, capsys: pytest.CaptureFixture[str]) -> None:
    package = Path("toy_figures")
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "toy.py").write_text(TOY)
    before = report()
    out = go("packages=[toy_figures]", "evaluation.figures=[toy_figures.toy]", "evaluation.latency=false")
    after = report()
    assert after["models"]["student"]["last"]["test"].keys() == {
        "mean_logit", *before["models"]["student"]["last"]["test"],
    }  # fmt: skip
    assert after["models"]["student"]["figures"]["layers"] > 3
    assert after["units"]["mean_logit"] == "nats"
    shown = [line.split() for line in out.splitlines()]
    (row,) = [words for words in shown if words[:3] == ["mean", "logit", "test"]]
    assert row[3] == "nats" and len(row) == 7
    assert [words[0] for words in shown if words[:1] == ["layers"]] == ["layers"]
    assert "| mean logit test | nats |" in page() and "| mean logit validation | nats |" in page()
    assert "| layers |  |" in page()
    assert main(["report", "outputs/runs", "--format", "csv"]) == 0
    (record,) = csv.DictReader(capsys.readouterr().out.splitlines())
    exact = after["models"]["student"]["last"]["test"]["mean_logit"]
    assert float(record["student_mean_logit"]) == pytest.approx(exact, rel=1e-11)
    assert int(record["teacher_layers"]) == after["models"]["teacher"]["figures"]["layers"]


def test_one_that_fails_is_noted_and_tried_again(go: Go) -> None:
    package = Path("toy_broken")
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "toy.py").write_text("def figures(subject):\n    raise RuntimeError('no luck')\n")
    arguments = ("packages=[toy_broken]", "evaluation.figures=[accuracy,toy_broken.toy]")
    out = go(*arguments)
    note = "toy_broken.toy failed, its figures are left out: RuntimeError: no luck (toy.py, line 2)"
    assert note in " ".join(out.split()) and note in page() and report()["notes"] == [note]
    assert "latency" in report()["models"]["student"]
    assert "finished earlier" not in go(*arguments)


def test_an_evaluator_that_was_edited_is_asked_again(go: Go) -> None:
    package = Path("mine")
    package.mkdir()
    (package / "__init__.py").write_text("")
    code = "def figures(subject):\n    for a in subject.answers:\n        yield a.figure('toy', VALUE, '')\n"
    for value in (
        "1.0",
        "22.0",
    ):  # of two lengths: Python keeps what it compiled of a file of equal age and size
        (package / "toy.py").write_text(code.replace("VALUE", value))
        forget()
        out = go("packages=[mine]", "evaluation.figures=[mine.toy]", *QUIET)
        assert "finished earlier" not in out
        assert report()["models"]["student"]["last"]["test"]["toy"] == float(value)


def test_latency_is_measured_on_the_gpu_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, Any]] = []

    def measure(*given: Any, device: str, modes: Any, **more: Any) -> LatencyResults:
        asked.append((device, modes))
        return LatencyResults({}, [])

    monkeypatch.setattr(stage.latency, "measure", measure)
    monkeypatch.setattr(stage, "latency_threads", lambda plan: 1)
    run = SimpleNamespace(evaluation=Evaluation(), runtime=Runtime())
    place = Machine(torch.device("cuda:1"), "bf16", None)
    plan: Any = SimpleNamespace(run=run, reference=None, ground=SimpleNamespace(machine=place))
    stage._latency(plan, SimpleNamespace(networks={}, image_shape=(1, 8, 8)))  # type: ignore[arg-type]
    assert asked == [("cpu", ("eager",)), ("cuda:1", ("eager", "graph"))]


def test_a_report_says_which_numerics_its_figures_have() -> None:
    cpu = torch.device("cpu")
    assert _numerics(Machine(cpu, "fp32", None)) == {}
    (line,) = _numerics(Machine(cpu, "bf16", None)).values()
    assert (
        line == "training and the scores after each epoch: bf16; figures of this report and latencies: fp32"
    )


def test_figures_are_computed_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if the program around it lets convolutions use TF32, as torch does."""
    seen: list[bool] = []

    def model(images: torch.Tensor) -> torch.Tensor:
        seen.append(torch.backends.cudnn.allow_tf32)
        return images.flatten(1)

    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    network = torch.nn.Identity()
    monkeypatch.setattr(network, "forward", model)
    logits_of(network, [torch.zeros(2, 1, 2, 2)])
    measure_latency({"student": network}, (1, 2, 2), (1,), samples=1, seconds=0.01)
    assert seen and not any(seen) and torch.backends.cudnn.allow_tf32


def test_kept_answers_equal_computed_ones_and_damaged_ones_are_computed_anew(
    go: Go, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}
    computed = subject._asked

    def asking(plan: Any, saved: Any, *more: Any) -> Any:
        asked[saved.name] = computed(plan, saved, *more)
        return asked[saved.name]

    counted: list[tuple[int, int]] = []
    monkeypatch.setattr(subject, "_asked", asking)
    monkeypatch.setattr(Lines, "answered", lambda screen, done, total: counted.append((done, total)))
    files = {path.parent.name[:7]: path for path in Path("outputs").glob("models/*/answers-*.safetensors")}
    kept = {role: read_weights(path) for role, path in files.items()}
    assert set(kept) == {"teacher", "control"}
    again = ("evaluation.latency=false", "evaluation.plots=false", "evaluation.figures=[accuracy]")
    for damaged in (False, True):
        for file in files.values() if damaged else ():
            file.write_bytes(file.read_bytes()[:-1] + b"?")
        for file in Path("outputs").glob("runs/*/report.json"):
            file.unlink()
        go(*again)
        assert set(asked) == ({"student", "teacher", "control"} if damaged else {"student"})
        assert counted[0][0] == 0 < counted[-1][0] == counted[-1][1], "kept or not, all images are counted"
    for role, logits in kept.items():
        assert logits["test"].equal(asked[role]["test"]) and read_weights(files[role])["test"].equal(
            logits["test"]
        )


def test_a_reduced_test_part_is_named_and_replaces_no_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = digits.read(Path())
    images, labels = plain.train
    own = Raw(Part(images[:900], labels[:900]), Part(images[900:1100], labels[900:1100]), plain.classes)
    monkeypatch.setattr(digits, "read", lambda data_dir: own)
    monkeypatch.chdir(tmp_path)
    quiet = ("dataset.train=60", "dataset.labelled=null", "evaluation.plots=false")

    def run(test: str, latency: str = "false") -> tuple[int, str]:
        code = main([*SHORT, *quiet, f"dataset.test={test}", f"evaluation.latency={latency}"])
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    code, out = run("40")
    assert code == 0 and "test 40 of 200 (reduced)" in out
    assert "reduced for a try-out: 40 of its 200 images" in " ".join(out.split())
    assert (report()["dataset"]["test"], report()["dataset"]["test_of"]) == (40, 200)
    assert "test 40 of 200 (reduced)" in page()
    code, out = run("null")
    assert code == 0 and report()["dataset"]["test"] == 200 and "test_of" not in report()["dataset"]
    assert len(list(Path("outputs/models").iterdir())) == 2, "nothing is trained again"
    assert run("40")[1].count("finished earlier") == 1 and report()["dataset"]["test"] == 200
    code, out = run("40", "true")
    assert code != 0 and "dataset.test=40: this run has figures of its whole test part" in out
