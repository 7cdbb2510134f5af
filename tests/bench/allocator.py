"""What it gives, and takes, that a process keeps the memory it frees (`kdrun.machine.keep_memory`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tests.bench.arms import LIVE, Kind, whole
from tests.bench.scene import Scene
from tests.bench.steps import measure as rounds_of

WORK = {
    "teacher_64": ("the teacher, 64 images at once", ("ours.Asked", {"batch": 64})),
    "teacher_128": ("the teacher, 128 images at once", ("ours.Asked", {"batch": 128})),
    "teacher_512": ("the teacher, 512 images at once", ("ours.Asked", {"batch": 512})),
    "student": ("the student without a teacher", whole("student", "alpha=0")),
    "live": ("the student with a live teacher", whole("live", LIVE)),
}


def measure(scene: Scene, rounds: int, out: Path, say: Callable[[str], None]) -> None:
    """Each kind of work in two processes that are alike but for this, in rounds of whole batches of 512."""
    scene = replace(scene, images=scene.images // 512 * 512 or scene.images)
    for name, (note, made) in WORK.items():
        kinds = {"default": Kind(note, made), "kept": Kind(note, made, kept=True)}
        rounds_of(replace(scene, folder=scene.folder / name), kinds, rounds, f"allocator-{name}", out, say)
