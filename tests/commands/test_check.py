"""`kdrun check`: the plan with its figures; it writes nothing, and says what looks wrong."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from kdrun.check import page
from kdrun.check.measure import STEPS, WARM_UP, first_step
from kdrun.check.page import roughly
from kdrun.config.arguments import parse
from kdrun.config.compose import single
from kdrun.data.resident import Normal, Resident
from kdrun.errors import KdrunError
from kdrun.machine import Machine
from kdrun.plan.plan import make_plan
from kdrun.stages.saved import initial_model
from kdrun.training.plan import epoch_plan
from kdrun.training.step import Learner
from tests.commands.short import SHORT, Here
from tests.recorded import Recorded


def test_it_says_the_plan_and_writes_nothing(here: Here) -> None:
    code, out, err = here("check", "evaluation.latency=false")
    assert (code, err) == (0, "")
    assert not list(here.root.rglob("*"))
    assert max(map(len, out.splitlines())) <= 80
    for line in (
        "loss   0.1 CE + 0.9 2^2 KL(teacher || student, T=2)",
        "       student    train     80 epochs     600 images, 60 labelled",
        "teacher   cnn_digits         122 k   969 k MACs  stages 32 64 64  embedding 64",
        "student   cnn_digits_small     994  3.78 k MACs  stages 8 8  embedding 32",
        "layers    student logits; teacher logits",
        "ready     check passed; nothing was trained or written",
    ):
        assert line in out.splitlines()
    assert re.search(r"^hard +0\.1 +2\.\d\d +\d", out, re.M) and re.search(r"^soft +0\.9 +0\.0", out, re.M)
    assert re.search(
        r"^memory    about: training the teacher [\d.]+ MB, training the student [\d.]+ kB", out, re.M
    )
    assert re.search(r"^time      about \d+ (s|min) on this machine's cpu", out, re.M)
    assert re.search(r"evaluating\s+[\d.]+ MB", out)
    assert "the teacher is untrained" in out


def test_the_plan_is_shown_before_anything_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def unmeasurable(*of: object) -> None:
        raise AssertionError("measured too early")

    monkeypatch.setattr(page, "first_steps", unmeasurable)
    lines = page.check(single(parse([])).run, 80)
    for line in lines:
        if line.startswith("layers"):
            break
    with pytest.raises(AssertionError, match="too early"):
        next(lines)


def test_values_and_gradients_are_those_of_the_first_step() -> None:
    loaded = single(parse(["loss.hard.label_smoothing=0.1"]))
    plan = make_plan(loaded.run)
    training, teacher = plan.student, initial_model(plan.teacher)
    found = {term.name: term for term in first_step(training, teacher).terms}
    views, data = plan.ground.views, plan.ground.data
    rows = next(epoch_plan(training.seed, 0, training.row_set(), views, torch.device("cpu")).batches())
    images = Resident(data.train.images, views, Normal(data.mean, data.std, data.white, "cpu"))(rows)
    labels = data.train.labels[rows.index]
    student = initial_model(training).train()
    logits = student(images)
    hard = F.cross_entropy(logits, labels, ignore_index=-1, label_smoothing=0.1)
    soft = 4 * F.kl_div(
        (logits / 2).log_softmax(1), (teacher.eval()(images) / 2).softmax(1), reduction="batchmean"
    )
    for name, value in (("hard", hard), ("soft", soft)):
        gradients = torch.autograd.grad(value, list(student.parameters()), retain_graph=True)
        norm = torch.cat([gradient.flatten() for gradient in gradients]).norm().item()
        assert found[name].value == pytest.approx(value.item(), rel=1e-4)
        assert found[name].gradient == pytest.approx(norm, rel=1e-3)


def test_a_step_is_timed_as_the_training_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a graph where there are any: Python makes three steps, and the graph more than an epoch has."""
    plan = make_plan(single(parse(["dataset.train=60"])).run)
    made: list[int] = []
    update = Learner.update

    def counted(self: Learner, *of: Any) -> None:
        made.append(1)
        update(self, *of)

    monkeypatch.setattr(Learner, "update", counted)
    monkeypatch.setattr("kdrun.check.measure.SECONDS", 60.0)
    monkeypatch.setattr(Machine, "graphs", lambda self, wanted: Recorded() if wanted == "auto" else None)
    teacher = initial_model(plan.teacher)
    assert plan.student.row_set().steps < STEPS
    as_graph = first_step(plan.student, teacher)
    assert len(made) == 3 and as_graph.pace.seconds > 0
    off = replace(plan.run, runtime=replace(plan.run.runtime, graph="off"))
    made.clear()
    eager = first_step(make_plan(off).student, teacher)
    assert len(made) == WARM_UP + STEPS and eager.terms == as_graph.terms


def test_layers_tables_and_schedules_are_shown(here: Here) -> None:
    schedule = "loss.soft.weight={from: 0, to: 2, epochs: 5}"
    code, out, _ = here("check", "dataset.views.name=none", schedule)
    assert code == 0 and re.search(r"^soft +0 -> 2 in 5 epochs ", out, re.M)
    assert "cached answers up to 28.8 kB on disk" in " ".join(out.split())  # 600 times 48 bytes
    hint = ("+loss@loss.hint=feature", "recipe.student.clip=1", *SHORT)
    assert (
        "times the weighted gradient" not in here("check", *hint, "loss.hint.weight=1e6")[1]
    )  # of an untrained teacher
    here.run()
    before = here.files()
    code, out, _ = here("check", *hint, "loss.hint.weight=1e6")
    assert code == 0 and "layers    student logits stage:-1; teacher logits stage:-1" in out
    text = " ".join(out.split())
    assert re.search(r"note loss\.hint has [\d,]+ times the weighted gradient on the student of all", text)
    assert here.files() == before


def test_what_is_trained_is_not_measured_again_and_left_as_it_is(here: Here) -> None:
    here.run()
    before = here.files()
    code, out, _ = here("check", *SHORT)
    assert code == 0 and here.files() == before
    assert re.search(
        r"^teacher   \d\d\.\d % of 197 validation images right \(chance 10\.0\); trained earlier", out, re.M
    )
    assert "time      none: the run was finished earlier" in out
    out = here("check", *SHORT, "seed=1")[1]
    assert re.search(r"^time      about \d+ (s|min) on this machine's cpu \(one step: student", out, re.M)
    assert "mind" not in out
    mark = next(here.root.glob("outputs/models/teacher-*/last.safetensors"))
    mark.unlink()
    before = here.files()
    assert "the teacher is untrained" in " ".join(here("check", *SHORT)[1].split())
    assert here.files() == before


@pytest.fixture
def teachers(here: Here) -> Callable[[Callable[[dict[str, Tensor]], None]], str]:
    """Makes `check` look at a trained teacher's file after it was changed; gives what was printed."""
    here("stages=[teacher]", *SHORT, "dataset=digits")
    weights = load_file(next(here.root.glob("outputs/models/teacher-*/last.safetensors")))

    def look(change: Callable[[dict[str, Tensor]], None]) -> str:
        changed = dict(weights)
        change(changed)
        save_file(changed, "changed.safetensors")
        code, out, _ = here("check", "dataset=digits", "teacher.checkpoint=changed.safetensors")
        assert code == 0
        return " ".join(out.split())

    return look


def head(weights: dict[str, Tensor]) -> list[str]:
    return [name for name, tensor in weights.items() if tensor.shape[:1] == (10,)]


def test_teachers_from_files_are_looked_at(teachers: Callable[..., str]) -> None:
    def permute(weights: dict[str, Tensor]) -> None:
        for name in head(weights):
            weights[name] = weights[name].roll(3, 0)

    def forget(weights: dict[str, Tensor]) -> None:
        for name in head(weights):
            weights[name] = (
                torch.randn(weights[name].shape, generator=torch.Generator().manual_seed(0)) * 0.01
            )

    text = teachers(permute)
    assert "note the teacher's classes seem to be in another order" in text
    assert "(its 0 is 7, its 1 is 8, its 2 is 9 ...)" in text and "only guesses" not in text
    text = teachers(forget)
    assert "note the teacher only guesses" in text and "another order" not in text
    text = teachers(lambda weights: None)
    assert "another order" not in text and "only guesses" not in text
    assert "from changed.safetensors" in text
    assert "it may have been trained on both (or on neither)" in text


def test_a_run_that_could_not_start_is_refused(here: Here) -> None:
    code, out, err = here("check", "stages=[student,evaluate]")
    assert (code, out) == (2, "") and err.startswith(
        "stages=[student,evaluate]: the teacher is not trained yet"
    )
    assert err.count("\n") == 1 and not list(here.root.rglob("*"))


def test_only_what_the_stages_do_is_measured(here: Here) -> None:
    out = here("check", "stages=[teacher]", *SHORT)[1]
    assert "gradient on teacher" in out and "student" not in out.partition("memory")[2]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.1, "1 s"),
        (89, "89 s"),
        (91, "2 min"),
        (3500, "58 min"),
        (3600, "1 h"),
        (6590, "1 h 50 min"),
        (2e5, "2 days"),
        (1e8, "3 years"),
    ],
)
def test_times_are_as_exact_as_an_estimate(seconds: float, text: str) -> None:
    assert roughly(seconds) == text


def test_the_planned_models_stay_as_they_are() -> None:
    plan = make_plan(single(parse([])).run)
    before = {name: tensor.clone() for name, tensor in plan.student.built.model.state_dict().items()}
    first_step(plan.student, initial_model(plan.teacher))
    after = plan.student.built.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


CHECKS = {
    "a finished run": [],
    "a new run": ["temperature=3"],
    "fresh": ["fresh=true"],
    "a table of answers": ["dataset.views.name=none", "temperature=3"],
    "loggers": ["logger=[tensorboard]", "temperature=3"],
    "a chain": ["generations=2"],
    "refused": ["recipe.student.lr=-1"],
    "refused when planned": ["loss.soft.nothing=1"],
}


@pytest.mark.parametrize("name", CHECKS)
def test_check_leaves_outputs_as_they_are(here: Here, name: str) -> None:
    refused = name.startswith("refused")
    assert here("check", *SHORT, *CHECKS[name])[0] == (2 if refused else 0)
    assert not list(here.root.rglob("*"))
    here.run()
    before = here.files()
    assert here("check", *SHORT, *CHECKS[name])[0] == (2 if refused else 0)
    assert here.files() == before


@pytest.mark.parametrize("command", [(), ("check",), ("-m", "seed=0,1")])
def test_a_disk_without_room_is_named_before_training(
    here: Here, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(here.root)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage._replace(free=10_000))
    code, out, err = here(*command, *SHORT)
    last = err.splitlines()[-1]
    assert code == 2 and not list(here.root.glob("outputs/models/*/*.safetensors"))
    assert last.startswith("outputs_dir=outputs: the disk has 10.0 kB free, and weights and states take ")
    assert " 1/2 " not in out


def test_what_is_trained_needs_no_room(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    here.run()
    usage = shutil.disk_usage(here.root)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage._replace(free=10_000))
    assert here("check", *SHORT)[0] == 0


WRONG = {
    "temperature": ["temperature=0"],
    "stages": ["stages=[student,evaluate]"],
    "a file in place of a folder": ["outputs_dir=letter/o"],
    "a folder that is none": ["outputs_dir=/proc/nope"],
    "weights": ["teacher.checkpoint=letter"],
    "a layer": ["+loss@loss.hint=feature", "loss.hint.student_layer=nolayer"],
    "labels": ["dataset.labelled=100000"],
    "a key of another data set": ["dataset.per_class=1"],
}


@pytest.mark.parametrize("words", WRONG.values(), ids=WRONG)
def test_a_run_says_what_check_says(here: Here, words: list[str]) -> None:
    (here.root / "letter").write_text("dear")
    looked, run = here("check", *SHORT, *words), here(*SHORT, *words)
    assert looked[0] == run[0] == 2 and looked[2] == run[2] and looked[2].count("\n") == 1
    assert sorted(path.name for path in here.root.iterdir()) == ["letter"]


def test_an_engine_that_cannot_work_here_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(KdrunError, match="there is no sbatch on this machine"):
        next(page.check(single(parse(["engine=slurm"])).run, 80))
