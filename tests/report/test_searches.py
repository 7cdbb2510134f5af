"""A search on the screen, in files and as pictures."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from kdrun.report.search_files import csv_text, markdown, read, record, write
from kdrun.report.search_plots import history, importance, slices
from kdrun.report.search_table import line, text
from kdrun.report.searches import Search, Trial
from tests.report.example import example
from tests.report.pictures import coloured, pixels


def trial(lr: float, method: str, *accuracy: float, **more: object) -> Trial:
    """A complete trial, if `more` does not say otherwise."""
    about = {"state": "complete", "accuracy": accuracy, "epochs": 8, "curve": {8: sum(accuracy) or 1.0}}
    return Trial({"recipe.student.lr": lr, "method": method}, **(about | more))  # type: ignore[arg-type]


TRIALS = (
    trial(0.03, "kd", 88.0, 89.0),
    trial(0.0001, "kd", state="pruned", curve={1: 10.0, 2: 12.5}, epochs=2),
    trial(0.05, "dkd", 90.0, 91.0),
    trial(0.9, "dkd", state="failed", curve={}, epochs=0, error="loss.soft: is not finite"),
    trial(0.02, "kd", 90.0, 91.0),
)
SEARCH = Search(
    ("recipe.student.lr", "method"),
    frozenset({"recipe.student.lr"}),
    TRIALS,
    197,
    ("seed=0", "seed=1"),
    True,
    {"method": 0.75, "recipe.student.lr": 0.25},
    ({"overrides": {"seed": 0}, "report": example(), "folder": "runs/x"},),
    ("kdrun tune ...",),
    "kdrun method=dkd",
)


def test_the_first_of_equals_is_chosen_and_pruned_ones_are_not_compared() -> None:
    assert SEARCH.best == 2 and SEARCH.choice is not None and SEARCH.choice.best == 2
    assert SEARCH.choice.within == {0, 2, 4}
    assert SEARCH.ranked == [2, 4, 0, 1, 3]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_screen(width: int) -> None:
    shown = text(SEARCH, width)
    assert max(map(len, shown.splitlines())) <= width
    words = " ".join(shown.split())
    assert "(197 images), %, mean +- std of seed=0, seed=1" in words
    assert "* 3 0.05 dkd 90.5 +- 0.7" in words and "2 0.0001 kd - epoch 2: 12.5" in words
    assert "5 trials: 3 complete, 1 pruned, 1 failed" in words
    assert "Trial 1, the values without a search, is 2.0 points below the best on validation." in words
    assert "5 complete trials" not in words and "(by PED-ANOVA, 3 complete trials): method 75 %" in words
    assert "The setting chosen on validation (student.lr 0.05, method dkd) has " in words
    assert "On validation it shows 90.5 %. The choice of the best makes that about" in words
    assert "it was not tuned itself" in words


def test_a_broken_off_search_says_nothing_of_test() -> None:
    shown = " ".join(text(SEARCH._replace(jobs=(), importance={})).split())
    assert "The test part is used only when the search has ended." in shown and "on test" not in shown
    assert "not measured" in shown


def test_no_complete_trial() -> None:
    search = SEARCH._replace(trials=(TRIALS[1], TRIALS[3]), jobs=(), importance={})
    assert "0 complete, 1 pruned, 1 failed" in text(search) and search.best is None
    assert "No trial is complete, so no setting is chosen." in text(search)


def test_a_line_for_each_trial() -> None:
    assert line(TRIALS[:1], 20, 120) == "  1 of 20  recipe.student.lr=0.03 method=kd  validation 88.5 +- 0.7"
    assert line(TRIALS[:2], 5, 40).splitlines()[1] == "   pruned after 2 epochs at 12.5  best 88.5"
    assert line(TRIALS[:4], 5, 120).endswith("failed: loss.soft: is not finite  best 90.5")


def test_all_files_have_all_trials() -> None:
    rows = list(csv.DictReader(csv_text(SEARCH).splitlines()))
    assert [row["state"] for row in rows] == [t.state for t in TRIALS]
    assert rows[2]["validation_mean"] == "90.5" and rows[1]["validation_mean"] == ""
    assert rows[1]["last_seen"] == "12.5"
    content = record(SEARCH)
    assert content["chosen"]["trial"] == 3 and content["chosen"]["within_the_noise"] == [1, 3, 5]
    page = markdown(SEARCH, ["history.png"])
    assert "```\nkdrun tune ...\n```" in page and "```\nkdrun method=dkd\n```" in page
    assert "- Trial 4 failed: loss.soft: is not finite" in page


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    folder, run = tmp_path / "searches" / "one", tmp_path / "runs" / "x"
    folder.mkdir(parents=True)
    run.mkdir(parents=True)
    (run / "report.json").write_text(json.dumps(example()))
    names = write(folder, SEARCH)
    assert names == [
        "results.csv", "results.json", "results.md", "history.png", "importance.png", "slices.png",
    ]  # fmt: skip
    assert text(read(folder)) == text(SEARCH)
    write(folder, SEARCH._replace(importance={}))
    assert not (folder / "importance.png").exists()


def test_pictures(tmp_path: Path) -> None:
    for draw in (history, importance, slices):
        draw(tmp_path / "x.png", SEARCH)
        assert coloured(pixels(tmp_path / "x.png"), "#0b6fb8") > 20
    history(tmp_path / "x.png", SEARCH)
    history(tmp_path / "y.png", SEARCH._replace(trials=(*TRIALS[:1], TRIALS[3], *TRIALS[2:])))
    below = [coloured(pixels(tmp_path / name), "#6b6b6b") for name in ("x.png", "y.png")]
    assert below[0] > below[1] + 20, "a pruned trial is marked, also far below the complete ones"
    nothing = SEARCH._replace(trials=TRIALS[1:2], importance={})
    for draw in (history, importance, slices):
        with pytest.raises(ValueError):
            draw(tmp_path / "x.png", nothing)
