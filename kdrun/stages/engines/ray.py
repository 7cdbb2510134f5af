"""`engine=ray`: each group of trainings is a task of a Ray cluster."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from kdrun.artefacts import open_own
from kdrun.errors import KdrunError
from kdrun.extras import install
from kdrun.plan.training import Training
from kdrun.progress.overall import PENDING
from kdrun.stages.engines.engine import Failures
from kdrun.stages.engines.remote import Handle, Lost, Remote, WorkerResources
from kdrun.stages.engines.worker import Errand, python_path


class Ray(Remote):
    """The keys are those of `conf/engine/ray.yaml`."""

    def __init__(
        self,
        jobs: int | None,
        *,
        address: str | None,
        gpus: Any,
        cpus: float,
        memory: float | None,
        resources: Any,
    ) -> None:
        super().__init__(jobs, WorkerResources(gpus, int(cpus), memory))
        if not isinstance(resources, Mapping | None):
            raise KdrunError("engine.resources", resources, "must be {NAME: NUMBER}, or null")
        if find_spec("ray") is None:
            raise KdrunError("engine", "ray", f"needs Ray, which is not installed: {install('ray')}")
        self.address, self.resources = address, dict(resources or {})
        self.task: Callable[[Errand, Path], Any] | None = None

    def open(self, folder: Path, gpus: float) -> None:
        ray = _ray()
        environment = {"env_vars": {"PYTHONPATH": python_path()}}
        try:
            ray.init(
                address=self.address or "local",
                include_dashboard=None if self.address else False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env=environment,
            )
        except Exception as error:  # Ray has no common class for what can be wrong with a cluster
            last = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise KdrunError("engine.address", self.address, f"no Ray cluster answers: {last}") from error
        asked = {"CPU": self.needs.cpus, "GPU": gpus, **self.resources}
        for name, number in asked.items():
            most = max((node["Resources"].get(name, 0) for node in ray.nodes() if node["Alive"]), default=0)
            if number > most:
                key = {"CPU": "engine.cpus", "GPU": "engine.gpus"}.get(name, "engine.resources")
                raise KdrunError(key, number, f"no node of the Ray cluster has more than {most:g} {name}")
        options: dict[str, Any] = {
            "num_cpus": self.needs.cpus,
            "num_gpus": gpus,
            "memory": None if self.needs.memory is None else int(1e9 * self.needs.memory),
            "resources": self.resources or None,
            "max_retries": 0,  # a lost worker is said; the same command continues its training
            "max_calls": 1,  # a process for each task, which frees what it holds
        }
        self.task = ray.remote(**options)(_logged).remote

    def gpus(self, ready: Sequence[Training]) -> float:
        if self.needs.gpus != "auto" or ready[0].ground.run.device == "cpu":
            return super().gpus(ready)
        return 1 if self.address or ready[0].ground.machine.device.type == "cuda" else 0

    def submit(self, errand: Errand) -> Handle:
        assert self.task is not None
        log = errand.progress.with_suffix(".log")
        return _Task(self.task(errand, log), f"Ray task {errand.progress.stem}", log)

    def close(self) -> None:
        if self.folder is not None:
            _ray().shutdown()
        super().close()


def _ray() -> Any:
    """Ray, which takes a second to import."""
    return import_module("ray")


class _Task(Handle):
    def __init__(self, reference: Any, name: str, log: Path) -> None:
        self.reference, self.name, self.log = reference, name, log

    def state(self) -> str:
        return PENDING

    def done(self) -> bool:
        return bool(_ray().wait([self.reference], timeout=0)[0])

    def result(self) -> Failures:
        ray = _ray()
        try:
            failures: Failures = ray.get(self.reference)
        except ray.exceptions.RayError as error:
            raise Lost(type(error).__name__) from error
        return failures

    def cancel(self) -> None:
        _ray().cancel(self.reference, force=True)


def _logged(errand: Errand, log: Path) -> Failures:
    """In a task: does the errand. What it prints, also by libraries in C, is in the log."""
    sys.stdout.flush()
    file = open_own(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    before = [os.dup(stream) for stream in (1, 2)]
    try:
        for stream in (1, 2):
            os.dup2(file, stream)
        return errand()
    finally:
        sys.stdout.flush()
        for stream, old in zip((1, 2), before, strict=True):
            os.dup2(old, stream)
            os.close(old)
        os.close(file)
