"""A sweep: all jobs are checked before the first runs; each leaves a record in the sweep's folder."""

from __future__ import annotations

import hashlib
import itertools
import json
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, open_dict, read_write

from kdrun.artefacts import read_json, write_json, write_text
from kdrun.config.arguments import Typed
from kdrun.config.compose import composed, loaded, start, texts
from kdrun.config.load import Loaded
from kdrun.config.plugins import register
from kdrun.errors import KdrunError

APART = ("fresh", "device", "threads", "outputs_dir", "data_dir")
"""Keys that change no result, and so not the name of a sweep's folder."""

CLOCKS_APART = 0.05
"""Seconds by which the time of a file may lie before that of its writer: file systems count in ticks."""

Command = Callable[[Loaded, bool], Path]
"""Runs one job and returns its run's folder; the second argument: be quiet, as several run at once."""

Check = Callable[[Loaded], None]
"""Raises KdrunError for what composing a job cannot know."""

Ahead = Callable[[Sequence[Loaded]], None]
"""Does for several jobs what they need and can do at once."""


class Job(NamedTuple):
    """One combination. swept: the swept keys with this job's values."""

    overrides: tuple[str, ...]
    swept: dict[str, Any]

    @property
    def name(self) -> str:
        """The job's file in the sweep's folder."""
        return _hash(sorted(self.overrides))

    def __str__(self) -> str:
        return "  ".join(f"{key}={value}" for key, value in self.swept.items())


class Refused(Exception):
    """Jobs that cannot run; nothing was trained. lines: what is wrong, each once."""

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__(tuple(lines))
        self.lines = tuple(lines)


class _Stop(BaseException):
    """Carries an exception past Hydra, which turns what a callback raises into a warning."""

    def __init__(self, error: Exception) -> None:
        self.error = error


@dataclass
class Call:
    """What this process knows of the sweep that it was called for."""

    typed: Typed
    check: Check
    ahead: Ahead = lambda jobs: None
    began: float = field(default_factory=time.time)
    folder: Path | None = None
    jobs: list[Job] = field(default_factory=list)

    def records(self) -> list[dict[str, Any]]:
        """The records of those jobs that have ended in this call, in the jobs' order."""
        if self.folder is None:
            return []
        paths = [_record_path(self.folder, job.name) for job in self.jobs]
        records = [read_json(path) for path in paths if path.exists()]
        return [record for record in records if record["ended"] >= self.began]


_current: list[Call] = []
"""The call in progress: Hydra makes the callback from a name in a file, so nothing is handed in."""


def run_jobs(call: Call, command: Command) -> None:
    """Checks all jobs of a sweep, then runs them, in this process or as `hydra/launcher` says.

    Fills in `call`. Raises KdrunError or Refused before any job has run; a job's own failure is recorded.
    """
    _current.append(call)
    try:
        start(Task(command), call.typed)
    except _Stop as stop:
        raise stop.error from None
    finally:
        _current.clear()


class Sweep(Callback):
    """Hydra's callback: prepares the sweep before its first job."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        try:
            prepare(_current[0], config)
        except Exception as error:
            raise _Stop(error) from error


def prepare(call: Call, config: DictConfig) -> None:
    """Composes and checks all jobs, names the sweep's folder and tells Hydra and the jobs."""
    call.jobs = jobs(config)
    print(f"checking {len(call.jobs)} {'job' if len(call.jobs) == 1 else 'jobs'}", flush=True)
    above = list(config.hydra.overrides.hydra)
    outputs, wrong, left = "outputs", Counter[str](), []
    for job in call.jobs:
        try:
            run = composed([*above, *job.overrides])
            call.check(run)
            outputs = run.run.outputs_dir
            left.append((job, run))
        except KdrunError as error:
            wrong[str(error)] += 1
    if wrong:
        raise Refused([f"{line}   ({n} of {len(call.jobs)} jobs)" for line, n in wrong.items()])
    folder = call.folder = Path(outputs) / "sweeps" / folder_name(call.jobs[0])
    with read_write(config.hydra), open_dict(config.hydra):
        config.hydra.sweep.dir = str(folder)
        config.hydra.overrides.hydra.append(f"hydra.sweep.dir='{folder}'")  # which each job inherits
    listed = [{"name": job.name, "swept": job.swept} for job in call.jobs]
    (folder / "jobs").mkdir(parents=True, exist_ok=True)
    typed = " ".join(("kdrun", *call.typed.flags, *call.typed.overrides))
    write_json(folder / "sweep.json", {"command": typed, "swept": list(call.jobs[0].swept), "jobs": listed})
    if (
        config.hydra.runtime.choices["hydra/launcher"] == "basic"
    ):  # others run several jobs at once themselves
        fresh = [run for job, run in left if run.run.fresh or not finished(_record_path(folder, job.name))]
        call.ahead(fresh)


def jobs(config: DictConfig) -> list[Job]:
    """All combinations, as Hydra's own sweeper makes them: a sweep file's values, then those typed."""
    written = [f"{key}={values}" for key, values in (config.hydra.sweeper.get("params") or {}).items()]
    parser = OverridesParser.create()
    values: dict[str, list[str]] = {}
    swept: dict[str, bool] = {}
    for override in parser.parse_overrides([*written, *texts(config.hydra.overrides.task)]):
        key = override.get_key_element()
        values[key] = list(_values(override, key))
        swept[key] = override.is_sweep_override()
    found = []
    for combination in itertools.product(*values.values()):
        chosen = dict(zip(values, combination, strict=True))
        own = {key.lstrip("+"): parser.parse_override(chosen[key]).value() for key in values if swept[key]}
        found.append(Job(combination, own))
    return found


def _values(override: Override, key: str) -> list[str]:
    if not override.is_sweep_override():
        return [f"{key}={override.get_value_element_as_str()}"]
    if not override.is_discrete_sweep():
        raise KdrunError(key, None, "only lists a,b,c, range(...) and choice(...) can be swept")
    return [f"{key}={value}" for value in override.sweep_string_iterator()]


def folder_name(job: Job) -> str:
    """`temperature-alpha-a01f3c`: the swept keys and a hash of the fixed ones, so that it can be extended."""
    fixed = [o for o in job.overrides if o.partition("=")[0].lstrip("+") not in (*job.swept, *APART)]
    short = "-".join(key.rpartition(".")[2] for key in job.swept) or "job"
    safe = "".join(c if c.isalnum() or c in "-_" else "_" for c in short)
    return f"{safe[:80]}-{_hash([sorted(fixed), sorted(job.swept)])}"


@dataclass(frozen=True)
class Task:
    """Runs one job, in whatever process, and records how it ended. Raises nothing: the next must run."""

    command: Command

    def __reduce__(self) -> tuple[Any, ...]:
        return _task, (self.command,)

    def __call__(self, config: DictConfig) -> None:
        hydra_config = HydraConfig.get()
        overrides = tuple(texts(hydra_config.overrides.task))
        folder, name = Path(hydra_config.sweep.dir), Job(overrides, {}).name
        listed = read_json(folder / "sweep.json")["jobs"]
        number = [job["name"] for job in listed].index(name)
        job = Job(overrides, listed[number]["swept"])
        heading = f"job {number + 1} of {len(listed)}   {job}"
        run, record = loaded(config, overrides, hydra_config.runtime.choices), _record_path(folder, name)
        several = hydra_config.runtime.choices["hydra/launcher"] != "basic"
        quiet = several or (finished(record) and not run.run.fresh)
        if not quiet:
            print(f"\n{heading}", flush=True)
        ended = perform(self.command, run, quiet, record.with_suffix(".error.txt"))
        write_json(record, {"overrides": overrides, "swept": job.swept, **ended})
        _say(heading, ended, quiet)


def _task(command: Command) -> Task:
    """How another process unpickles a task: its Hydra must know kdrun before the first job is composed."""
    register()
    return Task(command)


def perform(command: Command, run: Loaded, quiet: bool, error_file: Path) -> dict[str, Any]:
    """Runs a job; how it ended, as its record says it. A failure leaves its traceback in `error_file`."""
    began = time.time()
    error_file.unlink(missing_ok=True)
    ended: dict[str, Any] = {"state": "finished", "run": None, "error": None, "earlier": False}
    try:
        folder = command(run, quiet)
        report = folder / "report.json"
        ended["run"] = str(folder)
        ended["earlier"] = report.exists() and report.stat().st_mtime < began - CLOCKS_APART
    except Exception as error:
        known = isinstance(error, (KdrunError, OSError))
        line = str(error) if known else f"{type(error).__name__}: {error} (a bug of kdrun: see {error_file})"
        ended |= {"state": "failed", "error": " ".join(line.split())}
        write_text(error_file, "".join(traceback.format_exception(error)))
    return ended | {"seconds": round(time.time() - began, 1), "ended": time.time()}


def finished(record: Path) -> bool:
    """Whether a record says that its job has finished, and the run's report is still there."""
    known = read_json(record) if record.exists() else {}
    return bool(known.get("run")) and (Path(known["run"]) / "report.json").exists()


def _say(heading: str, ended: dict[str, Any], quiet: bool) -> None:
    if ended["state"] == "failed":
        print(f"{heading}   failed: {ended['error']}", file=sys.stderr, flush=True)
    elif quiet:
        print(f"{heading}   {'finished earlier' if ended['earlier'] else 'finished'}", flush=True)


def _record_path(folder: Path, name: str) -> Path:
    return folder / "jobs" / f"{name}.json"


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:6]
