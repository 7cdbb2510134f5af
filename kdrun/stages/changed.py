"""Names the user's own files whose change since an earlier run makes a training start over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from kdrun.artefacts import fingerprint
from kdrun.plan.training import Training
from kdrun.records import Damaged, read_mark, teachers_of
from kdrun.stages.saved import state_file

UNKNOWN = "your own code"
"""Used if an earlier version of kdrun did not record the files."""

LOOKED_AT = 100
"""The most earlier trainings that are compared."""


def changed(trainings: Iterable[Training]) -> list[str]:
    """`mine/losses.py changed: trained anew (student)` for each file that has changed."""
    by_file: dict[str, dict[str, None]] = {}
    for training in trainings:
        for file in _changed(training):
            by_file.setdefault(file, {})[training.name] = None
    return [
        f"{file} {'was not recorded' if file == UNKNOWN else 'changed'}: trained anew ({', '.join(who)})"
        for file, who in by_file.items()
    ]


def _changed(training: Training) -> list[str]:
    """The files that differ from those of the most similar earlier training of the same configuration."""
    now = training.key.get("sources")
    if not now or training.loaded or training.mark.exists() or state_file(training).exists():
        return []
    same = [key for key in map(_key, _beside(training)) if key and _plain(key) == _plain(training.key)]
    known = [key["sources"] for key in same if key.get("sources")]
    if same and not known:
        return [UNKNOWN]
    changes = (sorted({file for file, _ in now.items() ^ before.items()}) for before in known)
    return min(changes, key=len, default=[])


def _beside(training: Training) -> list[Path]:
    """The newest marks of finished trainings whose folders differ only in the fingerprint."""
    label = training.folder.name.removesuffix(training.fingerprint)
    marks = training.folder.parent.glob(f"{label}*/{training.mark.name}")
    return sorted(marks, key=lambda mark: mark.stat().st_mtime, reverse=True)[:LOOKED_AT]


def _key(mark: Path) -> Mapping[str, Any]:
    """All that a finished training depended on; empty for a mark that cannot be read."""
    try:
        record = read_mark(mark)
    except (OSError, Damaged):
        return {}
    return record["key"] if record else {}


def _plain(key: Mapping[str, Any]) -> str:
    """A fingerprint of the configuration alone: images and a teacher's key depend on the code too."""
    plain = {name: value for name, value in key.items() if name not in ("sources", "data", "normalised")}
    teachers = [{name: value for name, value in each.items() if name != "key"} for each in teachers_of(key)]
    return fingerprint(plain | {"teacher": teachers, "teachers": None})
