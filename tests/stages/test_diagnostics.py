"""`diagnostics=gradients`: recorded and reported, and no bit of the student is another."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kdrun.cli import main

SHORT = (
    "recipe.teacher.epochs=1",
    "recipe.student.epochs=2",
    "evaluation.latency=false",
    "evaluation.plots=false",
    "control=false",
)


def test_gradients_are_recorded_and_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*SHORT, "method=mgd", "outputs_dir=plain"]) == 0
    assert main([*SHORT, "method=mgd", "outputs_dir=told", "diagnostics=gradients"]) == 0
    (one,), (two,) = (list(Path(name).glob("runs/*")) for name in ("plain", "told"))
    assert one.name == two.name
    for file in ("last.safetensors",):
        assert (one / file).read_bytes() == (two / file).read_bytes()
    rows = [json.loads(text) for text in (two / "metrics.jsonl").read_text().splitlines()]
    found = [row["gradients"] for row in rows if row["stage"] == "student"]
    assert len(found) == 2
    assert all(set(each) == {"hard", "generated"} for each in found)
    assert not any("gradients" in row for row in rows if row["stage"] != "student")
    report = json.loads((two / "report.json").read_text())
    assert report["distillation"]["gradients"]["epochs"] == 2
    assert (
        "more than 10 times as long as those of all other terms together" in (two / "report.md").read_text()
    )
    assert "On a fixed batch" not in (one / "report.md").read_text()

    assert main([*SHORT, "method=mgd", "outputs_dir=plain", "diagnostics=[gradients]"]) == 0
    assert "`fresh=true` trains it anew" in (one / "report.md").read_text()


def test_a_diagnostic_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnostics=speed"]) == 2
    assert capsys.readouterr().err == "diagnostics=speed: no such choice. Choices: gradients\n"
