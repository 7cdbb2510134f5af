"""A trained model is a folder that is made once: found finished, continued, or trained from the start."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from kdrun.artefacts import empty, locked, sweep_parts
from kdrun.errors import KdrunError
from kdrun.plan.plan import Assembly
from kdrun.plan.training import Training
from kdrun.progress.screen import Screen
from kdrun.stages.saved import STARTED, Trained, finished, weights_file
from kdrun.stages.train import train
from kdrun.stages.trainee import Member


def obtain(
    training: Training, assembly: Assembly, teacher: Trained | None, screen: Screen, allowed: bool = True
) -> Trained:
    """The trained model. Raises KdrunError where training is needed and not `allowed`."""
    fresh = assembly.run.fresh and allowed
    record, source = finished(training, fresh), "cache"
    if record is None and not allowed:
        stage = "teacher" if training.role == "teacher" else "student"
        problem = f"the {training.role} is not trained yet ({training.folder}); add the stage {stage}"
        raise KdrunError("stages", "[" + ",".join(assembly.run.stages) + "]", problem)
    if record is None:
        source = "trained" if make([Member(training, assembly, teacher)], screen) else "cache"
        record = finished(training, fresh=False)
        assert record is not None
    (training.folder / "state.pt").unlink(missing_ok=True)  # left by a kill right after the mark was written
    files = {name: weights_file(training, name) for name in record["weights"]}
    return Trained(training.role, source, files, record, training.folder / "metrics.jsonl")


def make(members: Sequence[Member], screen: Screen) -> int:
    """Trains those that nobody has trained meanwhile, all that stand at the same step in one loop. Returns
    how many.
    """
    with ExitStack() as locks:
        for member in sorted(members, key=lambda member: member.training.folder):
            locks.enter_context(_held(member.training, screen))
        left = [member for member in members if finished(member.training, member.assembly.run.fresh) is None]
        for member in left:
            _start_over(member.training, member.assembly.run.fresh)
        groups: dict[tuple[int, int], list[Member]] = {}
        for member in left:
            groups.setdefault(_position(member), []).append(member)
        for group in groups.values():
            train(group, screen)
        return len(left)


def _position(member: Member) -> tuple[int, int]:
    """Epoch and step from which a training goes on."""
    state = member.state
    return (state["position"][0], state["position"][1]) if state else (0, 0)


def _held(training: Training, screen: Screen) -> ExitStack:
    def waits(who: str) -> None:
        screen.say(f"{training.role:8} waits for {who}, which trains it")

    held = ExitStack()
    held.enter_context(locked(training.folder, waits))
    sweep_parts(training.folder)
    return held


def _start_over(training: Training, fresh: bool) -> None:
    training.mark.unlink(missing_ok=True)
    state = training.folder / "state.pt"
    if fresh and (not state.exists() or state.stat().st_mtime < STARTED):
        empty(training.folder)
