"""What a search tries next, what it keeps, and which keys it finds important; nothing is trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kdrun.commands.tune import read
from kdrun.config.space import Setting, Space
from kdrun.report.searches import Trial

pytest.importorskip("optuna")

from kdrun.search.history import JOURNAL, History, importance
from kdrun.search.proposal import Proposal, propose

NUMBERS = read(
    ["temperature=interval(1,16)", "alpha=interval(0,1)", "recipe.student.lr=tag(log, interval(1e-4,0.1))"]
)
FEW = read(["method=kd,dkd", "temperature=range(1,4)"])


def score(setting: Setting) -> float:
    """Alpha decides nearly all."""
    return 90 - 40 * (float(setting["alpha"]) - 0.7) ** 2 - 0.01 * float(setting["temperature"])


def search(
    folder: Path, space: Space, number: int, score: Callable[[Setting], float], seed: int = 0
) -> list[Trial]:
    """Tries settings up to `number`, with what the folder holds."""
    folder.mkdir(exist_ok=True)
    history = History(folder, space)
    while len(history.frozen) < number:
        proposal = propose(space, history, {}, seed)
        if proposal is None:
            break
        history.add(Trial(proposal.setting, "complete", (score(proposal.setting),)))
    return history.trials


def test_a_search_repeats_also_if_it_is_broken_off(tmp_path: Path) -> None:
    once = search(tmp_path / "once", NUMBERS.space, 14, score)
    for number in (3, 11, 14):  # within the first, random ones and after them
        again = search(tmp_path / "again", NUMBERS.space, number, score)
    assert again == once
    assert search(tmp_path / "other", NUMBERS.space, 3, score, seed=1) != once[:3]


def test_a_line_that_was_half_written_is_not_there(tmp_path: Path) -> None:
    before = search(tmp_path / "a", NUMBERS.space, 4, score)
    journal = tmp_path / "a" / JOURNAL
    journal.write_bytes(journal.read_bytes()[:-9])
    assert History(tmp_path / "a", NUMBERS.space).trials == before[:3]
    assert search(tmp_path / "a", NUMBERS.space, 4, score) == before


def test_it_looks_where_it_was_good(tmp_path: Path) -> None:
    trials = search(tmp_path / "a", NUMBERS.space, 30, score)
    early, late = (sum(trial.accuracy[0] for trial in part) / 10 for part in (trials[:10], trials[20:]))
    assert late > early + 2


def test_each_setting_of_a_small_space_is_tried_once(tmp_path: Path) -> None:
    trials = search(tmp_path / "a", FEW.space, 50, lambda setting: 80.0)
    assert len(trials) == 6 == len({tuple(trial.values.items()) for trial in trials})


def test_the_first_trial_has_the_values_without_a_search_as_far_as_it_can(tmp_path: Path) -> None:
    history = History(tmp_path, NUMBERS.space)
    default = {"alpha": 0.9, "recipe.student.lr": 0.03}
    first = propose(NUMBERS.space, history, default, seed=0)
    assert first is not None and first.setting.items() > default.items()
    assert 1 <= float(first.setting["temperature"]) <= 16


def test_what_decides_is_important_and_few_trials_say_nothing(tmp_path: Path) -> None:
    search(tmp_path, NUMBERS.space, 40, score)
    history = History(tmp_path, NUMBERS.space)
    shares = importance(history.frozen)
    assert next(iter(shares)) == "alpha" and shares["alpha"] > 0.5
    assert sum(shares.values()) == pytest.approx(1)
    assert importance(history.frozen[:9]) == {}


def test_equal_trials_have_no_importance(tmp_path: Path) -> None:
    search(tmp_path, NUMBERS.space, 12, lambda setting: 80.0)
    assert importance(History(tmp_path, NUMBERS.space).frozen) == {}


def judged(tmp_path: Path, curve: list[float], prunes: bool = True) -> Proposal:
    """A trial that is seen with a curve of 8 epochs after 5 complete ones that rose to 80 to 84."""
    history = History(tmp_path, NUMBERS.space)
    for n in range(len(history.frozen), 5):
        setting = {"temperature": 2.0 + n, "alpha": 0.5, "recipe.student.lr": 0.01}
        history.add(Trial(setting, "complete", (80.0 + n,), {e: 10.0 * e + n for e in range(1, 9)}))
    proposal = propose(NUMBERS.space, history, {}, 0, prunes)
    assert proposal is not None
    for epoch, accuracy in enumerate(curve, 1):
        if not proposal.worth(epoch, accuracy, 8):
            break
    return proposal


def test_a_trial_below_the_median_of_the_others_at_its_epoch_stops(tmp_path: Path) -> None:
    """The median of 10 e + 0...4 is 10 e + 2. In the first quarter nothing stops."""
    assert list(judged(tmp_path, [0, 21.9, 40]).curve) == [1, 2]
    assert list(judged(tmp_path, [0, 22, 32, 41.9, 60]).curve) == [1, 2, 3, 4]
    assert list(judged(tmp_path, [0, 0, 0], prunes=False).curve) == [1, 2, 3]


def test_a_failed_trial_is_kept_with_its_error(tmp_path: Path) -> None:
    history = History(tmp_path, FEW.space)
    failed = Trial({"method": "kd", "temperature": 1}, "failed", error="loss: is not finite", epochs=1)
    history.add(failed)
    assert History(tmp_path, FEW.space).trials == [failed]
