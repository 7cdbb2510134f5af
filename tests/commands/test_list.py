"""What `kdrun list` says a method costs, and that every method says so in the same form."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kdrun.commands.list import as_text, main
from kdrun.config.files import PAIR, Entry, entries, shipped

HEADER = rf"# step cost \d+\.\d\d \({' -> '.join(PAIR)}, batch 64, 1 CPU thread, \d{{4}}-\d\d-\d\d\)"


@pytest.mark.parametrize("path", sorted((shipped() / "method").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_method_tells_its_step_cost(path: Path) -> None:
    found = re.findall(r"^# step cost.*$", path.read_text(), re.MULTILINE)
    assert len(found) == 1 and re.fullmatch(HEADER, found[0]), "run scripts/step_costs --missing"


def test_costs_are_relative_to_kd() -> None:
    steps = {entry.name: entry.step for entry in entries(shipped(), "method")}
    assert steps["kd"] == pytest.approx(1.0, abs=0.05)
    assert steps["none"] is not None and steps["none"] < 0.6  # no teacher is asked
    assert all(step is not None and 0.3 < step < 20 for step in steps.values())


def entry(name: str, **more: object) -> Entry:
    told = {"description": "Hard labels and maps", "extra": "Heo et al., 2019", "path": Path("x.yaml")}
    return Entry(**{"group": "method", "name": name, **told, **more})  # type: ignore[arg-type]


def test_columns_of_methods() -> None:
    found = [
        entry("none", needs=(), adds=0, step=0.4),
        entry("reviewkd", needs=("embedding", "feature maps"), adds=1_808_774, step=12.3),
        entry("mine"),
    ]
    lines = as_text({"methods": found}, 80).splitlines()
    assert lines[0] == "methods   method=NAME"
    told = " ".join(" ".join(lines[1:3]).split())
    assert all(word in told for word in ("step: CPU time", "adds: parameters", *PAIR))
    assert lines[3:] == [
        "               step    adds",
        "  none       x 0.40          Hard labels and maps  (Heo et al., 2019)",
        "  reviewkd  x 12.30  1.81 M  Hard labels and maps  (Heo et al., 2019); needs",
        "                             embedding, feature maps",
        "  mine                       Hard labels and maps  (Heo et al., 2019)",
    ]


def test_no_empty_columns() -> None:
    lines = as_text({"losses": [entry("mine")], "recipes": [entry("quick")]}, 80).splitlines()
    assert lines[-1] == "  quick  Hard labels and maps  (Heo et al., 2019)"
    assert "  mine  Hard labels and maps  (Heo et al., 2019)" in lines


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_the_shipped_methods_fit_the_screen(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main(["methods", "losses"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= columns
    (review,) = (line for line in lines if line.startswith("  reviewkd ") and " x " in line)
    assert " M  " in review or " k  " in review


def test_keys_are_searched_by_words_that_name_a_list_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "engine"]) == 0
    assert "engine.partition=null" in capsys.readouterr().out


def test_names_and_descriptions_of_others_are_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "experiment").mkdir()
    for name in ("a\x1b[31m", "\xb2", "b\udcff"):
        (tmp_path / "experiment" / f"{name}.yaml").write_text("# red \x1b[31m | blue \x1b[34m\nseed: 1\n")
    assert main(["experiments", "--config-dir", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out and "a\\x1b[31m" in out and "red \\x1b[31m" in out and "b\\udcff" in out
