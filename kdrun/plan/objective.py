"""The losses of teacher, student and control, and their phases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from kdrun.config.schema import Recipe, Run
from kdrun.data.images import ImageSet
from kdrun.errors import KdrunError
from kdrun.figures import plural
from kdrun.losses.mix import Mix, make_mix

Terms = Mapping[str, Mapping[str, Any]]
"""The terms of a loss by name, each as in the configuration: `{name: soft_targets, weight: 0.9}`."""

PHASE_ONE = "phase_one.loss"
"""The key of the terms of a first phase."""


class Phase(NamedTuple):
    """The epochs `first` ... `until - 1` of a training, and their loss.

    key: of the terms in the configuration. lr: in place of the recipe's, with the same schedule.
    """

    loss: Terms
    first: int
    until: int
    key: str = "loss"
    lr: float | None = None

    def rates(self, recipe: Recipe) -> Recipe:
        """The recipe with the phase's own learning rate."""
        return recipe if self.lr is None else replace(recipe, lr=self.lr)

    def mix(self) -> Mix:
        """A new mix of its terms, without adapters."""
        return make_mix(self.loss, self.key)


def one_phase(loss: Terms, recipe: Recipe) -> tuple[Phase, ...]:
    """A single phase from the first epoch to the last."""
    return (Phase(loss, 0, epochs_of(recipe)),)


def teachers_phases(recipe: Recipe) -> tuple[Phase, ...]:
    """A teacher learns from the labels."""
    return one_phase(smoothed({"hard": {"name": "cross_entropy", "weight": 1.0}}, recipe), recipe)


def students_phases(run: Run, recipe: Recipe) -> tuple[Phase, ...]:
    """A student's phases: one, or two if the run has a `phase_one`."""
    until, change = epochs_of(recipe), _change(run.phase_one.epochs, recipe.epochs)
    last = Phase(smoothed(run.loss, recipe), change, until)
    if not change:
        return (last,)
    first = smoothed(run.phase_one.loss, recipe)
    return (Phase(first, 0, min(change, until), PHASE_ONE, run.phase_one.lr), last)


def controls_phases(name: str, run: Run, recipe: Recipe) -> tuple[Phase, ...]:
    """A control without a teacher learns from the labels, with the arguments of the student's cross-entropy
    if it has one. name: plain, smoothed, teacher_free or longer. recipe: its own.
    """
    own = next((t for t in run.loss.values() if t.get("name") == "cross_entropy"), {"name": "cross_entropy"})
    terms: dict[str, dict[str, Any]] = {"hard": dict(own) | {"weight": 1.0}}
    if name == "smoothed":
        terms["hard"]["label_smoothing"] = recipe.label_smoothing
    if name == "teacher_free":
        settings = run.controls
        terms["hard"]["weight"] = 1.0 - settings.virtual_weight
        terms["virtual"] = {
            "name": "virtual_teacher",
            "weight": settings.virtual_weight,
            "temperature": settings.virtual_temperature,
            "true_class": settings.virtual_true_class,
        }
    return one_phase(smoothed(terms, recipe), recipe)


def epochs_of(recipe: Recipe) -> int:
    """Epochs that are trained: all, or up to `stop_at`, which is an epoch or a fraction of all."""
    stop = recipe.stop_at
    if isinstance(stop, float):
        return max(1, round(stop * recipe.epochs))
    return recipe.epochs if stop is None else int(stop)


def smoothed(loss: Terms, recipe: Recipe) -> Terms:
    """The terms, with the recipe's label smoothing in each cross-entropy that does not set it."""
    terms = {name: dict(term) for name, term in loss.items()}
    for term in terms.values():
        if term.get("name") == "cross_entropy" and not term.get("label_smoothing"):
            term["label_smoothing"] = recipe.label_smoothing
    return terms


def _change(epochs: float, total: int) -> int:
    """Epochs of the first phase: 0 without one, and less than `total`. epochs: a number, or a fraction."""
    first = max(1, round(epochs * total)) if isinstance(epochs, float) else epochs
    return min(first, total - 1)


def equation(phases: Sequence[Phase], mixes: Sequence[Mix]) -> str:
    """The loss as the screen shows it: `50 FSP(3 stages) for 10 epochs, then CE`."""
    *earlier, last = (mix.equation() for mix in mixes)
    phrases = [
        f"{text} for {plural(phase.until - phase.first, 'epoch')}"
        + ("" if phase.lr is None else f" at lr {phase.lr:g}")
        for text, phase in zip(earlier, phases, strict=False)
    ]
    return ", then ".join([*phrases, last])


def refuse_one_momentum(run: Run) -> None:
    """Raises KdrunError for two momenta if all terms read the teacher, or none does."""
    if run.momentum_delta is None:
        return
    for key, loss in (("loss", run.loss), ("phase_one.loss", run.phase_one.loss)):
        # With alpha=0 a term would be left out, so all have weight 1 here.
        terms = {name: {**term, "weight": 1.0} for name, term in loss.items()}
        kinds = {bool(term.loss.needs.teacher) for term in make_mix(terms, key).terms} if terms else set()
        if len(kinds) == 2:
            return
    problem = "has no effect: there must be terms that read the teacher and terms that do not"
    raise KdrunError("momentum_delta", run.momentum_delta, problem)


def transfer_of(run: Run, mix: Mix) -> tuple[str, str]:
    """The transfer set of a phase (all, labelled or unlabelled), after the key that sets it."""
    if mix.key == PHASE_ONE and run.phase_one.transfer is not None:
        return "phase_one.transfer", run.phase_one.transfer
    return "transfer", run.transfer


def refuse_without_labels(run: Run, mixes: Sequence[Mix]) -> None:
    """Raises KdrunError for a term that reads labels in a phase whose transfer set has none."""
    for mix in mixes:
        key, chosen = transfer_of(run, mix)
        reads = [term.name for term in mix.terms if not term.loss.uses_unlabelled]
        if chosen == "unlabelled" and reads:
            problem = (
                f"{mix.key}.{reads[0]} needs labels, but there are none. Leave it out: ~{mix.key}.{reads[0]}"
            )
            raise KdrunError(key, chosen, problem)


def refuse_no_images(run: Run, data: ImageSet, mixes: Sequence[Mix]) -> None:
    """Raises KdrunError for a transfer set of unlabelled images if all images have labels."""
    for key, chosen in (transfer_of(run, mix) for mix in reversed(mixes)):
        if chosen == "unlabelled" and bool((data.taught_labels >= 0).all()):
            raise KdrunError(
                key, chosen, "all images have labels; see dataset.labelled and dataset.unlabelled"
            )


def refuse_unprepared(mixes: Sequence[Mix]) -> None:
    """Raises KdrunError for a term that needs a first phase to train its adapters, if there is none."""
    *earlier, last = mixes
    before = {(term.name, type(term.loss)) for mix in earlier for term in mix.terms}
    for term in last.terms:
        if term.loss.prepared and (term.name, type(term.loss)) not in before:
            key = f"phase_one.loss.{term.name}"
            problem = f"is missing: a first phase must train what loss.{term.name} compares"
            raise KdrunError(key, None, problem)
