"""The trials of a search in an Optuna journal. Each trial is written when it has ended.

An interrupted trial leaves nothing here. The same history draws the same setting again, and its trainings
continue.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdrun.artefacts import open_own
from kdrun.config.space import Choices, SearchedKey, Space
from kdrun.errors import KdrunError
from kdrun.extras import install
from kdrun.report.searches import Trial

if TYPE_CHECKING:  # imported only if a search begins
    from optuna.distributions import BaseDistribution
    from optuna.study import Study
    from optuna.trial import FrozenTrial

JOURNAL, STUDY = "journal.log", "kdrun"
"""The file, and the name of the study in it."""

ABOUT = ("state", "accuracy", "epochs", "error", "runs", "seconds")
"""What Optuna keeps of a trial beside its values and its curve."""


def refuse_without_optuna() -> None:
    """Raises KdrunError if Optuna is not installed."""
    if importlib.util.find_spec("optuna") is None:
        raise KdrunError("kdrun tune", None, f"needs Optuna, which is not installed: {install('tune')}")


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """The space as Optuna's distributions."""
    return {key.name: _distribution(key) for key in space.keys}


def _distribution(key: SearchedKey) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    values = key.values
    if isinstance(values, Choices):
        return CategoricalDistribution(values.texts)
    if values.whole:
        step = 1 if values.log else int(values.step or 1)
        return IntDistribution(int(values.low), int(values.high), log=values.log, step=step)
    return FloatDistribution(values.low, values.high, log=values.log, step=values.step)


class _NoLock:
    """Optuna needs no lock: kdrun's own lock on the folder admits one process, and ends with it."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


class History:
    """The finished trials of a search. The folder is locked by the caller."""

    def __init__(self, folder: Path, space: Space) -> None:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.distributions = distributions(space)
        path = folder / JOURNAL
        _cut_half_line(path)
        no_lock: Any = _NoLock()
        storage = JournalStorage(JournalFileBackend(str(path), no_lock))
        self.study: Study = optuna.create_study(
            storage=storage, study_name=STUDY, direction="maximize", load_if_exists=True
        )

    @property
    def frozen(self) -> list[FrozenTrial]:
        """The trials as Optuna's objects."""
        return list(self.study.get_trials(deepcopy=False))

    @property
    def trials(self) -> list[Trial]:
        """The trials in the order in which they ended."""
        return [_trial(frozen) for frozen in self.frozen]

    def add(self, trial: Trial) -> None:
        """Writes a trial. For Optuna a failed one is pruned at once, which is the worst result."""
        from optuna.trial import TrialState, create_trial

        done = trial.spread
        frozen = create_trial(
            state=TrialState.COMPLETE if done else TrialState.PRUNED,
            value=done.mean if done else None,
            params=dict(trial.values),
            distributions=self.distributions,
            user_attrs={key: getattr(trial, key) for key in ABOUT},
            intermediate_values={} if trial.state == "failed" else dict(trial.curve),
        )
        self.study.add_trial(frozen)


def _cut_half_line(path: Path) -> None:
    """Removes the incomplete last line of a killed process."""
    with contextlib.suppress(FileNotFoundError):
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            with os.fdopen(open_own(path, os.O_RDWR), "r+b") as file:
                file.truncate(whole)


def _trial(frozen: FrozenTrial) -> Trial:
    about = {key: frozen.user_attrs[key] for key in ABOUT}
    about |= {key: tuple(about[key]) for key in ("accuracy", "runs")}  # lists in JSON
    return Trial(values=frozen.params, curve=frozen.intermediate_values, **about)


def importance(trials: Sequence[FrozenTrial]) -> dict[str, float]:
    """The importance of each key for being among the best: PED-ANOVA (Watanabe et al., IJCAI 2023).

    Shares that add up to 1, the largest first. Empty with fewer than LEAST complete trials or two keys, if
    all trials are equally good, or if no key tells the best from the others.
    """
    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
    from optuna.trial import TrialState

    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    keys = {name for trial in complete for name in trial.params}
    if len(complete) < LEAST or len({trial.value for trial in complete}) < 2 or len(keys) < 2:
        return {}
    study = optuna.create_study(direction="maximize")
    study.add_trials(complete)
    evaluator = PedAnovaImportanceEvaluator(target_quantile=max(TOP_SHARE, TOP / len(complete)))
    with _quiet():
        shares = get_param_importances(study, evaluator=evaluator, normalize=False)
    total = sum(shares.values())
    return {key: share / total for key, share in shares.items()} if total > 0 else {}


LEAST = 10
"""The least number of complete trials for an importance."""

TOP, TOP_SHARE = 5, 0.1
"""For PED-ANOVA the best trials are this share of all, and at least so many."""


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hides Optuna's warnings about keys with few trials, and about equal trials."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
