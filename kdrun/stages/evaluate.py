"""The third stage: the figures of every model and their comparison, then the report and its pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kdrun.artefacts import locked, sweep_parts, write_json, write_text
from kdrun.evaluation import accuracy, compare, latency
from kdrun.evaluation.evaluators import evaluated
from kdrun.evaluation.subject import Subject
from kdrun.plan.plan import Plan
from kdrun.plan.words import latency_threads
from kdrun.progress.journal import as_lines
from kdrun.progress.screen import Screen
from kdrun.report import markdown, plots, table
from kdrun.report.placing import placed
from kdrun.report.read import read
from kdrun.report.schema import Report, build
from kdrun.stages.saved import Saved, finished
from kdrun.stages.student_file import save_student
from kdrun.stages.subject import config_of, epochs_of, facts_of, looked_at, settings, subject_of


def is_current(plan: Plan) -> bool:
    """Whether the run's report is there, of these very models and with all that is asked for."""
    folder = plan.student.folder
    if plan.run.fresh or not (folder / "report.json").exists():
        return False
    if any(finished(t) is None for t in plan.trainings if not t.loaded):
        return False
    return bool(read(folder)["fingerprint"] == looked_at(plan, settings(plan.run.evaluation)))


def evaluate(plan: Plan, models: Mapping[str, Saved], command: str, shown: Screen) -> None:
    """Evaluates what is there (a teacher or a control may be missing), writes the report, shows it."""
    folder = plan.student.folder
    with locked(folder, lambda who: shown.say(f"evaluate waits for {who}")):
        sweep_parts(folder)
        subject = subject_of(plan, models)
        content = _report(plan, models, subject, command)
        save_student(models["student"])
        epochs = epochs_of(models)
        write_text(folder / "metrics.jsonl", as_lines(epochs))
        write_text(folder / "config.yaml", _config_text(plan))
        drawn = _draw(plan, subject, epochs) if plan.run.evaluation.plots else ()
        write_text(folder / "report.md", markdown.markdown(content, drawn))
        write_json(folder / "report.json", content)
    show(plan, shown)


def show(plan: Plan, shown: Screen, note: str = "") -> None:
    """The paths, the table, the verdict: the last thing on the screen."""
    folder = plan.student.folder
    content = read(folder)
    possible = ("report.md", "report.json", "curves.png", "confusion.png", "student.safetensors")
    names = [name for name in possible if (folder / name).exists()]
    shown.say(f"\n{folder}{f'   {note}' if note else ''}\n  {'  '.join(names)}\n")
    shown.show(table.render(content))


def _report(plan: Plan, models: Mapping[str, Saved], subject: Subject, command: str) -> Report:
    figures, notes = evaluated(plan.run.evaluation.figures, subject)
    fields, measured = facts_of(plan, models, command), placed(figures)
    times = _latency(plan, subject) if plan.run.evaluation.latency else {}
    for name, facts in fields["models"].items():
        facts |= measured["models"].get(name, {}) | {"latency": times.get(name)}
    comparison = _against_control(subject) | measured["comparison"] | _learned_from(subject)
    comparison["speedup"] = latency.speedup(times)
    return build(**fields, comparison=comparison, units=measured["units"], notes=notes)


def _against_control(subject: Subject) -> dict[str, Any]:
    student, control = subject.on_test("student"), subject.on_test("control")
    if student is None or control is None:
        return {}
    return compare.against_control(student.logits, control.logits, student.labels)


def _learned_from(subject: Subject) -> dict[str, str]:
    """Who taught the student, if it is not simply the teacher."""
    return {} if subject.taught_by == "teacher" else {"learned_from": subject.taught_by}


def _draw(plan: Plan, subject: Subject, epochs: list[dict[str, Any]]) -> tuple[str, ...]:
    """Draws what there are figures for. Returns the names of the pictures."""
    folder = plan.student.folder
    answers = {name: subject.on_test(name) for name in subject.networks}
    matrices = {
        name: accuracy.confusion_matrix(each.logits, each.labels).numpy()
        for name, each in answers.items()
        if each is not None
    }
    plots.confusion(folder / "confusion.png", matrices, subject.classes)
    if not epochs:  # nothing was trained: all models come from files
        return ("confusion.png",)
    plots.curves(folder / "curves.png", epochs)
    return ("curves.png", "confusion.png")


def _latency(plan: Plan, subject: Subject) -> dict[str, list[dict[str, Any]]]:
    run, kind = plan.run.evaluation, plan.ground.machine.device.type
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in subject.networks}
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
        )
        for name, own in measured.items():
            rows[name] += own
    return rows


def _config_text(plan: Plan) -> str:
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.create(config_of(plan)))
