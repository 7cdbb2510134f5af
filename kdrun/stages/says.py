"""What the screen says before a run starts: who teaches whom, the equation, the recipes, and what will be
done.
"""

from __future__ import annotations

from pathlib import Path

from kdrun import __version__
from kdrun.config.schema import Model
from kdrun.evaluation.cost import params
from kdrun.stages.asking import plan
from kdrun.stages.assemble import Assembly, Training, is_loaded, threads_of
from kdrun.stages.machine import crowded
from kdrun.stages.trained import finished
from kdrun.training.checkpoint import read_state


def header(assembly: Assembly) -> str:
    """Data set, models with sizes, method, equation, recipes, and what was fitted to small images."""
    run, built = assembly.run, assembly.built
    teacher, student = (f"{node.name} ({size(params(built[role].model))})" for role, node in _nodes(assembly))
    lines = [
        f"kdrun {__version__}   {run.dataset['name']}   {teacher} -> {student}   {run.method}",
        f"loss   {assembly.equation}",
        f"recipe {_recipes(assembly)}",
    ]
    notes = [
        f"model  {note if node.name in note else f'{node.name}: {note}'}"
        for role, node in _nodes(assembly)
        for note in built[role].notes
    ]
    return "\n".join([*lines, *dict.fromkeys(notes)])


def intent(assembly: Assembly, folder: Path) -> str:
    """The plan, then where it goes."""
    busy = crowded(latency_threads(assembly)) if assembly.place.device.type == "cpu" else ""
    return "\n".join([*steps(assembly), f"into   {folder}", *([f"mind   {busy}"] if busy else []), ""])


def steps(assembly: Assembly) -> list[str]:
    """The plan, a line or two for each stage: what will be done and over what."""
    rows = [row for training in wanted(assembly) for row in _training_rows(assembly, training)]
    if "evaluate" in assembly.run.stages:
        rows.append(("evaluate", _evaluation(assembly), "", ""))
    return [
        f"{'plan' if not i else '':7}{a:9}  {b:8} {c}  {d}".rstrip() for i, (a, b, c, d) in enumerate(rows)
    ]


def size(count: float) -> str:
    """`994`, `122 k`, `25.6 M`."""
    if count < 1000:
        return f"{count:.0f}"
    scaled, unit = (count / 1e3, "k") if count < 999.5e3 else (count / 1e6, "M")
    return f"{scaled:.1f} {unit}" if scaled < 100 and unit == "M" else f"{scaled:.0f} {unit}"


def _nodes(assembly: Assembly) -> tuple[tuple[str, Model], ...]:
    return (("teacher", assembly.run.teacher), ("student", assembly.run.student))


def _recipes(assembly: Assembly) -> str:
    recipes = assembly.run.recipe
    roles = {"teacher": recipes.teacher.name, "student": recipes.student.name}
    names = {
        role: f"{name} ({recipes.reasons[role]})" if role in recipes.reasons else name
        for role, name in roles.items()
    }
    if names["teacher"] == names["student"]:
        return names["teacher"]
    return ", ".join(f"{role} {name}" for role, name in names.items())


def wanted(assembly: Assembly) -> list[Training]:
    """The trainings that the run's stages ask for, found finished or not."""
    stages = assembly.run.stages
    if stages == ["evaluate"]:
        return []
    trainings = [
        t for t in assembly.trainings() if t.role != "teacher" or "teacher" in stages or assembly.uses_teacher
    ]
    return [t for t in trainings if t.role == "teacher" or "student" in stages]


def _training_rows(assembly: Assembly, training: Training) -> list[tuple[str, str, str, str]]:
    row = _training_row(assembly, training)
    if training.role != "student" or row[1] == "cached":
        return [row]
    return [row, ("", plan(assembly, assembly.teacher_needs).reason, "", "")]


def _training_row(assembly: Assembly, training: Training) -> tuple[str, str, str, str]:
    if training.role == "teacher" and is_loaded(training.node, assembly.built["teacher"]):
        return ("teacher", "loaded", str(training.node.checkpoint or "pretrained weights"), "")
    epochs = f"{training.recipe.epochs} epochs"
    images = _images(assembly, training)
    record = finished(training, assembly.run.fresh)
    if record is not None:
        return (training.role, "cached", training.folder.name, "")
    state = None if assembly.run.fresh else read_state(training.folder / "state.pt")
    if state is not None:
        return (
            training.role,
            "resume",
            f"at epoch {state['position'][0]} of {training.recipe.epochs}",
            images,
        )
    return (training.role, "train", f"{epochs:>10}", images)


def _images(assembly: Assembly, training: Training) -> str:
    labels = assembly.data.train.labels[training.rows]
    total, labelled = len(labels), int((labels >= 0).sum())
    if training.role != "student":
        kind = " labelled" if labelled < len(assembly.data.train.labels) else ""
        return f"{total:6,}{kind} images" + (", no teacher" if training.role == "control" else "")
    some = f", {labelled:,} labelled" if labelled < total else ""
    return f"{total:6,} images{some}"


def _evaluation(assembly: Assembly) -> str:
    data, kind = assembly.data, assembly.place.device.type
    parts = [f"validation {len(data.validation.labels):,}"] if len(data.validation.labels) else []
    text = ", ".join([*parts, f"test {len(data.test.labels):,}"])
    if not assembly.run.evaluation.latency:
        return text
    count = latency_threads(assembly)
    return f"{text}; latency on {kind}" + (f", {count} thread{'s' * (count > 1)}" if kind == "cpu" else "")


def latency_threads(assembly: Assembly) -> int:
    """One number of threads for all models, so that latencies compare: the most that a training uses."""
    return max(threads_of(training, assembly.place) for training in assembly.trainings())
