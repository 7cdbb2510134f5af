"""A store of many runs: copies of a short one, each with its own name, seed and temperature."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from kdrun.records import PLAN

SMALL_FILES = ("student.json", PLAN, ".lock")


def store(run: Path, root: Path, count: int) -> Path:
    """Outputs with `count` runs, all in one sweep, and the models of the run that is copied."""
    report = json.loads((run / "report.json").read_text())
    texts = {name: (run / name).read_text() for name in SMALL_FILES}
    names = [f"digits-a-b-kd-{number:012x}" for number in range(count)]
    for number, name in enumerate(names):
        folder = root / "runs" / name
        folder.mkdir(parents=True)
        report["config"]["temperature"], report["seeds"]["run"] = 1 + number % 5, number // 5
        for file, text in {**texts, "report.json": json.dumps(report)}.items():
            (folder / file).write_text(text)
    shutil.copytree(run.parent.parent / "models", root / "models")
    _sweep(root / "sweeps" / "temperature-0123456789ab", names)
    return root


def _sweep(folder: Path, names: list[str]) -> None:
    (folder / "jobs").mkdir(parents=True)
    for number, name in enumerate(names):
        swept = {"temperature": 1 + number % 5, "seed": number // 5}
        job = {"name": name, "overrides": [], "swept": swept, "run": f"runs/{name}", "error": None}
        (folder / "jobs" / f"{name}.json").write_text(json.dumps({**job, "evaluated": True}))
    (folder / "sweep.json").write_text("{}")
    results = [{"overrides": {}, "runs": [{"folder": f"runs/{name}"} for name in names]}]
    (folder / "results.json").write_text(json.dumps(results))
