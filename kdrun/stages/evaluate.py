"""The third stage: the figures of every model and their comparison, then the report and its pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from kdrun.artefacts import locked, sweep_parts, write_json, write_text
from kdrun.evaluation import accuracy, compare, latency
from kdrun.evaluation.evaluators import evaluated
from kdrun.evaluation.subject import Subject
from kdrun.plan.plan import Plan
from kdrun.plan.words import latency_threads
from kdrun.progress.journal import as_lines
from kdrun.progress.screen import Screen
from kdrun.records import METRICS, read_rows
from kdrun.report import markdown, plots, table
from kdrun.report.earlier import covers, looks, with_earlier
from kdrun.report.placing import placed
from kdrun.report.read import NAME, read
from kdrun.report.schema import Comparison, Report, Speedup, build
from kdrun.resources import free_memory
from kdrun.stages.saved import Saved, finished
from kdrun.stages.student_file import save_student
from kdrun.stages.subject import config_of, epochs_of, facts_of, looked_at, settings, subject_of
from kdrun.stages.teacher_notes import class_notes, evaluated_notes, purpose_notes

CURVES, CONFUSION = markdown.PLOTS


def is_current(plan: Plan) -> bool:
    """Whether the run's report is there, of these very models and with all that is asked for."""
    folder, evaluation = plan.student.folder, plan.run.evaluation
    if plan.run.fresh or not (folder / NAME).exists():
        return False
    if any(finished(t) is None for t in plan.trainings if not t.loaded):
        return False
    report = read(folder)
    same = [look for look in looks(report) if look.get("fingerprint") == looked_at(plan, look["evaluation"])]
    drawn = not evaluation.plots or (folder / CONFUSION).exists()
    whole = {training.name for training in plan.trainings} <= report["models"].keys()
    return drawn and whole and covers(same, settings(evaluation))


def evaluate(plan: Plan, models: Mapping[str, Saved], command: str, shown: Screen) -> None:
    """Evaluates what is there (a teacher or a control may be missing), writes the report, shows it.

    What an earlier evaluation of the same models measured besides stays in the report.
    """
    folder = plan.student.folder
    with locked(folder, lambda who: shown.say(f"evaluate waits for {who}")):
        sweep_parts(folder)
        old = None if plan.run.fresh or not (folder / NAME).exists() else read(folder)
        subject = subject_of(plan, models)
        new = _report(plan, models, subject, command)
        content = _with_speedup(with_earlier(new, old)) if old else _with_speedup(new)
        save_student(models["student"])
        epochs = [*epochs_of(models), *_epochs_kept(folder, content, models)]
        write_text(folder / METRICS, as_lines(epochs))
        write_text(folder / "config.yaml", _config_text(plan))
        if plan.run.evaluation.plots:
            _draw(folder, subject, epochs, whole=content["models"].keys() == models.keys())
        drawn = [name for name in markdown.PLOTS if (folder / name).exists()]
        write_text(folder / "report.md", markdown.markdown(content, drawn))
        write_json(folder / NAME, content)
    show(plan, shown)


def show(plan: Plan, shown: Screen, note: str = "") -> None:
    """The paths, the table, the verdict: the last thing on the screen."""
    folder = plan.student.folder
    content = read(folder)
    possible = ("report.md", NAME, CURVES, CONFUSION, "student.safetensors")
    names = [name for name in possible if (folder / name).exists()]
    notes = "".join(f"note   {text}\n" for text in content.get("notes", []))
    shown.say(f"\n{folder}{f'   {note}' if note else ''}\n  {'  '.join(names)}\n{notes}")
    shown.show(table.render(content, shown.columns))


def _report(plan: Plan, models: Mapping[str, Saved], subject: Subject, command: str) -> Report:
    figures, failed = evaluated(plan.run.evaluation.figures, subject)
    fields, measured = facts_of(plan, models, command, failed), placed(figures)
    times = _latency(plan, subject) if plan.run.evaluation.latency else latency.Measured({}, [])
    for name, facts in fields["models"].items():
        facts |= measured["models"].get(name, {}) | {"latency": times.rows.get(name)}
    comparison = _against_control(subject) | measured["comparison"] | _learned_from(subject)
    notes = [*class_notes(plan), *purpose_notes(plan), *evaluated_notes(plan, subject)]
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


def _draw(folder: Path, subject: Subject, epochs: list[dict[str, Any]], whole: bool) -> None:
    """Draws what there are figures for. whole: whether all models of the report were evaluated just now; if
    not, a picture of all of them stays.
    """
    if epochs:  # else nothing was trained: all models come from files
        plots.curves(folder / CURVES, epochs)
    if whole or not (folder / CONFUSION).exists():
        answers = {name: subject.on_test(name) for name in subject.networks}
        matrices = {
            name: accuracy.confusion_matrix(each.logits, each.labels).numpy()
            for name, each in answers.items()
            if each is not None
        }
        plots.confusion(folder / CONFUSION, matrices, subject.classes)


def _latency(plan: Plan, subject: Subject) -> latency.Measured:
    """On a CPU, and on the device of the run."""
    run, kind = plan.run.evaluation, plan.ground.machine.device.type
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in subject.networks}
    notes: list[str] = []
    for device in dict.fromkeys(("cpu", kind)):
        compiled = ("compiled",) if plan.run.runtime.compile else ()
        measured = latency.measure(
            subject.networks,
            subject.image_shape,
            run.batches,
            device=device,
            threads=latency_threads(plan),
            samples=run.samples,
            seconds=run.seconds,
            modes=("eager", "graph", *compiled) if device == "cuda" else ("eager",),
            room=free_memory() if device == "cpu" else None,
        )
        notes += measured.notes
        for name, own in measured.rows.items():
            rows[name] += own
    return latency.Measured(rows, notes)


def _config_text(plan: Plan) -> str:
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.create(config_of(plan)))
