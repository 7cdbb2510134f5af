"""`engine=slurm`: each group of trainings is a job of a SLURM cluster, handed in by submitit."""

from __future__ import annotations

import getpass
import logging
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from kdrun.config.ranges import one_of, whole
from kdrun.errors import KdrunError
from kdrun.extras import install
from kdrun.stages.engines.crew import with_variable
from kdrun.stages.engines.engine import Failures
from kdrun.stages.engines.remote import Handle, Lost, Remote, WorkerResources
from kdrun.stages.engines.worker import Errand, python_path

EXECUTORS = ("slurm", "local")

ASK = 10.0
"""Seconds between two questions to SLURM about its queue."""

ABSENT = 2
"""After so many answers without it a job has left the queue."""

SETTLE = 15.0
"""Seconds in which a file of another machine is seen here."""


class Requeued(Errand):
    """An errand that submitit queues again if its job is preempted, or has used up its minutes."""

    def checkpoint(self) -> Any:
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)

    def called(self) -> str:
        number = os.environ.get("SLURM_JOB_ID")
        return f"SLURM job {number}" if number else super().called()


class Slurm(Remote):
    """The keys are those of `conf/engine/slurm.yaml`."""

    errand = Requeued

    def __init__(
        self,
        jobs: int | None,
        *,
        partition: str | None,
        account: str | None,
        gpus: Any,
        cpus: int,
        memory: float | None,
        minutes: int,
        requeues: int,
        parameters: Any,
        setup: list[str],
        executor: str,
    ) -> None:
        super().__init__(jobs, WorkerResources(gpus, cpus, memory))
        _refuse_values(self.needs, minutes, requeues, parameters, executor)
        _refuse_lines({"partition": partition, "account": account, **(parameters or {})})
        _refuse_without_slurm(executor)
        self.executor, self.requeues, self.asked, self.queue = executor, requeues, 0.0, _Queue()
        self.setup = [f"export PYTHONPATH={shlex.quote(python_path())}", *setup]
        self.parameters = {
            "timeout_min": minutes,
            "cpus_per_task": cpus,
            "mem_gb": memory,
            "slurm_partition": partition,
            "slurm_account": account,
            "slurm_additional_parameters": dict(parameters or {}) or None,
        }

    def open(self, folder: Path, gpus: float) -> None:
        import submitit

        logging.getLogger("submitit").setLevel(logging.CRITICAL)  # what it says is said by kdrun
        times = {f"{name}_max_num_timeout": self.requeues for name in EXECUTORS}
        self.executing = submitit.AutoExecutor(folder=folder, cluster=self.executor, **times)
        self.executing.update_parameters(
            name="kdrun",
            stderr_to_stdout=True,
            gpus_per_node=int(gpus) or None,
            slurm_setup=self.setup,
            **self.parameters,
        )

    def submit(self, errand: Errand) -> Handle:
        try:
            with with_variable("PYTHONPATH", python_path()):  # before a process knows any module of kdrun
                job = self.executing.submit(errand)
        except Exception as error:  # submitit has several, and subprocess another
            last = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            raise KdrunError("engine", "slurm", f"the job is refused: {last}") from error
        return _Job(job, self.queue if self.executor == "slurm" else None)

    def look(self, handles: Sequence[Handle]) -> None:
        if self.executor == "slurm" and time.monotonic() - self.asked >= ASK:
            self.queue.ask()
            self.asked = time.monotonic()


def _refuse_values(
    needs: WorkerResources, minutes: int, requeues: int, parameters: Any, executor: str
) -> None:
    if needs.gpus not in ("auto", 0, 1):
        raise KdrunError("engine.gpus", needs.gpus, "must be auto, 0 or 1: a job trains on one GPU")
    for key, value, least in (("minutes", minutes, 1), ("requeues", requeues, 0)):
        if not whole(value, least):
            raise KdrunError(f"engine.{key}", value, f"must be a whole number from {least}")
    if not isinstance(parameters, Mapping | None):
        raise KdrunError("engine.parameters", parameters, "must be {NAME: VALUE}, options of sbatch, or null")
    one_of("engine.executor", executor, EXECUTORS)


def _refuse_lines(values: Mapping[str, Any]) -> None:
    """Raises KdrunError for a value that would add a line, which is a command, to the script for sbatch."""
    for key, text in values.items():
        if not f"{key}{text}".isprintable():
            raise KdrunError(f"engine.{key}", text, "one line of printable letters is needed")


def _refuse_without_slurm(executor: str) -> None:
    """Raises KdrunError if submitit is not installed, or SLURM is not on this machine."""
    if find_spec("submitit") is None:
        raise KdrunError("engine", "slurm", f"needs submitit, which is not installed: {install('slurm')}")
    if executor == "slurm" and not (shutil.which("sbatch") and shutil.which("srun")):
        problem = "there is no sbatch on this machine; to try it without: engine.executor=local"
        raise KdrunError("engine", "slurm", problem)


class _Queue:
    """The user's jobs by `squeue`, which every SLURM has; `sacct` needs a data base that some have not."""

    def __init__(self) -> None:
        self.states: dict[str, str] = {}
        self.answers = 0

    def ask(self) -> None:
        """An answer that does not come changes nothing."""
        words = ["squeue", "--noheader", "--user", getpass.getuser(), "--format", "%i %T"]
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=60)
        except (OSError, subprocess.TimeoutExpired):
            return
        if done.returncode == 0:
            rows = (line.split() for line in done.stdout.splitlines())
            self.states = {row[0]: row[1] for row in rows if len(row) == 2}
            self.answers += 1


class _Job(Handle):
    """queue: None for a process of this machine."""

    def __init__(self, job: Any, queue: _Queue | None) -> None:
        self.job, self.queue = job, queue
        self.name = f"{'local' if queue is None else 'SLURM'} job {job.job_id}"
        self.log = Path(job.paths.stdout)
        self.result_file = Path(job.paths.result_pickle)
        self.seen = 0 if queue is None else queue.answers
        """The answers of the queue up to the last that had the job."""

    def state(self) -> str:
        return "" if self.queue is None else self.queue.states.get(self.job.job_id, "PENDING")

    def done(self) -> bool:
        if self.result_file.exists():
            return True
        if self.queue is None:
            return bool(self.job.done())
        if self.job.job_id in self.queue.states:
            self.seen = self.queue.answers
        return self.queue.answers - self.seen >= ABSENT

    def result(self) -> Failures:
        until = time.monotonic() + (0.0 if self.queue is None else SETTLE)
        while not self.result_file.exists() and time.monotonic() < until:
            time.sleep(0.5)
        if not self.result_file.exists():
            raise Lost(self._ended())
        problem = self.job.exception()
        if problem is not None:
            lines = [line for line in str(problem).splitlines() if "Error" in line or "reason" in line]
            raise Lost(" ".join(lines[-1:]) or type(problem).__name__)
        failures: Failures = self.job.result()
        return failures

    def _ended(self) -> str:
        """How it ended, by `sacct` where there is one."""
        if self.queue is None:
            return "killed"
        try:
            return str(self.job.get_info().get("State") or "it has left the queue")
        except Exception:  # nothing more can be said
            return "it has left the queue"

    def cancel(self) -> None:
        self.job.cancel(check=False)
