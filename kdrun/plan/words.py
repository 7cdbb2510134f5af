"""What the screen says before a run starts: who teaches whom, the equation, the recipes, and what will be
done.
"""

from __future__ import annotations

from pathlib import Path

from kdrun import __version__
from kdrun.config.schema import Model
from kdrun.data.batches import streaming
from kdrun.evaluation.cost import params
from kdrun.machine import crowded
from kdrun.models.build import Built
from kdrun.plan.answers import plan
from kdrun.plan.plan import Assembly
from kdrun.plan.training import Training, threads_of
from kdrun.stages.saved import finished
from kdrun.training.checkpoint import read_state


def header(assembly: Assembly) -> str:
    """Data set, models with sizes, method, equation, recipes, and what was fitted to small images."""
    run, models = assembly.run, models_of(assembly)
    teacher, *_, student = (f"{node.name} ({size(params(built.model))})" for node, built in models.values())
    chain = [f"{role} {node.name}" for role, (node, _) in models.items()]
    who = f"peer {teacher} <-> {student}" if assembly.mutual else f"{teacher} -> {student}"
    lines = [
        f"kdrun {__version__}   {run.dataset['name']}   {who}   {run.method}",
        *([f"chain  {' -> '.join(chain)}"] if len(chain) > 2 else []),
        f"loss   {assembly.equation}",
        f"recipe {_recipes(assembly)}{_momenta(run.momentum_delta)}",
        *streaming(assembly.data),
    ]
    notes = [
        f"model  {note if node.name in note else f'{node.name}: {note}'}"
        for node, built in models.values()
        for note in built.notes
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
    wide = max((len(row[0]) for row in rows), default=0)
    return [
        f"{'plan' if not i else '':7}{a:{max(wide, 9)}}  {b:8} {c}  {d}".rstrip()
        for i, (a, b, c, d) in enumerate(rows)
    ]


def size(count: float) -> str:
    """`994`, `122 k`, `25.6 M`."""
    if count < 1000:
        return f"{count:.0f}"
    scaled, unit = (count / 1e3, "k") if count < 999.5e3 else (count / 1e6, "M")
    return f"{scaled:.1f} {unit}" if scaled < 100 and unit == "M" else f"{scaled:.0f} {unit}"


def models_of(assembly: Assembly) -> dict[str, tuple[Model, Built]]:
    """The models of the chain by role, in order."""
    first = assembly.chain[0]
    found = {first.teacher.role: (first.teacher.node, first.built["teacher"])}
    return found | {pair.name: (pair.student.node, pair.built["student"]) for pair in assembly.chain}


def _recipes(assembly: Assembly) -> str:
    recipes = assembly.run.recipe
    roles = {"teacher": recipes.teacher.name, "student": recipes.student.name}
    if assembly.mutual:
        del roles["teacher"]
    names = {
        role: f"{name} ({recipes.reasons[role]})" if role in recipes.reasons else name
        for role, name in roles.items()
    }
    if len(set(names.values())) == 1:
        return names["student"]
    return ", ".join(f"{role} {name}" for role, name in names.items())


def _momenta(delta: float | None) -> str:
    if delta is None:
        return ""
    return f"; momentum of the teacher's terms +{delta:g}, of the others -{delta:g}"


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
    pair = next((pair for pair in assembly.chain if pair.name == training.role), None)
    if pair is None or row[1] == "cached":
        return [row]
    return [row, ("", plan(pair, pair.teacher_needs).reason, "", "")]


def _training_row(assembly: Assembly, training: Training) -> tuple[str, str, str, str]:
    if training.loaded:
        return ("teacher", "loaded", str(training.node.checkpoint or "pretrained weights"), "")
    whole = f" of {training.recipe.epochs}" if training.epochs < training.recipe.epochs else ""
    epochs = f"{training.epochs}{whole} epochs"
    images = _images(assembly, training)
    record = finished(training, assembly.run.fresh)
    if record is not None:
        return (training.role, "cached", training.folder.name, "")
    state = None if assembly.run.fresh else read_state(training.folder / "state.pt")
    if state is not None:
        return (
            training.role,
            "resume",
            f"at epoch {state['position'][0]} of {training.epochs}",
            images,
        )
    return (training.role, "train", f"{epochs:>10}", images)


def _images(assembly: Assembly, training: Training) -> str:
    labels = assembly.data.train.labels[training.rows]
    total, labelled = len(labels), int((labels >= 0).sum())
    if training.role in ("teacher", "control"):
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
