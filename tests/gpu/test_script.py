"""`scripts/gpu` is free of mistakes that need no GPU to be found."""

from __future__ import annotations

import json
from pathlib import Path

from tests.gpu import checks, figures
from tests.gpu.bench import Bench
from tests.gpu.timing import measured
from tests.gpu.world import Arm


def test_parts_write_what_they_find(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "out", "cpu", tiny=True, losses=["fitnet"])
    for part in (figures.fill, checks.losses):
        bench.do(part.__name__, part)
    written = json.loads((tmp_path / "out" / "gpu.json").read_text())
    assert written["failed"] == []
    (row,) = written["results"]["losses"]
    assert row["same"]["equal"] and row["graph"]["graph"]
    assert "| loss | eager arm | eager warm_s |" in (tmp_path / "out" / "gpu.md").read_text()


def test_a_part_that_fails_does_not_end_the_others(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "cpu", tiny=True)
    bench.do("broken", lambda bench: [measured(bench, Arm("none", terms={}))])
    assert bench.failed == ["broken: KdrunError: loss: there is no term, so there is nothing to learn from"]
