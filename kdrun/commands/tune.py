"""`kdrun tune key='interval(...)' ...`: searches the setting that is best on validation."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Mapping, Sequence

from kdrun.commands.searching import Asked, Budget, Searching
from kdrun.config.arguments import FOLDER, MANY, parse
from kdrun.config.compose import composing, loader
from kdrun.config.load import key_of
from kdrun.config.options import Options
from kdrun.config.space import space
from kdrun.config.sweep import short_hash
from kdrun.errors import KdrunError
from kdrun.garbage import uncollected

TRIALS = 20

OPTIONS = Options(
    values={
        "--trials": (),
        "--minutes": (),
        "--hours": (),
        "--name": (),
        "--pruner": ("median", "none"),
        "--sampler-seed": (),
        FOLDER: (),
    },
    aliases={"-cd": FOLDER},
)


def main(arguments: Sequence[str]) -> int:
    """Searches; 1 if no trial is complete. Raises KdrunError before any training for a wrong space."""
    asked = read(arguments)
    with uncollected():
        from kdrun.search.history import refuse_without_optuna

    refuse_without_optuna()
    from kdrun.plan.notes import unfinished
    from kdrun.search.runs import Runs, default_of, outside, refuse_impossible_values, validation_images
    from kdrun.stages.engines.engine import refuse_unusable
    from kdrun.stages.ready import refuse_unstartable

    print("checking the space", file=sys.stderr, flush=True)
    runs = Runs(asked.typed, asked.space)
    plain = runs.plain()
    refuse_unusable(plain.run)
    default = default_of(plain.run, asked.space)
    plan = refuse_impossible_values(runs, default)
    refuse_unstartable(plan)
    images = validation_images(plan)
    notes = [*plain.notes, *outside(plain.run, asked.space), *unfinished(plan)]
    if asked.space.lengths_differ:
        notes.append("trials of different lengths are not pruned")
    for note in dict.fromkeys(notes):
        print(f"note: {note}", file=sys.stderr, flush=True)
    return Searching(asked, runs, default, images, plan).all()


def read(arguments: Sequence[str]) -> Asked:
    """The search that was typed. Raises KdrunError."""
    words, options = OPTIONS.parse(arguments)
    place = (FOLDER, options[FOLDER]) if FOLDER in options else ()
    typed = parse([MANY, *place, *words])
    for word in typed.overrides:
        if key_of(word) == "stages":
            raise KdrunError(word, None, "kdrun tune sets the stages itself")
    with composing(typed):
        searched = space(typed, loader())
    minutes = 60 * _number(options, "--hours") + _number(options, "--minutes")
    budget = Budget(int(_number(options, "--trials", TRIALS, True)), 60 * minutes or None)
    seed = int(_number(options, "--sampler-seed", 0, True, least=0))
    prunes = options.get("--pruner", "median") == "median" and not searched.lengths_differ
    described = {**searched.described, "seed": seed, "prunes": prunes}
    name = options.get("--name") or f"{searched.short_name}-{short_hash(described)}"
    if not re.fullmatch(r"[\w-][\w.-]*", name):
        raise KdrunError("--name", name, "letters, digits, - _ . only: it names a folder")
    command = shlex.join(["kdrun", "tune", *arguments])
    return Asked(typed, searched, budget, name, seed, prunes, described, command)


def _number(
    options: Mapping[str, str], name: str, usual: float = 0, whole: bool = False, least: float = 1e-9
) -> float:
    """The number of an option. usual: its default. Raises KdrunError."""
    text = options.get(name)
    if text is None:
        return usual
    least = max(least, 1) if whole and least > 0 else least
    try:
        number = int(text) if whole else float(text)
    except ValueError:
        number = -1
    if not least <= number < float("inf"):
        what = f"a whole number from {least}" if whole else "a number above 0"
        raise KdrunError(name, text, f"must be {what}")
    return number
