"""What is measured: steps from a textbook's on, the teacher in bulk, several students, whole epochs."""

from __future__ import annotations

import importlib.util
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from kdrun.evaluation import latency
from kdrun.evaluation.validation import Validation
from kdrun.progress.journal import Journal
from kdrun.progress.watchers import Watchers
from kdrun.training.checkpoint import Checkpoint, Pace, Position
from kdrun.training.fit import Course, Strand, fit
from tests.gpu.bench import Bench
from tests.gpu.timing import measured, timed
from tests.gpu.world import RECIPE, Arm, World

Rows = list[dict[str, Any]]

EPOCHS = 240
VALIDATED = 5461
"""Images of a batch: 2^24 pixel values."""

TEXTBOOK: dict[str, Any] = {"last": False, "fold": False, "graph": False}

LADDER = (
    Arm("fp32, eager, channels first", "fp32", **TEXTBOOK),
    Arm("tf32, eager, channels first", "tf32", **TEXTBOOK),
    Arm("bf16, eager, channels first", **TEXTBOOK),
    Arm("bf16, eager, channels last", fold=False, graph=False),
    Arm("bf16, eager, channels last, folded", graph=False),
    Arm("bf16, graph"),
    Arm("bf16, graph, kernels searched", searched=True),
    Arm("bf16, graph, compiled", compiled=True),
    Arm("bf16, eager, table", graph=False, teacher="table"),
    Arm("bf16, graph, table", teacher="table"),
    Arm("bf16, graph, table, kernels searched", searched=True, teacher="table"),
    Arm("bf16, graph, table, compiled", compiled=True, teacher="table"),
    Arm("tf32, graph", "tf32"),
    Arm("tf32, graph, table", "tf32", teacher="table"),
    Arm("fp32, graph", "fp32"),
    Arm("fp32, graph, table", "fp32", teacher="table"),
    Arm("fp32, graph, table, compiled", "fp32", compiled=True, teacher="table"),
)


def ladder(bench: Bench) -> Rows:
    """A step, from a textbook's to the fastest; also the textbook's images lie on the device."""
    arms: tuple[Arm, ...] = LADDER
    if not bench.cuda:  # for which a compiler takes minutes, and bf16 may be slow
        arms = tuple(arm._replace(numerics="fp32") for arm in LADDER if not arm.compiled)
    rows = [measured(bench, arm) for arm in arms if bench.left]
    return [row | {"ratio": rows[0]["ms"] / row["ms"]} for row in rows]


def fill(bench: Bench) -> Rows:
    """How many images in a second a folded teacher answers, by the size of a forward."""
    rows: Rows = []
    for numerics in ("fp32", "tf32", "bf16") if bench.cuda else ("fp32",):
        world = World(bench, Arm("fill", numerics, graph=False))
        for size in (64, 256, 512, 1024, 2048, 4096) if bench.cuda else (8, 16):
            batch = world.plain.batch(world.rows(size))
            count = max(3, 2**16 // size) if bench.cuda else 2
            timed(bench, partial(world.live, batch))
            speed = count * size / timed(bench, partial(world.live, batch), count)
            rows.append({"numerics": numerics, "images": size, "images_per_s": round(speed)})
            bench.say(f"   {rows[-1]}")
    return rows


def together(bench: Bench) -> Rows:
    """Students that share images and teacher, against as many alone (share; at most 0.5 is the aim)."""
    rows: Rows = []
    numerics, counts = ("bf16", (1, 2, 4, 8)) if bench.cuda else ("fp32", (1, 2))
    for teacher in ("live", "table"):
        alone = 0.0
        for seeds in [[0] * count for count in counts] + [[0, 1]]:
            if not bench.left:
                break
            orders = "one order" if len(set(seeds)) == 1 else "two orders"
            name = f"{teacher}, {len(seeds)} students, {orders}"
            row = measured(bench, Arm(name, numerics, teacher=teacher), seeds)
            alone = alone or row["ms"]
            rows.append(row | {"students": len(seeds), "share": row["ms"] / (len(seeds) * alone)})
    return rows


def evaluation(bench: Bench) -> Rows:
    """A pass over the validation part, eager and captured, by the size of a batch; then latencies."""
    rows: Rows = []
    world = World(bench, Arm("evaluation", "bf16" if bench.cuda else "fp32", graph=False))
    model, labels = world.learners[0].model, world.seen_labels()
    for size in (341, 1024, VALIDATED) if bench.cuda else (16, 40):
        for graphs in (None, bench.graphs()):
            validate = Validation(
                model, partial(world.seen, size), labels, world.precision, graphs, bench.say
            )
            timed(bench, validate, 2)  # the second is recorded
            seconds = statistics.median(timed(bench, validate) for _ in range(5))
            mode = "eager" if graphs is None else "graph"
            rows.append({"mode": mode, "batch": size, "ms": 1e3 * seconds} | validate())
            bench.say(f"   {rows[-1]}")
    models = {"teacher": world.live.network, "student": model}
    modes = ("eager", "graph", "compiled") if bench.cuda else ("eager",)
    times = latency.measure(models, world.shape, (1, 32), device=str(bench.device), modes=modes).rows
    return [*rows, *({"model": role} | row for role, own in times.items() for row in own)]


def run(bench: Bench) -> Rows:
    """Epochs by the loop itself, with validation and checkpoints, laid out to 240: of the first student,
    about whose rows the teacher is asked, and of one that finds all answers in the table.
    """
    rows: Rows = []
    for numerics in ("bf16", "tf32") if bench.cuda else ("fp32",):
        if not bench.left:
            break
        world = World(bench, Arm("run", numerics, teacher="table"))
        validate = Validation(
            world.learners[0].model, partial(world.seen, VALIDATED), world.seen_labels(), world.precision,
            bench.graphs(), bench.say,
        )  # fmt: skip
        cold, *warm = (_epoch(bench, world, validate) for _ in range(4))
        views, found = float(world.images.views.count or 1), statistics.median(warm)
        asked = views * (1 - (1 - 1 / views) ** EPOCHS)  # epochs' worth of rows that 240 epochs meet
        row = {"numerics": numerics, "cold_s": cold, "warm_s": found, "said": " ".join(world.said)}
        row["first_student_min"] = (EPOCHS * found + asked * max(cold - found, 0.0)) / 60
        rows.append(row | {"table_full_min": EPOCHS * found / 60})
        bench.say(f"   {rows[-1]}")
        world.teacher.close()
    return rows


def _epoch(bench: Bench, world: World, validate: Validation) -> float:
    """Seconds of the first epoch by `fit`; its rows are the same each time."""
    folder, (learner,) = Path(tempfile.mkdtemp(dir=bench.folder)), world.learners
    strand = Strand(
        "student", 0, (learner,), Checkpoint(folder / "state.pt", [learner], Pace(5.0, 5.0), {}),
        Watchers("student", bench.scale.images, [Journal(folder, "student")]), validate,
    )  # fmt: skip
    course = Course(1, EPOCHS, world.row_set, world.images.views, RECIPE)
    return timed(bench, lambda: fit(course, world.step, [strand], Position()))


def cli(bench: Bench) -> Rows:
    """The command from its start to the report, on made-up images: the first also trains the teacher."""
    needed = ("hydra", "omegaconf", "matplotlib")
    if missing := [name for name in needed if importlib.util.find_spec(name) is None]:
        return [{"said": f"left out: {', '.join(missing)} not installed"}]
    rows: Rows = []
    for more in (["seed=0"], ["seed=1"], ["seed=2", "runtime.graph=off"], ["seed=3", "runtime.compile=true"]):
        if not bench.left or (bench.tiny and len(more) > 1):
            break
        command = [sys.executable, "-m", "kdrun", *_overrides(bench), *more]
        start = time.perf_counter()
        done = bench.called(command)
        row = {"run": " ".join(more), "exit": done.returncode, "seconds": time.perf_counter() - start}
        rows.append(row | {"command": command[1:], "output": (done.stdout + done.stderr)[-4000:]})
        bench.say(f"   {row}")
        if done.returncode:
            bench.fail(f"cli {row['run']}: {rows[-1]['output']}")
    return rows


def _overrides(bench: Bench) -> list[str]:
    epochs = 1 if bench.tiny else 5
    scale, size = bench.scale, [] if bench.tiny else ["classes=100", "per_class=520", "validation=1000"]
    return [
        "dataset=fake",
        "dataset.views.name=crop_flip",
        *(f"dataset.{key}" for key in size),
        f"teacher={scale.teacher}",
        f"student={scale.student}",
        "recipe=crd",
        *(f"recipe.{role}.epochs={epochs}" for role in ("teacher", "student")),
        *(f"recipe.{role}.milestones=[]" for role in ("teacher", "student")),
        "control=false",
        f"device={bench.device}",
        f"outputs_dir={bench.folder}/outputs",
    ]
