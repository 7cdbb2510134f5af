"""`kdrun tune key='interval(...)' ...`: searches the setting that is best on validation: its trials, then the
best one as an ordinary run, then the results.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from kdrun.artefacts import empty, held, locked, read_json, set_aside, sweep_parts, write_json
from kdrun.commands.sweep import ahead, carried_out, finished_earlier
from kdrun.config.arguments import MANY, Typed, parse
from kdrun.config.compose import composing, loader
from kdrun.config.options import FOLDER, OTHER_SPELLINGS, Options, read_above_zero, read_whole
from kdrun.config.overrides import key_of
from kdrun.config.space import Interval, Setting, Space, space, swept
from kdrun.config.sweep import short_hash
from kdrun.errors import KdrunError
from kdrun.figures import plural
from kdrun.garbage import uncollected
from kdrun.report.searches import Search, Trial, best
from kdrun.terminal import TABLE, note, width

if TYPE_CHECKING:  # these import torch
    from kdrun.plan.plan import Plan
    from kdrun.progress.screen import Screen
    from kdrun.search.history import History
    from kdrun.search.proposal import Proposal
    from kdrun.search.runs import Runs

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

HOPELESS = 3
"""The search ends if the first HOPELESS trials all fail."""

ABOUT = "search.json"
"""The file with the description of a folder's search, and its commands."""


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


def read(arguments: Sequence[str]) -> SearchOptions:
    """The search that was typed. Raises KdrunError."""
    words, options = OPTIONS.parse(arguments)
    place = (FOLDER, options[FOLDER]) if FOLDER in options else ()
    typed = parse([MANY, *place, *words])
    for word in typed.overrides:
        if key_of(word) == "stages":
            raise KdrunError(word, None, "kdrun tune sets the stages itself")
    with composing(typed):
        searched = space(typed, loader())
    trials = read_whole(options, "--trials", TRIALS)
    given = [size * read_above_zero(unit, options[unit]) for unit, size in SECONDS.items() if unit in options]
    seed = read_whole(options, "--sampler-seed", 0, least=0)
    prunes = options.get("--pruner", "median") == "median" and not searched.lengths_differ
    described = {**searched.described, "seed": seed, "prunes": prunes}
    name = options.get("--name") or f"{searched.short_name}-{short_hash(described)}"
    if not re.fullmatch(r"[\w-][\w.-]*", name):
        raise KdrunError("--name", name, "letters, digits, - _ . only: it names a folder")
    command = shlex.join(["kdrun", "tune", *arguments])
    return SearchOptions(typed, searched, trials, sum(given) or None, name, seed, prunes, described, command)


class SearchOptions(NamedTuple):
    """A search as it was typed. trials: in all calls together. seconds: for this call; None: no limit. seed:
    of the sampler. prunes: whether trials may be stopped. described: what identifies the search, as plain
    values.
    """

    typed: Typed
    space: Space
    trials: int
    seconds: float | None
    name: str
    seed: int
    prunes: bool
    described: Mapping[str, Any]
    command: str


class Searching(NamedTuple):
    """A search at work. default: the values without a search, if they are in the space. images: how many the
    validation part has. plan: of a trial.
    """

    asked: SearchOptions
    runs: Runs
    default: Setting
    images: int
    plan: Plan

    @property
    def folder(self) -> Path:
        return Path(self.plan.run.outputs_dir) / "searches" / self.asked.name

    def all(self) -> int:
        """Tries all trials, tests the best, shows the results; 1 if no trial is complete.

        The trials so far are written and shown even after an error.
        """
        from kdrun.search.history import History

        def waits(who: str) -> None:
            print(f"waits for {who}, which works on this search", file=sys.stderr, flush=True)

        with held([self.folder]), locked(self.folder, waits):
            commands = self._begin()
            history = History(self.folder, self.asked.space)
            jobs: list[dict[str, Any]] = []
            try:
                self._try_all(history)
                jobs = self._tested(history)
            finally:
                self._show(history, jobs, commands)
        return int(best(history.trials) is None)

    def _begin(self) -> tuple[str, ...]:
        """Makes the folder, and returns all commands of this search. Raises KdrunError for another search."""
        if self.plan.run.fresh:
            empty(self.folder)
        sweep_parts(self.folder)
        set_aside(self.folder)
        path, commands = self.folder / ABOUT, list[str]()
        if path.exists():
            before = read_json(path)
            commands = before.pop("commands")
            if before != self.asked.described:
                keys = ", ".join(before["keys"])
                problem = f"is another search (of {keys}): choose another name, or start over with fresh=true"
                raise KdrunError("--name", self.asked.name, problem)
        commands = list(dict.fromkeys([*commands, self.asked.command]))
        write_json(path, {**self.asked.described, "commands": commands})
        return tuple(commands)

    def _try_all(self, history: History) -> None:
        from kdrun.progress.screen import screen
        from kdrun.search.proposal import propose

        began, most, seconds = time.monotonic(), self.asked.trials, self.asked.seconds
        if history.frozen:
            print(f"{plural(len(history.frozen), 'trial')} finished earlier", flush=True)
        shown = screen(unsaid=("student",))
        while (number := len(history.frozen)) < most:
            if seconds is not None and time.monotonic() - began >= seconds:
                print(f"time is up after {plural(number, 'trial')}; the same command continues", flush=True)
                return
            proposal = propose(self.asked.space, history, self.default, self.asked.seed, self.asked.prunes)
            if proposal is None:
                print(f"all {number} settings of the space are tried", flush=True)
                return
            history.add(self._tried(proposal, shown))
            self._say(history.trials)

    def _tried(self, proposal: Proposal, shown: Screen) -> Trial:
        from kdrun.search.trial import tried

        try:
            plans = self.runs.trial(proposal.setting)
        except KdrunError as error:  # each value is possible alone, but not together
            return Trial(proposal.setting, "failed", error=str(error))
        return tried(proposal, plans, shown)

    def _say(self, trials: list[Trial]) -> None:
        """Prints a line for the trial that has just ended. Raises KdrunError if all have failed."""
        from kdrun.report.search_table import line

        trial, most = trials[-1], self.asked.trials
        output = sys.stderr if trial.state == "failed" else sys.stdout
        print(line(trials, most, width()), file=output, flush=True)
        if len(trials) >= HOPELESS and all(each.state == "failed" for each in trials):
            error = KdrunError("kdrun tune", None, f"the first {len(trials)} trials failed: {trial.error}")
            error.while_running = True
            raise error

    def _tested(self, history: History) -> list[dict[str, Any]]:
        """The best trial as ordinary runs, one for each repeat, with control and test; jobs as in
        `report.sweeps`.
        """
        from kdrun.plan.plan import make_plan
        from kdrun.report.read import read

        trials = history.trials
        chosen = best(trials)
        if chosen is None:
            return []
        setting, space = trials[chosen].values, self.asked.space
        loaded = [self.runs.loaded(setting, repeat) for repeat in space.repeats]
        plans = [make_plan(each.run, self.runs.grounds) for each in loaded]
        done = finished_earlier(plans)
        if not all(done):
            print(f"\ntrial {chosen + 1} is best on validation; its control and its test", flush=True)
        made = ahead(plans, done)
        jobs: list[dict[str, Any]] = []
        for each, plan, repeat in zip(loaded, plans, space.repeats, strict=True):
            command = self.asked.typed.command(each.overrides)
            run = carried_out(plan, command, made)
            every = swept(space, setting, repeat).items()
            own = {key: value for key, value in every if key not in setting}
            about = {"overrides": own, "report": read(run), "folder": self._relative(run)}
            jobs.append(about | {"command": command})
        return jobs

    def _show(self, history: History, jobs: list[dict[str, Any]], commands: tuple[str, ...]) -> None:
        from kdrun.report.search_files import write
        from kdrun.report.search_table import text
        from kdrun.search.history import importance

        trials, space = history.trials, self.asked.space
        if not trials:
            return
        search = Search(
            keys=tuple(key.name for key in space.keys),
            logarithmic=frozenset(
                key.name for key in space.keys if isinstance(key.values, Interval) and key.values.log
            ),
            trials=tuple(trials),
            images=self.images,
            repeats=tuple(" ".join(repeat) for repeat in space.repeats),
            default=len(self.default) == len(space.keys),
            importance=importance(history.frozen),
            jobs=tuple(jobs),
            commands=commands,
            chosen=jobs[0]["command"] if jobs else "",
        )
        names = write(self.folder, search)
        print(f"\n{text(search, width(TABLE)).rstrip()}\n", flush=True)
        for job in jobs:
            print(f"{job['command']}\n  {Path(self.plan.run.outputs_dir) / job['folder']}")
        print(f"{self.folder}\n  {'  '.join(names)}", flush=True)

    def _relative(self, run: Path) -> str:
        return os.path.relpath(run, self.plan.run.outputs_dir)
