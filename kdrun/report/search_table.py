"""A search on the screen: a line for each trial as it ends, then all of them, the best first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean

from kdrun.figures import percent, plural, signed
from kdrun.report import sweeps
from kdrun.report.searches import Search, Trial, best
from kdrun.report.statistics import noise_of
from kdrun.report.sweep_table import SPACE, on_test, sure
from kdrun.report.sweep_verdict import flattered_means, flattery
from kdrun.report.sweeps import Setting, choice_among, key_name, spread_text, value_name
from kdrun.report.tables import columns, grid, paragraph

ROWS = 20
"""The most trials on the screen; the files have all."""

ENDED = "pruned at"
"""The heading of the column that says how pruned and failed trials ended."""

BY = "by PED-ANOVA"
"""How importance is measured."""


def line(trials: Sequence[Trial], most: int, columns: int) -> str:
    """` 3 of 20  temperature=3.2 alpha=0.7  validation 90.9  best 91.4`; two lines if one is too long."""
    number, trial = len(trials), trials[-1]
    values = " ".join(f"{key}={value_name(value)}" for key, value in trial.values.items())
    head, at = f" {number:>{len(str(most))}} of {most}  {values}", best(trials)
    so_far = "" if at is None or at == number - 1 else f"  best {percent(fmean(trials[at].accuracy))}"
    ended = f"{outcome(trial)}{so_far}"
    return f"{head}  {ended}" if len(head) + len(ended) + 2 <= columns else f"{head}\n   {ended}"


def outcome(trial: Trial) -> str:
    """`validation 90.9 +- 0.4`, `pruned after 12 epochs at 84.3`, `failed: ...`."""
    if trial.state == "complete":
        return f"validation {spread_text(trial.spread, 'student')}"
    return _ending(trial) + (f": {trial.error}" if trial.error else "")


def text(search: Search, width: int = 80) -> str:
    """The trials as plain text, no line longer than width, then the notes."""
    head, below = title(search), "\n".join(notes(search))
    words = [
        place
        for place, key in enumerate(search.keys, 2)
        if any(sweeps.number(trial.values[key]) is None for trial in search.trials)
    ]
    body = [row(search, position) for position in search.ranked[:ROWS]]
    table = columns(heading(search), body, left=(0, *words, len(search.keys) + 3))
    left = len(search.trials) - ROWS
    more = f"and {plural(left, 'trial')} more, in results.md\n" if left > 0 else ""
    shown = f"{paragraph(head, width)}\n{grid(table, width, SPACE)}"
    return f"{shown}{more}\n{paragraph(below, width)}"


def heading(search: Search) -> list[str]:
    """The headings of `row`."""
    states = {trial.state for trial in search.trials}
    ended = [ENDED if "pruned" in states else ""] if states != {"complete"} else []
    return ["", "trial", *map(key_name, search.keys), "validation", *ended]


def row(search: Search, position: int) -> list[str]:
    """The cells of a trial: mark, number, values, validation, and how it ended if it is not complete."""
    trial, chosen = search.trials[position], search.choice
    mark = "*" if position == search.best or (chosen is not None and position in chosen.within) else ""
    cells = [mark, str(position + 1), *(value_name(trial.values[key]) for key in search.keys)]
    cells.append(spread_text(trial.spread, "student"))
    every = any(each.state != "complete" for each in search.trials)
    return [*cells, _where(trial)] if every else cells


def title(search: Search) -> str:
    """`top-1 of the student on validation (197 images), %, mean +- std of seed=0, seed=1`."""
    return f"top-1 of the student on validation ({plural(search.images, 'image')}), %, {search.over}"


def notes(search: Search) -> Iterator[str]:
    """The lines below the table: counts, importance, the choice and its figure on test."""
    yield from _counts(search)
    if search.importance:
        shares = ", ".join(f"{key_name(k)} {100 * share:.0f} %" for k, share in search.importance.items())
        yield f"Importance for being among the best ({BY}, {len(search.complete)} complete trials): {shares}"
    else:
        yield "Importance of the keys: not measured (it needs two keys, and ten complete trials that differ)."
    if search.best is None:
        yield "No trial is complete, so no setting is chosen."
        return
    chosen = choice_among(search.accuracy, search.images)
    if chosen is not None:
        yield (
            "* best on validation, or at most one standard error below it "
            f"(noise of {noise_of(len(search.repeats), search.images)})"
        )
    yield from _tested(search)


def _counts(search: Search) -> Iterator[str]:
    states = [trial.state for trial in search.trials]
    kinds = [f"{states.count(state)} {state}" for state in ("complete", "pruned", "failed")]
    yield f"{plural(len(states), 'trial')}: {', '.join(kinds)}"
    first = search.trials[0]
    if search.default and search.best is not None and first.spread is not None:
        better = fmean(search.trials[search.best].accuracy) - first.spread.mean
        best = "is the best" if search.best == 0 else f"is {signed(better)} points below the best"
        yield f"Trial 1, the values without a search, {best.replace('+', '')} on validation."


def _tested(search: Search) -> Iterator[str]:
    """The best trial's accuracy on test, and the evidence for its gain."""
    assert search.best is not None
    values = search.trials[search.best].values
    named = ", ".join(f"{key_name(key)} {value_name(value)}" for key, value in values.items())
    if not search.jobs:
        yield f"The best so far on validation: {named}. The test part is used only when the search has ended."
        return
    setting = Setting({}, search.jobs)
    yield f"The setting chosen on validation ({named}) has {on_test(setting)}"
    chosen = choice_among(search.accuracy, search.images)
    if chosen is not None:
        yield flattery(flattered_means(search.accuracy, chosen))
    yield from sure([setting], None)
    if len(search.repeats) == 1:
        yield "One seed each: a lucky setting may be chosen. With seed=0,1,2 a trial is the mean of three."
    if any(key.startswith("recipe.student") for key in search.keys):
        yield "The control has the recipe that was chosen for the student; it was not tuned itself."


def _where(trial: Trial) -> str:
    """`epoch 12: 84.3` of a pruned trial, `failed`; nothing of a complete one."""
    if trial.state != "pruned":
        return "failed" if trial.state == "failed" else ""
    return f"epoch {trial.epochs}" + ("" if trial.last is None else f": {percent(trial.last)}")


def _ending(trial: Trial) -> str:
    if trial.state == "failed":
        return "failed"
    after = f"pruned after {plural(trial.epochs, 'epoch')}"
    return after if trial.last is None else f"{after} at {percent(trial.last)}"
