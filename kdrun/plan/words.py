"""A plan on screen: models, equation, recipes, and one or two lines for each training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from kdrun import __version__
from kdrun.config.choices import shown_role
from kdrun.config.controls import role
from kdrun.data.lazy import Unread
from kdrun.evaluation.cost import params
from kdrun.figures import file_size, listed, plural, points, short
from kdrun.machine import crowded
from kdrun.plan.answers import answers_plan
from kdrun.plan.notes import mismatched, unfinished
from kdrun.plan.plan import Plan
from kdrun.plan.training import Training
from kdrun.report.caption import TRIAL
from kdrun.terminal import folded, hung, in_lines
from kdrun.training.combine import Combination
from kdrun.training.plan import RowSet

MOST_NAMED = 4
"""The most classes that a line names."""


class Status(NamedTuple):
    """The progress of a training. kind: loaded, cached, resume or train. epochs: those that are done."""

    kind: str
    epochs: int = 0


StatusOf = Callable[[Training], Status]

LAST = 16
"""The least columns for the last cell of a row of the plan; it stands below its row if there are fewer."""


def header(plan: Plan, columns: int = 80) -> str:
    """Data set, models with sizes, method, equation, recipes, changes for small images, and schedules
    that are too long; folded to `columns`.
    """
    run = plan.run
    teacher, student = " + ".join(map(_sized, plan.teachers)), _sized(plan.student)
    chain = [f"{training.name} {training.model.name}" for training in plan.chain]
    heads = len(plan.teachers)
    chain = [" + ".join(chain[:heads]), *chain[heads:]]
    pair = f"peer {teacher} <-> {student}" if plan.student.peer else f"{teacher} -> {student}"
    first = (__version__, str(run.dataset["name"]), pair, str(run.method))
    lines = [
        "kdrun  " + f"\n{'':7}".join(in_lines(first, columns - 7, space=3)),
        *([f"quick  {TRIAL}"] if run.quick else []),
        *([f"chain  {' -> '.join(chain)}"] if len(chain) > 2 else []),
        *_own_datasets(plan),
        *_transfer(plan),
        *_several(plan),
        *_versus(plan),
        f"loss   {plan.equation}",
        *([f"models {' and '.join(run.remarks.by_data_set)} by data set"] if run.remarks.by_data_set else []),
        f"recipe {_recipes(plan)}{_momenta(run.momentum_delta)}",
        *(f"       {both}" for both in pairs(run.remarks.spelled)),
        *_streaming(plan),
        *_ranks(plan),
    ]
    notes = [
        f"model  {note if training.model.name in note else f'{training.model.name}: {note}'}"
        for training in plan.chain
        for note in training.built.notes
    ]
    cut = [f"note   {note}" for note in (*mismatched(plan), *unfinished(plan))]
    return folded("\n".join([*lines, *dict.fromkeys(notes), *cut]), columns)


def _sized(training: Training) -> str:
    return f"{training.model.name} ({short(params(training.built.model))})"


def pairs(spelled: Sequence[str]) -> Iterator[str]:
    """The long forms of short keys, a line for both recipes: `recipe.teacher.lr=0.1  recipe...`."""
    by_key: dict[str, list[str]] = {}
    for key in spelled:
        by_key.setdefault(key.rpartition(".")[2], []).append(key)
    yield from map("  ".join, by_key.values())


def _several(plan: Plan) -> Iterator[str]:
    """A line for each of several teachers, or for one with other classes; then how they answer as one."""
    several, classes = plan.taught_first.several, plan.ground.data.classes
    if several is None:
        return
    for place, asked in enumerate(several.asked):
        known = [classes[number] for number in asked.relation.known]
        text = f"knows {listed(known)}" if not asked.relation.whole else "knows all classes"
        text = text if asked.relation.targets else "no classes; only its layers are read"
        text += "" if several.how is None or asked.share == 1 else f", weight {asked.share:g}"
        yield f"{'' if place else 'from':6} {asked.name}: {text}"
    if several.how is not None:
        yield f"{'':6} as one: {combined(several.how)}"


def _versus(plan: Plan) -> Iterator[str]:
    """The line for the model that the student is to replace."""
    if (own := plan.reference) is not None:
        yield f"versus {own.name} ({own.origin}): as good if less than {points(own.margin)} below"


def _own_datasets(plan: Plan) -> Iterator[str]:
    """A line for each teacher with a data set of its own: its name and images, or which keys are others."""
    ours = plan.ground
    for teacher in plan.teachers:
        own = teacher.ground
        if own.run.dataset == ours.run.dataset:
            continue
        if own.run.dataset["name"] == ours.run.dataset["name"]:
            keys = [key for key, value in own.run.dataset.items() if value != ours.run.dataset.get(key)]
            about = f"the run's, with {' and '.join(keys)} of its own"
        else:
            channels, height, width = own.data.image_shape
            grey = {1: " grey", 3: " colour"}.get(channels, f"x{channels}")
            images = f"{len(own.data.train.labels):,} training images of {height}x{width}{grey}"
            about = f"{own.run.dataset['name']}, {images}"
        yield f"data   {teacher.name}: {about}"


def _transfer(plan: Plan) -> Iterator[str]:
    """The line for classes that the student and its controls do not see, though the teacher does."""
    transfer, classes = plan.ground.transfer, plan.ground.data.classes
    if not transfer.missing:
        return
    there = [name for number, name in enumerate(classes) if number not in transfer.missing]
    gone = [classes[number] for number in transfer.missing]
    has = f"no {listed(gone, MOST_NAMED)}" if len(gone) <= len(there) else f"{listed(there, MOST_NAMED)} only"
    who = "student and control see" if plan.controls else "the student sees"
    yield f"data   {who} {has}; {plural(len(transfer.kept_out), 'image')} stay out to choose a bias"


def combined(how: Combination) -> str:
    """`mean of probabilities, each image by its most confident teacher`."""
    mean = {"mean_probabilities": "mean of probabilities", "mean_logits": "mean of logits"}[how.by]
    weights = {
        "fixed": "with fixed weights",
        "known": "of the teachers that know the class of its label",
        "most_confident": "of the most confident teacher alone",
    }.get(how.weights, f"weighted by {how.weights}")
    least = "" if how.least is None else f"; no answer below {how.least:g}"
    return f"{mean}, {weights}{least}"


def intent(plan: Plan, status: StatusOf, notes: Iterable[str] = (), columns: int = 80) -> str:
    """The steps of the run, then its folder, then what looks wrong; folded to `columns`."""
    machine = plan.ground.machine
    busy = crowded(latency_threads(plan)) if machine.device.type == "cpu" else ""
    lines = [hung("note   ", note, columns) for note in (busy, *notes) if note]
    return "\n".join([*steps(plan, status, columns), f"into   {plan.folder}", *lines, ""])


def steps(plan: Plan, status: StatusOf, columns: int) -> list[str]:
    """The steps of the run: one or two rows for each training, one for the evaluation. A long row continues
    below its last cell, and a narrow screen has this cell below the row.
    """
    rows = [row for training in plan.concerned for row in _rows(training, status(training))]
    if "evaluate" in plan.run.stages:
        rows.append(("evaluate", _evaluation(plan), "", ""))
    wide = max((len(row[0]) for row in rows), default=0)
    lines = []
    for place, (name, what, extent, images) in enumerate(rows):
        start = f"{'plan' if not place else '':7}{name:{max(wide, 9)}}  "
        *cells, last = filter(str.strip, (f"{what:8} ", f"{extent}  ", images))
        before = start + "".join(cells)
        if cells and columns - len(before) < LAST:
            below = hung(" " * len(start), last.strip(), columns)
            lines.append(f"{before.rstrip()}\n{below}")
        else:
            lines.append(hung(before, last.rstrip(), columns))
    return lines


def latency_threads(plan: Plan) -> int:
    """The threads for the latency of all models: the most that a training uses."""
    return max(training.threads for training in plan.trainings)


def _recipes(plan: Plan) -> str:
    recipes = plan.run.recipe
    roles = {"teacher": recipes.teacher.name, "student": recipes.student.name}
    if plan.run.peer:
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


def _streaming(plan: Plan) -> list[str]:
    """The line for images that do not fit into memory."""
    images = plan.ground.data.train.images
    if not isinstance(images, Unread):
        return []
    workers, kept = images.reading.workers, len(images.kept.pixels)
    reader = f"by {plural(workers, 'process', 'processes')}" if workers else "by the process that trains"
    stay = f"; {kept:,} of {len(images):,} stay in memory" if kept else ""
    size = file_size(images.memory)
    return [f"images {size} do not fit into memory: read as they are needed, {reader}{stay}"]


def _ranks(plan: Plan) -> list[str]:
    """The lines for several processes: what each sees, and what it reads of the others."""
    ranks = plan.ground.machine.ranks
    if ranks.count == 1:
        return []
    own = [training.name for training in plan.trainings if training.normalises_parts]
    norm = (
        f"; batch norm of {listed(own)}: each of its own rows (runtime.sync_bn=true: of all)" if own else ""
    )
    mixes = [mix for training in plan.trainings for mix in training.mixes]
    terms = {name: term.loss for mix in mixes for name, term in zip(mix.names, mix.terms, strict=True)}
    gather = [f"loss.{name}" for name, loss in terms.items() if loss.of_the_batch]
    reads = [f"       {listed(gather)} reads the outputs of all processes"] if gather else []
    return [f"ranks  {ranks.count} processes share each batch{norm}", *reads]


def _rows(training: Training, status: Status) -> list[tuple[str, str, str, str]]:
    row = _row(training, status)
    if training.kind != "student" or status.kind == "cached":
        return [row]
    return [row, ("", answers_plan(training).reason, "", "")]


def _row(training: Training, status: Status) -> tuple[str, str, str, str]:
    name = shown_role(training.name)
    if status.kind == "loaded":
        return (name, "loaded", str(training.model.checkpoint or "pretrained weights"), "")
    if status.kind == "cached":
        return (name, "cached", training.folder.name, "")
    if status.kind == "resume":
        done = f"at epoch {status.epochs} of {training.epochs}"
        return (name, "resume", done, _images(training))
    ending = "s" * (training.recipe.epochs != 1)
    total = f" of {training.recipe.epochs}" if training.epochs < training.recipe.epochs else ""
    return (name, "train", f"{f'{training.epochs}{total} epoch{ending}':>10}", _images(training))


def _images(training: Training) -> str:
    all_labels = training.labels
    labels = all_labels[training.rows]
    total, labelled = len(labels), int((labels >= 0).sum())
    if training.kind in ("teacher", "control"):
        kind = " labelled" if labelled < len(all_labels) else ""
        return f"{total:6,}{kind} images{_began(training) or _control(training)}"
    part = f", {labelled:,} labelled" if labelled < total else ""
    whom = ", by control" if training.is_control else ""
    return f"{total:6,} images{part}{_shares(training.row_set())}{whom}{_began(training)}"


def _began(training: Training) -> str:
    """What a training for 8 bits begins with."""
    return "" if training.for_int8 is None else f", from the {training.for_int8.began.name}"


def _control(training: Training) -> str:
    """What a control without a teacher has in its place."""
    if training.kind != "control":
        return ""
    smoothing = training.recipe.label_smoothing
    instead = {role("smoothed"): f"smoothing {smoothing:g}", role("teacher_free"): "virtual teacher"}
    return f", {instead.get(training.name, 'no teacher')}"


def _shares(row_set: RowSet) -> str:
    if row_set.shares is None:
        return ""
    return f" ({row_set.shares.count(row_set.batch)} of the {row_set.batch} in a batch)"


def _evaluation(plan: Plan) -> str:
    data, kind = plan.ground.data, plan.ground.machine.device.type
    parts = [f"validation {len(data.validation.labels):,}"] if len(data.validation.labels) else []
    text = ", ".join([*parts, f"test {len(data.test.labels):,}"])
    text += f" of {data.test_of:,} (reduced)" if data.test_of else ""
    if not plan.run.evaluation.latency:
        return text
    threads = f", {plural(latency_threads(plan), 'thread')}" if kind == "cpu" else ""
    return f"{text}; latency on {kind}{threads}"
