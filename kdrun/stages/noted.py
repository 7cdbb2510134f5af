"""Writes groups down before they train, so that a killed sweep forms the same groups again.

The last bits of a batched model depend on its members and its threads, and what is left after a kill could
form other groups.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from kdrun.artefacts import write_json
from kdrun.plan.training import Training
from kdrun.records import NOTE, Damaged, Note, read_fields
from kdrun.stages.groups import Group, groups
from kdrun.stages.saved import state_file
from kdrun.training.checkpoint import NEXT


class GroupThreads(NamedTuple):
    """A group, and the threads of its process; None if it needs no process of its own."""

    group: Group
    threads: int | None = None


def parts(
    ready: Sequence[Training],
    spread: Callable[[list[Group]], list[Group]],
    threads: Callable[[Group], int | None],
    several: bool = False,
) -> list[GroupThreads]:
    """The groups of trainings: those that were written down, then new ones.

    spread: orders new groups, and splits them for several processes. threads: for the process of a new group;
    None if it needs none of its own. several: whether they are of several runs: then they are written down.
    """
    noted: dict[str, tuple[Note, Group]] = {}
    new = []
    for training in ready:
        note = None if training.ground.run.fresh else read_note(training)
        if note is None or training.folder.name not in note["members"]:
            new.append(training)
        else:
            noted.setdefault(repr(note), (note, []))[1].append(training)
    earlier = [GroupThreads(_ordered(group, note), note["threads"]) for note, group in noted.values()]
    every = [*earlier, *(GroupThreads(group, threads(group)) for group in spread(groups(new)))]
    if several:
        write_notes(every)
    return every


def write_notes(every: Sequence[GroupThreads]) -> None:
    """Writes the members of each group into their folders, unless an earlier note is there."""
    for part in every:
        note = Note(members=[training.folder.name for training in part.group], threads=part.threads)
        for training in part.group:
            if training.ground.run.fresh or read_note(training) is None:
                training.folder.mkdir(parents=True, exist_ok=True)
                write_json(training.folder / NOTE, note)


def read_note(training: Training) -> Note | None:
    """The note on a training's group; None if there is none."""
    with suppress(OSError, Damaged):
        note: Note | None = read_fields(training.folder / NOTE, Note)
        return note
    return None


def settle(group: Sequence[Training]) -> None:
    """Brings the states of a group to one step if a kill came while they were written.

    They are all written as NEXT, then renamed, the first member's first. Hold the locks.
    """
    note = read_note(group[0])
    first = group[0].folder.parent / note["members"][0] if note else group[0].folder
    complete = not (first / NEXT).exists()
    for training in reversed(group):
        waiting = training.folder / NEXT
        if complete and waiting.exists():
            waiting.replace(state_file(training))
        waiting.unlink(missing_ok=True)


def note_loop(loop: Sequence[Training]) -> None:
    """Corrects the notes if the members of a loop are not those of the note."""
    names = [training.folder.name for training in loop]
    for training in loop:
        note = read_note(training)
        if note is not None and note["members"] != names:
            write_json(training.folder / NOTE, {**note, "members": names})


def forget(folder: Path) -> None:
    """Removes the note of a training that is finished."""
    (folder / NOTE).unlink(missing_ok=True)


def _ordered(group: Group, note: Note) -> Group:
    return sorted(group, key=lambda training: note["members"].index(training.folder.name))
