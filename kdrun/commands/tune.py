"""`kdrun tune key='interval(...)' ...`: searches the setting that is best on validation."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence

from kdrun.commands.searching import Asked, Searching
from kdrun.config.arguments import MANY, parse
from kdrun.config.compose import composing, loader
from kdrun.config.options import FOLDER, OTHER_SPELLINGS, Options, above_zero, whole
from kdrun.config.overrides import key_of
from kdrun.config.space import space
from kdrun.config.sweep import short_hash
from kdrun.errors import KdrunError
from kdrun.garbage import uncollected
from kdrun.terminal import note

TRIALS = 20
"""How many, if nothing is asked for."""

SECONDS = {"--hours": 3600, "--minutes": 60}

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
    aliases=OTHER_SPELLINGS,
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
    for line in dict.fromkeys(notes):
        note(line)
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
    trials = whole("--trials", options.get("--trials", str(TRIALS)))
    given = [size * above_zero(unit, options[unit]) for unit, size in SECONDS.items() if unit in options]
    seed = whole("--sampler-seed", options.get("--sampler-seed", "0"), least=0)
    prunes = options.get("--pruner", "median") == "median" and not searched.lengths_differ
    described = {**searched.described, "seed": seed, "prunes": prunes}
    name = options.get("--name") or f"{searched.short_name}-{short_hash(described)}"
    if not re.fullmatch(r"[\w-][\w.-]*", name):
        raise KdrunError("--name", name, "letters, digits, - _ . only: it names a folder")
    command = shlex.join(["kdrun", "tune", *arguments])
    return Asked(typed, searched, trials, sum(given) or None, name, seed, prunes, described, command)
