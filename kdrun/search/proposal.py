"""The next setting of a search: a function of its seed and of earlier trials, so a search is repeatable."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kdrun.config.space import Choices, Interval, Setting, Space, Value
from kdrun.figures import as_typed
from kdrun.search.history import History
from kdrun.training.seeds import derived

if TYPE_CHECKING:  # imported only if a search begins
    from optuna.study import Study
    from optuna.trial import FrozenTrial

ATTEMPTS = 20
"""How often a setting is drawn again if it was tried before."""

ENUMERABLE = 10_000
"""Up to so many settings of a space are listed, if no new one is drawn."""

STARTUP = 5
"""The least number of complete trials, in all and at an epoch, before a trial is pruned there."""

WARMUP = 4
"""No trial is pruned in the first 1 / WARMUP of its epochs."""


class Proposal:
    """A setting to try, and the decision whether to continue its trial."""

    def __init__(self, setting: Setting, study: Study, distributions: dict[str, Any], prunes: bool) -> None:
        study.enqueue_trial(dict(setting))
        self.setting, self.prunes = setting, prunes
        self.study, self.trial = study, study.ask(distributions)
        self.curve: dict[int, float] = {}

    def worth(self, step: int, accuracy: float, epochs: int) -> bool:
        """Whether to continue after a step, which is an epoch of a repeat. MedianPruner stops a trial whose
        best so far is below the median of the complete trials at the same step.

        accuracy: on validation, the mean over the repeats so far. epochs: of each repeat.
        """
        from optuna.pruners import MedianPruner

        self.curve[step] = accuracy
        self.trial.report(accuracy, step)
        warmup = -(-epochs // WARMUP)
        self.study.pruner = MedianPruner(STARTUP, n_warmup_steps=warmup, n_min_trials=STARTUP)
        return not (self.prunes and self.trial.should_prune())


def propose(
    space: Space, history: History, default: Setting, seed: int, prunes: bool = True
) -> Proposal | None:
    """The next trial: first the values without a search, then what TPE draws; None if all were tried.

    default: the values without a search, if they are in the space; others are drawn. prunes: whether the
    trial may be stopped.
    """
    frozen = history.frozen
    tried = {_name(space, trial.params) for trial in frozen}
    number = len(frozen)
    first = default if not frozen else {}
    for attempt in range(ATTEMPTS):
        setting = _drawn(space, frozen, first, history.distributions, derived(seed, "trial", number, attempt))
        if _name(space, setting) not in tried:
            break
    else:
        if space.size <= ENUMERABLE:
            left = _untried(space, tried)
            if not left:
                return None
            setting = random.Random(derived(seed, "untried", number)).choice(left)
    return Proposal(setting, _study(frozen), history.distributions, prunes)


def _study(frozen: Sequence[FrozenTrial]) -> Study:
    """A study in memory with the same trials, numbered from 0."""
    import optuna

    study = optuna.create_study(direction="maximize")
    study.add_trials(frozen)
    return study


def _drawn(
    space: Space, frozen: Sequence[FrozenTrial], first: Setting, distributions: dict[str, Any], seed: int
) -> dict[str, Value]:
    """A setting drawn by TPE (Bergstra et al. 2011), with its numbers rounded as they are tried."""
    from optuna.samplers import TPESampler

    study = _study(frozen)
    study.sampler = TPESampler(seed=seed % 2**32)
    if first:
        study.enqueue_trial(dict(first))
    params = study.ask(distributions).params
    return {
        key.name: params[key.name]
        if isinstance(key.values, Choices)
        else key.values.rounded(params[key.name])
        for key in space.keys
    }


def _untried(space: Space, tried: set[tuple[str, ...]]) -> list[dict[str, Value]]:
    every = itertools.product(*(_all(key.values) for key in space.keys))
    settings = [dict(zip((key.name for key in space.keys), values, strict=True)) for values in every]
    return [setting for setting in settings if _name(space, setting) not in tried]


def _all(values: Interval | Choices) -> list[Value]:
    if isinstance(values, Choices):
        return list(values.texts)
    return [values.rounded(values.low + i * (values.step or 1)) for i in range(int(values.size))]


def _name(space: Space, setting: Setting) -> tuple[str, ...]:
    """A setting as text: equal for equal values."""
    return tuple(as_typed(setting[key.name]) for key in space.keys)
