"""`quick=true`: two batches of everything, to see whether a run runs; it is no result and lies apart."""

from __future__ import annotations

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
    recipes = [plain["recipe"][role] for role in ("teacher", "student")] + plain["recipe"]["assistant"]
    for recipe in recipes:
        recipe |= {"epochs": 1, "batch": min(int(recipe["batch"]), BATCH), "stop_at": None}
    if plain["phase_one"]["epochs"]:
        plain["recipe"]["student"]["epochs"] = 2
        plain["phase_one"]["epochs"] = 1
    plain["evaluation"] |= LATENCY
    plain["dataset"]["name"] = f"{plain['dataset']['name']}{MARK}"
    plain["outputs_dir"] = f"{plain['outputs_dir'].rstrip('/')}/{FOLDER}"


def images(run_batch: int) -> int:
    """How many images of each part a trial takes."""
    return BATCHES * run_batch
