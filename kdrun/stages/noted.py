"""Groups are written down before they train, so that a killed sweep forms the same ones again.

The last bits of a batched model depend on who is in it, and on the threads. What is left after a kill could
form other groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from kdrun.artefacts import write_json
from kdrun.plan.training import Training
from kdrun.records import NOTE, Damaged, Note, read_fields
from kdrun.stages.groups import Group, groups, spread
from kdrun.training.checkpoint import NEXT


class Part(NamedTuple):
    """A group, and the threads of its process; None if it needs no process of its own."""

    group: Group
    threads: int | None = None


def parts(ready: Sequence[Training], processes: int, threads: int) -> list[Part]:
    """The groups of trainings: those that were written down, then new ones, spread over processes.

    threads: of a new group's process.
    """
    noted: dict[str, tuple[Note, Group]] = {}
    new = []
    for training in ready:
        note = None if training.ground.run.fresh else read_note(training)
        if note is None or training.folder.name not in note["members"]:
            new.append(training)
        else:
            noted.setdefault(repr(note), (note, []))[1].append(training)
    earlier = [Part(_ordered(group, note), note["threads"]) for note, group in noted.values()]
    if processes == 1:
        return [*earlier, *map(Part, groups(new))]
    return [*earlier, *(Part(group, threads) for group in spread(groups(new), processes))]


def write_notes(every: Sequence[Part]) -> None:
    """Writes down who trains together."""
    for part in every:
        note = Note(members=[training.folder.name for training in part.group], threads=part.threads)
        for training in part.group:
            if training.ground.run.fresh or read_note(training) is None:
                training.folder.mkdir(parents=True, exist_ok=True)
                write_json(training.folder / NOTE, note)


def read_note(training: Training) -> Note | None:
    """Who a training was to be trained with; None if it is not written down."""
    with suppress(OSError, Damaged):
        note: Note | None = read_fields(training.folder / NOTE, Note)
        return note
    return None


def settle(group: Sequence[Training], state: str) -> None:
    """Makes the states of a group those of one step, if a kill came between two of them.

    They are all written as NEXT, then renamed to `state`, the first one first. Call it with the locks held.
    """
    note = read_note(group[0])
    first = group[0].folder.parent / note["members"][0] if note else group[0].folder
    complete = not (first / NEXT).exists()
    for training in reversed(group):
        waiting = training.folder / NEXT
        if complete and waiting.exists():
            waiting.replace(training.folder / state)
        waiting.unlink(missing_ok=True)


def note_loop(loop: Sequence[Training]) -> None:
    """Writes down who really trains together, if it is not as it was to be."""
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
