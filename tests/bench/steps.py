"""The ladder: what each step towards speed gives, from a textbook's loop to kdrun as it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.bench import record
from tests.bench.arms import Kind
from tests.bench.ratios import Spread, ratios, spread, verdict
from tests.bench.rounds import Spent, Workers, interleaved
from tests.bench.scene import Scene, settle
from tests.bench.targets import computed_share

BASE = "textbook"
EPOCHS = 240
"""Of the first run whose cost is reckoned from an epoch with and one without a table."""

Say = Callable[[str], None]


def measure(
    scene: Scene, kinds: Mapping[str, Kind], rounds: int, part: str, out: Path, say: Say
) -> dict[str, list[float]]:
    """Measures the arms, prints how each compares with the first, and writes a file for each.

    The processes' peaks of memory are printed where each arm has one of its own. Returns the seconds that an
    epoch of one training took, by arm and round; none where the machine was too busy for the clock.
    """
    settle(scene)
    where = record.conditions(scene.device, scene.threads)
    with Workers(scene, kinds) as workers:
        found = interleaved(workers.ask, list(kinds), rounds, say)
        peaks = {name: workers.peak(name) for name in kinds}
    clock = "cpu" if scene.device == "cpu" and scene.threads == 1 and not scene.workers else "wall"
    base, cost = next(iter(kinds)), {name: [getattr(one, clock) for one in found[name]] for name in kinds}
    alone = len({kind.kept for kind in kinds.values()}) == len(kinds)
    say(_heading(scene, part, base, clock, rounds))
    for name, kind in kinds.items():
        say(_line(name, cost[name], cost[base], scene) + (f" | {peaks[name]:.0f} MB" if alone else ""))
        content = _content(scene, kind, found[name], found[base], where) | {"process_peak_mb": peaks[name]}
        said = {"primary_clock": clock, f"against_{base}": verdict(cost[base], cost[name])}
        record.write(out, part, name, content | said)
    most, cores = max(one.load for spent in found.values() for one in spent), int(where["cores"])
    if most <= cores:
        return cost
    trusted = clock == "cpu" or scene.device != "cpu"
    hint = "" if trusted else ": times on the clock say nothing, and no target is judged by them"
    say(f"the machine was busy (load {most:.1f} on {cores} cores){hint}")
    return cost if trusted else {}


def ladder(scene: Scene, cost: dict[str, list[float]]) -> dict[str, Spread]:
    """How many times as fast as the textbook each arm is, by figure, and a first run of 240 epochs; on a GPU
    also the minutes of 240 epochs of 50,000 images.
    """
    if not cost:
        return {}
    pair, first = f"{scene.teacher}-{scene.student}", _first_run(cost)
    cost = cost | ({"first_run": first} if first else {})
    figures = {f"{pair} {name}": ratios(cost[BASE], values) for name, values in cost.items()}
    if scene.device == "cpu":
        return figures
    whole = EPOCHS * 50_000 / 60 / scene.images
    minutes = {f"{pair} {name} minutes": spread([whole * c for c in values]) for name, values in cost.items()}
    return figures | minutes


def _heading(scene: Scene, part: str, base: str, clock: str, rounds: int) -> str:
    validated = f", then {scene.validation} images validated" if scene.validation else ""
    return (
        f"\n{part}: {scene.teacher} -> {scene.student}, {scene.about}, {scene.device}, "
        f"{scene.threads} thread(s); {rounds} rounds of {scene.images} images{validated}\n"
        f"{'':16} ms of {clock} per 64 images | times as fast as {base}, median of rounds [range]"
    )


def _line(name: str, cost: Sequence[float], base: Sequence[float], scene: Scene) -> str:
    said = "" if cost is base else verdict(base, cost)
    return f"{name:16} {_per_batch(cost, scene).median:8.2f} | {ratios(base, cost)} {said}"


def _per_batch(cost: Sequence[float], scene: Scene) -> Spread:
    return spread([1000 * value * 64 / scene.images for value in cost])


def _content(
    scene: Scene, kind: Kind, spent: Sequence[Spent], base: Sequence[Spent], where: Mapping[str, Any]
) -> dict[str, Any]:
    clocks = {}
    for name in ("cpu", "wall"):
        own, others = [getattr(one, name) for one in spent], [getattr(one, name) for one in base]
        clocks[name] = {
            "ms_per_64_images": _per_batch(own, scene)._asdict(),
            "times_as_fast": ratios(others, own)._asdict(),
        }
    return {
        "note": kind.note,
        "keeps_memory": kind.kept,
        "trainings_at_once": kind.runs,
        "data": scene.about,
        "run": scene.overrides(),
        **clocks,
        "rounds": [one._asdict() for one in spent],
        "environment": where,
    }


def _first_run(cost: Mapping[str, Sequence[float]]) -> list[float]:
    """An average epoch of a run that fills its table as it goes: one with all answers, and of what the
    teacher adds in one without them, the share for which it is asked in 240 epochs. Empty where not measured.
    """
    if not {"table_first", "table_warm"} <= set(cost):
        return []
    share, both = computed_share(EPOCHS), zip(cost["table_warm"], cost["table_first"], strict=True)
    return [warm + share * (first - warm) for warm, first in both]
