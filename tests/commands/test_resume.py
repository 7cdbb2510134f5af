"""A broken-off run reads each state once when it goes on."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from kdrun.artefacts import file_hash
from kdrun.training import checkpoint
from kdrun.training.step import Step
from tests.commands.short import SHORT, Here


def test_a_state_is_read_once(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Step.__call__

    def interrupted(self: Step, rows: Any) -> None:
        if any(here.root.glob("outputs/*/*/state.pt")):
            raise KeyboardInterrupt
        real(self, rows)

    command = (*SHORT, "checkpoint.seconds=0")
    with monkeypatch.context() as patch:
        patch.setattr(Step, "__call__", interrupted)
        assert here(*command)[0] == 130
    (state,) = here.root.glob("outputs/*/*/state.pt")

    reads, load = Counter[str](), checkpoint.load_plain

    def counted(path: Path) -> Any:
        reads[path.resolve().as_posix()] += 1
        return load(path)

    monkeypatch.setattr(checkpoint, "load_plain", counted)
    code, out, _ = here(*command)
    assert code == 0 and "resume   at epoch 1 of 2" in out
    assert reads[state.resolve().as_posix()] == 1 and not checkpoint.KEPT


def test_equal_runs_have_equal_files_of_weights(here: Here) -> None:
    run = here.run()
    assert here(*SHORT, "outputs_dir=elsewhere/other", "evaluation.samples=3")[0] == 0
    files = [path for path in here.root.glob("outputs/*/*/*.safetensors") if "answers-" not in path.name]
    names = [path.relative_to(here.root / "outputs") for path in files]
    assert len(names) == 7 and run.relative_to(here.root / "outputs") / "student.safetensors" in names
    for name in names:
        assert file_hash(here.root / "outputs" / name) == file_hash(here.root / "elsewhere" / "other" / name)
