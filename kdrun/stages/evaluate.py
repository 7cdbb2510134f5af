"""The third stage: the figures of every model and their comparison, then the report and its pictures."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from kdrun.artefacts import locked, sweep_parts, write_json, write_text
from kdrun.errors import KdrunError
from kdrun.evaluation import compare, latency
from kdrun.evaluation.evaluators import evaluated
from kdrun.evaluation.subject import Subject
from kdrun.machine import exact, torch_threads
from kdrun.plan.plan import Plan
from kdrun.plan.words import latency_threads
from kdrun.progress.journal import as_lines
from kdrun.progress.screen import Screen
from kdrun.records import METRICS, read_rows
from kdrun.report import answers, mistakes, pictures, table, thumbnails
from kdrun.report.earlier import covers, looks, with_earlier
from kdrun.report.placing import placed
from kdrun.report.read import NAME, read
from kdrun.report.schema import Comparison, Report, Speedup, build
from kdrun.resources import free_memory
from kdrun.stages.healed import damaged
from kdrun.stages.looked import shown_of
from kdrun.stages.saved import Saved, finished
from kdrun.stages.student_file import FILE, is_whole, save_student
from kdrun.stages.subject import config_of, epochs_of, facts_of, looked_at, settings, subject_of
from kdrun.stages.teacher_notes import evaluated_notes, model_notes, purpose_notes


def is_drawn(plan: Plan, job: bool) -> bool:
    """Whether pictures are asked for. job: whether the run is one of a sweep's or a table's."""
    return not job if plan.run.evaluation.plots == "auto" else bool(plan.run.evaluation.plots)


def is_current(plan: Plan, drawn: bool = False) -> bool:
    """Whether the run's report is there, of these very models and with all that is asked for.

    drawn: whether its pictures must be there, or what they are drawn from.
    """
    folder, evaluation = plan.student.folder, plan.run.evaluation
    if plan.run.fresh or not (folder / NAME).exists():
        return False
    if any(finished(t) is None for t in plan.trainings if not t.loaded):
        return False
    if not is_whole(folder) or damaged(plan.student) is not None:
        return False
    report = _earlier(folder)
    if report is None:
        return False
    same = [look for look in looks(report) if look.get("fingerprint") == looked_at(plan, look["evaluation"])]
    if drawn and not pictures.drawable(folder):
        return False
    whole = {training.name for training in plan.trainings} <= report["models"].keys()
    return whole and covers(same, settings(evaluation))


def evaluate(
    plan: Plan, models: Mapping[str, Saved], command: str, shown: Screen, drawn: bool = True
) -> None:
    """Evaluates what is there (a teacher or a control may be missing), writes the report, shows it.

    What an earlier evaluation of the same models measured besides stays in the report. drawn: whether there
    are to be pictures.
    """
    folder = plan.student.folder
    with locked(folder, lambda who: shown.say(f"evaluate waits for {who}")):
        sweep_parts(folder)
        old = None if plan.run.fresh else _earlier(folder, shown.say)
        with exact():
            subject = subject_of(plan, models)
            new = _report(plan, models, subject, command)
        content = _with_speedup(with_earlier(new, old)) if old else _with_speedup(new)
        save_student(models["student"])
        epochs = [*epochs_of(models), *_epochs_kept(folder, content, models)]
        write_text(folder / METRICS, as_lines(epochs))
        write_text(folder / "config.yaml", _config_text(plan))
        _keep_answers(folder, plan, subject, content, content["models"].keys() - subject.networks.keys())
        if drawn:
            pictures.draw(folder, content, again=True)
        else:
            pictures.page(folder, content)
        write_json(folder / NAME, content)
    show(plan, shown)


def _earlier(folder: Path, say: Callable[[str], None] | None = None) -> Report | None:
    """The report of an earlier evaluation; None without one, or if it is damaged, which is said."""
    if not (folder / NAME).exists():
        return None
    try:
        return read(folder)
    except KdrunError as error:
        if say is not None:
            say(f"{error}; evaluated anew")
        return None


def show(plan: Plan, shown: Screen, note: str = "") -> None:
    """The paths, the table, the verdict: the last thing on the screen."""
    folder = plan.student.folder
    content = read(folder)
    possible = ("report.md", NAME, mistakes.FILE, *pictures.NAMES, FILE)
    names = "  ".join(name for name in possible if (folder / name).exists())
    lines = textwrap.wrap(names, shown.columns - 2, break_on_hyphens=False)
    listed = "\n".join(f"  {line}" for line in lines)
    notes = "".join(f"note   {text}\n" for text in content.get("notes", []))
    shown.say(f"\n{folder}{f'   {note}' if note else ''}\n{listed}\n{notes}")
    shown.show(table.render(content, shown.columns))


def _report(plan: Plan, models: Mapping[str, Saved], subject: Subject, command: str) -> Report:
    more = ["missing_classes"] if subject.missing else []
    more += ["own_test"] if subject.own else []
    with torch_threads(plan.student.threads):
        figures, failed = evaluated([*plan.run.evaluation.figures, *more], subject)
    fields, measured = facts_of(plan, models, command, failed), placed(figures)
    times = _latency(plan, subject) if plan.run.evaluation.latency else latency.Measured({}, [])
    for name, facts in fields["models"].items():
        facts |= measured["models"].get(name, {}) | {"latency": times.rows.get(name)}
    comparison = _against_control(subject) | measured["comparison"] | _learned_from(subject)
    notes = [*model_notes(plan), *purpose_notes(plan), *evaluated_notes(plan, subject)]
    notes += [*failed.values(), *times.notes]
    return build(**fields, comparison=comparison, units=measured["units"], notes=notes)


def _with_speedup(report: Report) -> Report:
    """The report with the speed-ups that follow from all its latencies."""
    times = {role: model["latency"] for role, model in report["models"].items() if "latency" in model}
    speeds = latency.speedup(times)
    if speeds:
        report.setdefault("comparison", Comparison())["speedup"] = cast(list[Speedup], speeds)
    return report


def _against_control(subject: Subject) -> dict[str, Any]:
    student, control = subject.on_test("student"), subject.on_test("control")
    if student is None or control is None:
        return {}
    return compare.against_control(student.logits, control.logits, student.labels)


def _learned_from(subject: Subject) -> dict[str, str]:
    """Who taught the student, if it is not simply the teacher."""
    return {} if subject.taught_by == "teacher" else {"learned_from": subject.taught_by}


def _epochs_kept(folder: Path, report: Report, models: Mapping[str, Saved]) -> list[dict[str, Any]]:
    """The epochs of models that an earlier evaluation left in the report."""
    rows = read_rows(folder / METRICS)
    return [row for row in rows if row.get("stage") in report["models"].keys() - models.keys()]


def _answers(subject: Subject) -> answers.Answers:
    """The class that each model names for each image under the headline; -1 where it names none."""
    found: answers.Answers = {"classes": np.array(subject.classes)}
    for whose in subject.networks:
        for part in answers.PARTS:
            own = subject.on_part(whose, part)
            if own is not None:
                named = own.logits.argmax(1).masked_fill(own.logits.isnan().any(1), -1)
                found |= {f"{part}/labels": own.labels.numpy(), f"{part}/{whose}": named.numpy()}
    return found | _probabilities(subject)


def _probabilities(subject: Subject) -> answers.Answers:
    """What the student gives its answer, and the true class, for each test image."""
    own = subject.on_test("student")
    if own is None:
        return {}
    shares = own.logits.softmax(1)
    truth = shares.gather(1, own.labels.clamp(min=0)[:, None])[:, 0].where(own.labels >= 0, torch.nan)
    arrays = {mistakes.SHARE: shares.max(1).values, mistakes.TRUTH: truth}
    return {f"test/student/{name}": values.numpy() for name, values in arrays.items()}


def _keep_answers(
    folder: Path, plan: Plan, subject: Subject, report: Report, earlier: Collection[str]
) -> None:
    """Writes answers.npz, errors.csv and shown.npz, and puts into the report what follows from the answers.

    earlier: models whose answers are those of an earlier evaluation.
    """
    answers.write(folder, _answers(subject), earlier)
    kept = answers.read(folder)
    report.update(cast(Report, mistakes.facts(kept)))
    mistakes.write(folder, kept, plan.ground.data.test_files)
    thumbnails.write(folder, shown_of(plan, subject, kept))


def _latency(plan: Plan, subject: Subject) -> latency.Measured:
    """On a CPU, and on the device of the run."""
    run, own = plan.run.evaluation, plan.ground.machine.device
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in subject.networks}
    notes: list[str] = []
    for device in dict.fromkeys((torch.device("cpu"), own)):
        compiled = ("compiled",) if plan.run.runtime.compile else ()
        measured = latency.measure(
            subject.networks,
            subject.image_shape,
            run.batches,
            device=str(device),
            threads=latency_threads(plan),
            samples=run.samples,
            seconds=run.seconds,
            modes=("eager", "graph", *compiled) if device.type == "cuda" else ("eager",),
            room=free_memory() if device.type == "cpu" else None,
        )
        notes += measured.notes
        for name, found in measured.rows.items():
            rows[name] += found
    return latency.Measured(rows, notes)


def _config_text(plan: Plan) -> str:
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.create(config_of(plan)))
