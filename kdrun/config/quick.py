"""`quick=true`: two batches of everything, to see whether a run runs; it is no result and lies apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

FOLDER = "quick"
"""The folder in outputs_dir that has trials only."""

MARK = "-quick"
"""The end of the data set's name in a trial, so that each table, picture and folder says so."""

BATCHES, BATCH = 2, 32
LATENCY = {"samples": 3, "seconds": 0.1}


def shorten(plain: dict[str, Any]) -> None:
    """Makes a plain configuration with final recipes a trial: one epoch of each phase, small batches, few
    measurements, names that say so. The images are taken by `kdrun.data.load`.
    """
    written = plain["recipe"]
    recipes = [written["teacher"], written["student"], *written["assistant"], *written["teachers"].values()]
    for recipe in recipes:
        recipe |= {"epochs": 1, "stop_at": None}
        if isinstance(recipe["batch"], int):  # else the check of the run names it
            recipe["batch"] = min(recipe["batch"], BATCH)
    if plain["phase_one"]["epochs"]:
        plain["recipe"]["student"]["epochs"] = 2
        plain["phase_one"]["epochs"] = 1
    for key in ("alpha", "temperature", "loss", "phase_one"):
        plain[key] = _settled(plain[key])
    plain["controls"]["longer_epochs"] = plain["recipe"]["student"]["epochs"] + 1
    plain["int8"]["epochs"] = 1
    plain["evaluation"] |= LATENCY
    for dataset in (plain["dataset"], *_own_datasets(plain)):
        dataset["name"] = f"{dataset['name']}{MARK}"
    if plain["outputs_dir"].strip():  # else the check of the run names it
        plain["outputs_dir"] = f"{plain['outputs_dir'].rstrip('/')}/{FOLDER}"


def _own_datasets(plain: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for teacher in plain["teachers"].values() or [plain["teacher"]]:
        if teacher.get("dataset"):
            yield teacher["dataset"]


def _settled(value: Any) -> Any:
    """The value with each schedule at its larger end: a term that begins with weight 0 is tried, too."""
    if not isinstance(value, Mapping):
        return value
    start, end = value.get("from"), value.get("to")
    if isinstance(start, (int, float)) and isinstance(end, (int, float)):
        return start if abs(start) > abs(end) else end
    return {key: _settled(inner) for key, inner in value.items()}


def images(run_batch: int) -> int:
    """How many images of each part a trial takes."""
    return BATCHES * run_batch
