"""Engines: found by name, refused in one line; workers are followed, lost, waited for, cancelled."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from rich.console import Console

from kdrun import beats, lookup
from kdrun.artefacts import locked
from kdrun.beats import beating, elsewhere, wait_for_others
from kdrun.config.arguments import parse
from kdrun.config.files import shipped
from kdrun.config.sweep import composed_jobs, folder_name
from kdrun.errors import KdrunError
from kdrun.plan.plan import Plan, make_plan
from kdrun.plan.training import Training
from kdrun.progress.overall import PENDING, Estimate, Logged
from kdrun.progress.screen import screen
from kdrun.progress.watchers import Observers
from kdrun.stages import make as make_module
from kdrun.stages.engines import remote, worker
from kdrun.stages.engines import slurm as slurm_module
from kdrun.stages.engines.engine import ENGINES, Audience, Failures, engine
from kdrun.stages.engines.remote import Handle, Lost, Remote, WorkerResources
from kdrun.stages.engines.worker import Errand
from kdrun.training.fit import Stopped
from tests.config.composed import composed

SHORT = "recipe.teacher.epochs=1 recipe.student.epochs=1 evaluation.latency=false evaluation.plots=false"
SLURM = "engine=slurm engine.executor=local"


def plan(line: str, outputs: Path) -> Plan:
    return make_plan(composed(f"{SHORT} {line} outputs_dir={outputs}").run)


class Fake(Remote):
    """Does each errand when it is handed in; then it is pending for `looks` looks."""

    def __init__(self, jobs: int | None = None, looks: int = 1, end: str = "") -> None:
        super().__init__(jobs, WorkerResources(0, 1, None))
        self.looks, self.end, self.cancelled, self.most = looks, end, list[str](), 0
        self.open_handles = list[Any]()

    def open(self, folder: Path, gpus: float) -> None:
        self.gpus_of_each = gpus

    def submit(self, errand: Errand) -> Handle:
        handle = FakeHandle(self, errand)
        self.open_handles = [each for each in self.open_handles if each.left > 0] + [handle]
        self.most = max(self.most, len(self.open_handles))
        return handle


class FakeHandle(Handle):
    def __init__(self, owner: Fake, errand: Errand) -> None:
        self.owner, self.errand, self.left = owner, errand, owner.looks
        self.name, self.log = f"job {errand.progress.stem}", errand.progress.with_suffix(".log")

    def state(self) -> str:
        return PENDING

    def done(self) -> bool:
        self.left -= 1
        return self.left < 0

    def result(self) -> Failures:
        if self.owner.end:
            self.log.write_text("one\ntwo\nthree\nfour\n")
            raise Lost(self.owner.end)
        return self.errand()

    def cancel(self) -> None:
        self.owner.cancelled.append(self.name)


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "LOOK", 0.01)
    monkeypatch.setattr(worker, "REPORT", 0.01)
    monkeypatch.setenv(beats.WORKER, "")  # restored after an errand has set it
    monkeypatch.delenv(beats.WORKER)


class Heard:
    """What is said on the screen, and the audience of an engine."""

    def __init__(self, trainings: Sequence[Training]) -> None:
        self.file = StringIO()
        shown = screen(Console(file=self.file, width=200))
        self.progress = Logged(shown.say, {each.folder: 1.0 for each in trainings})
        self.audience = Audience(Observers(shown), True, lambda: self.progress, lambda: Estimate({}))

    @property
    def text(self) -> str:
        return self.file.getvalue()


def leaves(group: list[Training], observers: Observers) -> None:
    """Work that leaves a file in each folder, and reports an epoch."""
    assert observers.told is not None
    observers.told.begin(2, 5, 0)
    for training in group:
        training.folder.mkdir(parents=True, exist_ok=True)
        (training.folder / "threads").write_text(str(training.ground.run.threads))


def fails(group: list[Training], observers: Observers) -> None:
    observers.screen.say("about to fail")
    raise KdrunError("loss.soft", None, "not finite")


def test_the_keys_of_an_engine_are_those_of_its_constructor() -> None:
    files = {path.stem: path.read_text() for path in (shipped() / "engine").glob("*.yaml")}
    assert sorted(files) == sorted(ENGINES.names())
    for name, text in files.items():
        kind = lookup.find(ENGINES, name, "engine")
        assert list(yaml.safe_load(text)) == ["name", *lookup.parameters(kind, besides=("jobs",))], name
        assert text.startswith("# ") and " | " in text.splitlines()[0], name


def test_each_group_is_a_job_that_plans_the_same_trainings(tmp_path: Path) -> None:
    students = [plan(f"seed={seed} runtime.together=false", tmp_path).student for seed in range(3)]
    heard, fake = Heard(students), Fake(jobs=2)
    assert fake.make(students, leaves, heard.audience) == {}
    assert [(each.folder / "threads").read_text() for each in students] == ["1"] * 3
    assert fake.most == 2 and fake.gpus_of_each == 0
    assert "3 of 3 trained" in heard.text
    fake.close()
    assert not (tmp_path / "engine").exists()


def test_a_failed_training_is_an_error_of_its_own(tmp_path: Path) -> None:
    students = [plan(f"seed={seed}", tmp_path).student for seed in range(2)]
    heard = Heard(students)
    failures = Fake().make(students, fails, heard.audience)
    assert {str(each) for each in failures.values()} == {"loss.soft: not finite"} and len(failures) == 2


def test_a_lost_worker_is_a_failed_job_with_its_last_lines(tmp_path: Path) -> None:
    student = plan("", tmp_path).student
    fake = Fake(end="OUT_OF_MEMORY")
    (error,) = fake.make([student], leaves, Heard([student]).audience).values()
    said = "engine: job 1 ended before it was done (OUT_OF_MEMORY); its last lines: two / three / four ("
    assert str(error).startswith(said) and getattr(error, "while_running", False)
    fake.close()
    (log,) = (tmp_path / "engine").rglob("*.*")
    assert log.name == "1.log" and log.read_text().startswith("one")


def test_a_single_run_ends_with_the_error_of_its_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_train(group: Sequence[Training], seen: Observers) -> None:
        raise KdrunError("loss.soft", None, "not finite")

    monkeypatch.setattr(make_module, "engine", lambda run: Fake())
    monkeypatch.setattr(make_module, "train", no_train)
    with pytest.raises(KdrunError, match="not finite"):
        make_module.make([plan("", tmp_path)], Observers(screen(Console(file=StringIO()))))


class Follower:
    """Keeps the epochs that it gets; stops a training after `last`."""

    def __init__(self, last: int = 99) -> None:
        self.rows, self.last = list[tuple[str, int]](), last

    def begin(self, epochs: int, steps: int, done: int) -> None: ...

    def steps(self, done: int) -> None: ...

    def epoch(self, row: Mapping[str, Any]) -> None:
        self.rows.append((row["stage"], row["epoch"]))
        if row["epoch"] >= self.last:
            raise Stopped


def test_loggers_and_a_judge_get_the_epochs_that_workers_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(make_module, "engine", lambda run: Fake())
    drawing, judge = Follower(), Follower(last=2)
    observers = Observers(screen(Console(file=StringIO())), judge=judge, drawing=drawing)  # type: ignore[arg-type]
    with pytest.raises(Stopped):
        make_module.make([plan("recipe.student.epochs=3 control=false", tmp_path)], observers)
    assert drawing.rows == [("teacher", 1), ("student", 1), ("student", 2)]
    assert judge.rows == [("student", 1), ("student", 2)]


def test_pending_rows_are_counted_and_come_last(tmp_path: Path) -> None:
    progress = Logged(lambda text: None, {tmp_path / str(n): 1.0 for n in range(30)})
    for number in range(20):
        progress.start(number, f"student {number}", 1.0)
        progress.state(number, PENDING)
    progress.state(19, "RUNNING")
    assert progress.line() == "0 of 30 trained, 19 pending"
    assert len(progress.at_work()) == 16 and progress.at_work()[0].name == "student 19"
    progress.begin(3, 4, 10, 0)
    assert progress.rows[3].state == "" and "18 pending" in progress.line()


def test_what_another_call_makes_is_waited_for_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    students = [plan(f"seed={seed}", tmp_path).student for seed in range(2)]
    heard, looks = Heard(students), [0]
    held = locked(students[0].folder)
    held.__enter__()

    def pause(seconds: float) -> None:
        looks[0] += 1
        if looks[0] == 5:
            held.__exit__(None, None, None)

    monkeypatch.setattr(remote.time, "sleep", pause)
    monkeypatch.setattr(remote, "WORTH_A_WORKER", 0.0)  # so that each is a group
    assert Fake().make(students, leaves, heard.audience) == {}
    assert heard.text.count("waits for process") == 1 and looks[0] >= 5
    assert all((each.folder / "threads").exists() for each in students)


def test_an_interruption_cancels_what_is_at_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    student, fake = plan("", tmp_path).student, Fake(looks=10**6)
    heard = Heard([student])

    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(remote.time, "sleep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fake.make([student], leaves, heard.audience)
    assert fake.cancelled == ["job 1"]
    assert "cancelled 1 job: job 1; their states are kept" in heard.text


def test_a_worker_says_what_machine_does_not_see_the_folder(tmp_path: Path) -> None:
    student = plan("", tmp_path).student
    errand = Errand(leaves, [(student.ground.run, student.folder)], tmp_path / "1.jsonl", place="/no/such")
    (error,) = errand().values()
    assert "does not see /no/such (No such file or directory); all machines must share it" in str(error)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (
            f"{SLURM} engine.gpus=2",
            "engine.gpus=2: must be auto, or a number up to 1: a training uses one GPU",
        ),
        (f"{SLURM} engine.gpus=0.5", "engine.gpus=0.5: must be auto, 0 or 1"),
        (f"{SLURM} engine.cpus=0", "engine.cpus=0: must be from 1 to 4096"),
        (f"{SLURM} engine.cpus=few", "engine.cpus=few: a whole number is needed"),
        (f"{SLURM} engine.memory=0", "engine.memory=0: must be above 0 (GB), or null"),
        (f"{SLURM} engine.minutes=0", "engine.minutes=0: must be a whole number from 1"),
        (f"{SLURM} engine.parameters=x", "engine.parameters=x: must be {NAME: VALUE}"),
        (
            "engine=slurm engine.executor=lokal",
            "engine.executor=lokal: no such choice. Choices: slurm, local",
        ),
        ("engine=slurm", "engine=slurm: there is no sbatch on this machine; to try it without: engine.exec"),
        ("engine=here runtime.jobs=2", "runtime.jobs=2: engine=here makes one training after the other"),
        ("+engine.partition=x", "engine.partition: engine auto has no such argument"),
    ],
)
def test_what_an_engine_cannot_do_is_refused_in_one_line(
    line: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm_module.shutil, "which", lambda name: None)
    with pytest.raises(KdrunError) as error:
        engine(composed(line).run)
    assert str(error.value).startswith(problem)


def test_a_job_that_left_the_queue_without_a_result_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = iter(["7 PENDING\n", "7 RUNNING\n8 RUNNING\n", None, "8 RUNNING\n", "8 RUNNING\n"])

    def squeue(words: list[str], **more: Any) -> Any:
        text = next(states)
        return SimpleNamespace(returncode=text is None, stdout=text or "")

    monkeypatch.setattr(slurm_module.subprocess, "run", squeue)
    monkeypatch.setattr(slurm_module, "SETTLE", 0.0)
    paths = SimpleNamespace(stdout=tmp_path / "log", result_pickle=tmp_path / "result")
    known = SimpleNamespace(job_id="7", paths=paths, get_info=lambda: {"State": "NODE_FAIL"})
    queue = slurm_module._Queue()
    job = slurm_module._Job(known, queue)
    seen = []
    for _ in range(5):
        queue.ask()
        seen.append((job.state(), job.done()))
    assert [state for state, _ in seen] == ["PENDING", "RUNNING", "RUNNING", "PENDING", "PENDING"]
    assert [done for _, done in seen] == [False] * 4 + [True]
    with pytest.raises(Lost, match="NODE_FAIL"):
        job.result()
    paths.result_pickle.touch()
    assert slurm_module._Job(known, queue).done()


@pytest.mark.parametrize(
    "given", [{"partition": "a\nrm x"}, {"account": "a\nrm x"}, {"parameters": {"qos": "a\nrm x"}}]
)
def test_no_option_of_slurm_adds_a_line_to_the_script(given: dict[str, Any]) -> None:
    plain = {"partition": None, "account": None, "gpus": 0, "cpus": 1, "memory": None, "minutes": 1}
    more = {"requeues": 0, "parameters": None, "setup": [], "executor": "local"}
    with pytest.raises(KdrunError, match="one line of printable letters is needed"):
        slurm_module.Slurm(1, **{**plain, **more, **given})


@pytest.mark.parametrize(("name", "package"), [("slurm", "submitit"), ("ray", "Ray")])
def test_a_missing_package_is_named_with_the_command(
    name: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"kdrun.stages.engines.{name}.find_spec", lambda name: None)
    with pytest.raises(
        KdrunError, match=rf"engine={name}: needs {package}, .* not installed: pip install .*{name}"
    ):
        engine(composed(f"engine={name}").run)


def test_an_engine_is_in_no_fingerprint_and_in_no_name(tmp_path: Path) -> None:
    plain, other = plan("", tmp_path), plan(f"{SLURM} engine.gpus=0 runtime.jobs=3", tmp_path)
    assert [each.folder for each in plain.trainings] == [each.folder for each in other.trainings]
    first, second = (
        composed_jobs(parse(["-m", "seed=0,1", *more]))[0] for more in ([], ["engine=processes"])
    )
    assert folder_name(first[0]) == folder_name(second[0]) and first[1].name == second[1].name
    with pytest.raises(KdrunError, match="engine=here,processes: one for all jobs"):
        composed_jobs(parse(["-m", "engine=here,processes"]))


def test_a_beat_tells_other_machines_who_works_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with beating(tmp_path):
        assert not list(tmp_path.iterdir())  # only workers on a cluster beat
    monkeypatch.setenv(beats.WORKER, "SLURM job 7")
    monkeypatch.setattr(beats, "EVERY", 0.01)
    with beating(tmp_path):
        host = beats.socket.gethostname()
        assert elsewhere(tmp_path) == ""  # on this machine there are locks
        monkeypatch.setattr(beats.socket, "gethostname", lambda: "another")
        assert elsewhere(tmp_path) == f"SLURM job 7 on {host}"
        os.utime(tmp_path / ".beat", (1.0, 1.0))
        until = time.monotonic() + 5
        while not elsewhere(tmp_path) and time.monotonic() < until:
            time.sleep(0.01)
        assert elsewhere(tmp_path)  # it was touched again
    assert not (tmp_path / ".beat").exists()
    (tmp_path / ".beat").write_text("node7\nSLURM job 7 on node7")
    heard: list[str] = []

    def silent(seconds: float) -> None:
        os.utime(tmp_path / ".beat", (1.0, 1.0))

    monkeypatch.setattr(beats.time, "sleep", silent)
    wait_for_others(tmp_path, heard.append)
    assert heard == ["SLURM job 7 on node7"] and elsewhere(tmp_path) == ""
