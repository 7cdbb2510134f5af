"""The third stage: the figures of every model and their comparison, then the report and its pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import torch

from kdrun.artefacts import locked, set_aside, sweep_parts, write_json, write_text
from kdrun.config.choices import PLAIN
from kdrun.errors import KdrunError
from kdrun.evaluation import compare, controls, latency
from kdrun.evaluation.evaluators import evaluated
from kdrun.evaluation.subject import Subject
from kdrun.machine import exact, torch_threads
from kdrun.plan.kept import FILE
from kdrun.plan.plan import Plan
from kdrun.plan.words import latency_threads
from kdrun.progress.journal import as_lines
from kdrun.progress.loggers import shown_by
from kdrun.progress.screen import Screen
from kdrun.records import METRICS, read_rows
from kdrun.report import mistakes, pictures, table
from kdrun.report.content import build, placed
from kdrun.report.earlier import covers, looks, with_earlier
from kdrun.report.read import NAME, read
from kdrun.report.schema import REFERENCE, Comparison, Report, Speedup, compared
from kdrun.report.statistics import holm
from kdrun.resources import free_memory
from kdrun.stages.facts import epochs_of, facts_of, looked_at, settings
from kdrun.stages.groups import latency_seconds
from kdrun.stages.int8 import FOLDER as INT8
from kdrun.stages.int8 import in_int8, int8_fingerprint
from kdrun.stages.ready import damaged
from kdrun.stages.run_files import is_whole, keep_answers, save_student
from kdrun.stages.saved import Saved, finished
from kdrun.stages.subject import images_asked, subject_of
from kdrun.stages.teacher_notes import evaluated_notes, model_notes, purpose_notes, reference_notes
from kdrun.terminal import in_lines


def is_drawn(plan: Plan, job: bool) -> bool:
    """Whether pictures are asked for. job: whether the run is one of a sweep's or a table's."""
    return not job if plan.run.evaluation.plots == "auto" else bool(plan.run.evaluation.plots)


def is_current(plan: Plan, drawn: bool = False) -> bool:
    """Whether the run's report exists, is about these models, and has all that is asked for.

    drawn: whether its pictures, or the data for them, must exist too.
    """
    folder, evaluation = plan.student.folder, plan.run.evaluation
    if plan.run.fresh or not (folder / NAME).exists():
        return False
    if any(finished(t) is None for t in plan.every if not t.loaded):
        return False
    if not is_whole(folder) or damaged(plan.student) is not None:
        return False
    report = _earlier(folder)
    if report is None:
        return False
    same = [look for look in looks(report) if look.get("fingerprint") in _marks(plan, look["evaluation"])]
    if drawn and not pictures.drawable(folder):
        return False
    names = {training.name for training in plan.trainings} | ({REFERENCE} if plan.reference else set())
    whole = names <= report["models"].keys()
    asked = {training.name for training in plan.controls}
    if plan.for_int8 and report.get("int8", {}).get("fingerprint") != int8_fingerprint(plan):
        return False
    return whole and asked in (set(), compared(report)) and covers(same, settings(evaluation))


def _marks(plan: Plan, evaluation: Mapping[str, Any]) -> set[str]:
    """The fingerprints of reports that would do: a report on all test images does for one on some of them."""
    return {looked_at(plan, evaluation, whole) for whole in (False, True)}


def _refuse_fewer(plan: Plan, old: Report | None) -> None:
    """Raises KdrunError if an evaluation on all test images would be replaced by one on some of them."""
    data = plan.ground.data
    if old is not None and data.test_of and old["dataset"].get("test") == data.test_of:
        problem = "this run has figures of its whole test part, which would be lost; leave it null"
        raise KdrunError("dataset.test", len(data.test.labels), problem)


def evaluate(
    plan: Plan, models: Mapping[str, Saved], command: str, shown: Screen, drawn: bool = True
) -> None:
    """Evaluates the given models (a teacher or a control may be missing), writes the report, shows it.

    Figures of an earlier evaluation of the same models stay in the report. drawn: whether to draw pictures.
    """
    folder = plan.student.folder
    with locked(folder, lambda who: shown.say(f"evaluate waits for {who}")):
        sweep_parts(folder)
        for line in set_aside(folder):
            shown.say(line)
        old = None if plan.run.fresh else _earlier(folder, shown.say)
        _refuse_fewer(plan, old)
        with exact():
            subject = _asked(plan, models, shown)
            new = _report(plan, models, subject, command, shown)
            if plan.for_int8:
                new["int8"] = in_int8(plan, models, subject, shown.say)
        content = _with_speedup(with_earlier(new, old)) if old else _with_speedup(new)
        save_student(models["student"])
        earlier = content["models"].keys() - models.keys()
        rows = [row for row in read_rows(folder / METRICS) if row.get("stage") in earlier]
        write_text(folder / METRICS, as_lines([*epochs_of(models), *rows]))
        keep_answers(folder, plan, subject, content, content["models"].keys() - subject.networks.keys())
        if drawn:
            pictures.draw(folder, content, again=True)
        else:
            if old is None:  # what was drawn in training ends before the last epoch
                (folder / pictures.CURVES).unlink(missing_ok=True)
            pictures.page(folder, content)
        write_json(folder / NAME, content)
    show(plan, shown)


def _asked(plan: Plan, models: Mapping[str, Saved], shown: Screen) -> Subject:
    """All models with their answers to the held-out images; the screen shows how many there are so far."""
    done, total = 0, images_asked(plan, models)

    def answered(images: int) -> None:
        nonlocal done
        done += images
        shown.answered(done, total)

    shown.left, shown.after = None, latency_seconds(plan)
    answered(0)
    try:
        return subject_of(plan, models, answered)
    finally:
        shown.end()
        shown.after = 0.0


def _earlier(folder: Path, say: Callable[[str], None] = lambda text: None) -> Report | None:
    """The report of an earlier evaluation; None without one, or if it is damaged, which `say` reports."""
    if not (folder / NAME).exists():
        return None
    try:
        return read(folder)
    except KdrunError as error:
        say(f"{error}; evaluated anew")
        return None


def show(plan: Plan, shown: Screen, note: str = "") -> None:
    """Shows the paths, the table and the verdict at the end of a run."""
    folder = plan.student.folder
    content = read(folder)
    possible = ("report.md", NAME, mistakes.FILE, *pictures.NAMES, FILE, INT8)
    names = "  ".join(name for name in possible if (folder / name).exists())
    notes = "".join(f"note   {text}\n" for text in content.get("notes", []))
    commands = "".join(f"  {command}\n" for command in shown_by(plan.run.logger, Path(plan.run.outputs_dir)))
    where = "\n".join(in_lines([str(folder), note], shown.columns, space=3)).rstrip()
    shown.say(f"\n{where}\n  {names}\n{commands}{notes}")
    shown.show(table.render(content, shown.columns))


def _report(plan: Plan, models: Mapping[str, Saved], subject: Subject, command: str, shown: Screen) -> Report:
    more = ["missing_classes"] if subject.missing else []
    more += ["own_test"] if subject.own else []
    with torch_threads(plan.student.threads):
        figures, failed = evaluated([*plan.run.evaluation.figures, *more], subject)
    fields, measured = facts_of(plan, models, command, failed), placed(figures)
    try:
        times = (
            _latency(plan, subject, shown.timed)
            if plan.run.evaluation.latency
            else latency.LatencyResults({}, [])
        )
    finally:
        shown.end()
    for name, facts in fields["models"].items():
        facts |= measured["models"].get(name, {}) | {"latency": times.rows.get(name)}
    comparison = against_controls(subject) | measured["comparison"]
    comparison |= {} if subject.taught_by == "teacher" else {"learned_from": subject.taught_by}
    comparison |= _against_reference(plan, subject)
    notes = [*model_notes(plan), *purpose_notes(plan), *reference_notes(plan)]
    notes += evaluated_notes(plan, subject)
    notes += [*failed.values(), *times.notes]
    return build(**fields, comparison=comparison, units=measured["units"], notes=notes)


def against_controls(subject: Subject) -> dict[str, Any]:
    """The figures of `comparison` that need a control; empty without one.

    The gain and its verdict are against the strongest control, one comparison. Beside several controls stands
    each by itself, with Holm's correction over all of them.
    """
    student, chosen = subject.on_test("student"), controls.strongest(subject)
    if student is None or chosen is None:
        return {}
    roles = controls.roles(subject)
    answers = {role: subject.on_test(role) for role in roles}
    each = {
        role: compare.against_control(student.logits, own.logits, student.labels)
        for role, own in answers.items()
        if own is not None
    }
    gain = each[chosen.role]
    if roles == (PLAIN,) or not gain:
        return gain
    if len(roles) == 1:
        return gain | {"control": chosen.role}
    return gain | {"control": chosen.role, "chosen_by": chosen.by, "controls": _corrected(each)}


def _corrected(each: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The same with p and verdict by Holm's correction over all."""
    p = holm([own["mcnemar_p"] for own in each.values()])
    return {
        role: own | {"mcnemar_p": value, "verdict": compare.verdict(own["gain_interval"], value)}
        for (role, own), value in zip(each.items(), p, strict=True)
    }


def _with_speedup(report: Report) -> Report:
    """The report with the speed-ups from all its latencies."""
    times = {role: model["latency"] for role, model in report["models"].items() if "latency" in model}
    speeds = latency.speedup(times)
    if speeds:
        report.setdefault("comparison", Comparison())["speedup"] = cast(list[Speedup], speeds)
    against, speeds = report.get("comparison", {}).get("reference"), latency.speedup(times, REFERENCE)
    if against is not None and speeds:
        against["speedup"] = cast(list[Speedup], speeds)
    return report


def _against_reference(plan: Plan, subject: Subject) -> dict[str, Any]:
    """How the student stands to the model that it is to replace, if there is one."""
    student, other = subject.on_test("student"), subject.on_test(REFERENCE)
    if student is None or other is None or plan.reference is None:
        return {}
    margin = plan.reference.margin
    return {"reference": compare.against_reference(student.logits, other.logits, student.labels, margin)}


def _latency(
    plan: Plan, subject: Subject, timed: Callable[[float], object] = lambda share: None
) -> latency.LatencyResults:
    """Latencies on a CPU, and on the device of the run. timed: gets the share that is measured."""
    asked, own = plan.run.evaluation, plan.ground.machine.device
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in subject.networks}
    notes: list[str] = []
    alone, shapes = {}, {}
    if plan.reference is not None:  # its own cost: it is fed with images as it takes them
        alone[REFERENCE] = plan.reference.load().eval()
        shapes[REFERENCE] = plan.reference.sight.shape
    devices = list(dict.fromkeys((torch.device("cpu"), own)))
    for place, device in enumerate(devices):
        compiled = ("compiled",) if plan.run.runtime.compile else ()
        measured = latency.measure(
            {**subject.networks, **alone},
            subject.image_shape,
            asked.batches,
            device=str(device),
            threads=latency_threads(plan),
            samples=asked.samples,
            seconds=asked.seconds,
            modes=("eager", "graph", *compiled) if device.type == "cuda" else ("eager",),
            room=free_memory() if device.type == "cpu" else None,
            shapes=shapes,
            ahead=latency.part(timed, place, len(devices)),
        )
        notes += measured.notes
        for name, own_rows in measured.rows.items():
            rows[name] += own_rows
    return latency.LatencyResults(rows, notes)
