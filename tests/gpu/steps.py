"""Steps: whether fast ones do what plain ones do, and how long each kind takes."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from kdrun.errors import KdrunError
from kdrun.losses.mix import make_mix
from kdrun.losses.soft_targets import SoftTargets
from kdrun.training.captured import Captured
from kdrun.training.plan import epoch_plan
from kdrun.training.savings import SAVINGS
from kdrun.training.tabled import Codes, Tabled, WriteLater
from kdrun.types import Batch, Outputs
from tests.gpu.bench import Bench, Work, work
from tests.gpu.product import HOME, ORDER, WINDOW, Arm, Scale, Steps, Terms, node
from tests.gpu.timing import measured, timed

SUITE = (
    "tests/training/test_captured.py", "tests/contracts/test_captured.py",
    "tests/evaluation/test_validation.py", "tests/evaluation/test_latency.py",
)  # fmt: skip
"""Tests that need a GPU; no Hydra."""

FIRST = ("soft_targets", "rkd", "dkd", "crd", "reviewkd", "at", "fitnet", "sp", "pkt", "vid")
"""Losses of the tables that are compared most; the others come after."""


def exact(bench: Bench) -> Iterator[Work]:
    """Steps as a graph against eager ones, over the end of an epoch."""
    for precision in bench.precisions[:2]:
        for table in (False, True):
            arm = Arm("exact", precision, graph=False, table=table)
            name = f"{precision}, {'table' if table else 'live'}"
            yield work(name, 15, same, bench, arm._replace(off=frozenset(SAVINGS)), arm._replace(graph=True))


def same(bench: Bench, arm: Arm, other: Arm, limit: float = 1e-5, steps: int = 0) -> dict[str, Any]:
    """What two arms leave after so many steps: whether bits are equal, and the largest gap of a tensor,
    relative to its largest entry, which counts as 0.01 at least: what is 0 but for rounding may differ by any
    factor.
    """
    count, left, said = steps or bench.scale.checked, list[list[Tensor]](), ""
    for each in (arm, other):
        with Steps(bench.product, each) as world:
            world.steps(count)
            left.append(world.state())
            said += bench.product.lines.of("graph")
    pairs = [(one, two) for one, two in zip(*left, strict=True) if one.numel()]
    largest = max(gap(one, two, least=1e-2) for one, two in pairs)
    if largest > limit or (other.graph and "none" in said):
        bench.fail(f"{other.name}: {largest:.2g} from the plain step {said}")
    return {"equal": all(torch.equal(one, two) for one, two in pairs), "gap": largest, "said": said}


def gap(one: Tensor, other: Tensor, least: float = 1e-12) -> float:
    """The largest difference, relative to the largest entry."""
    return float((one - other).abs().max() / other.abs().max().clamp(min=least))


def ladder(bench: Bench) -> Iterator[Work]:
    """A step of a student, from one that is launched piece by piece to the fastest."""
    best = bench.best
    arms = [
        Arm(f"{best}, eager, live", best, graph=False, table=False),
        Arm(f"{best}, graph, live", best, table=False),
        Arm(f"{best}, graph, table", best),
        Arm(f"{best}, graph, table, kernels searched", best, searched=True),
        Arm("tf32, graph, table", "tf32"),
        Arm("fp32, graph, table", "fp32"),
        Arm("fp32, eager, live", "fp32", graph=False, table=False),
    ]
    for arm in arms if bench.cuda else arms[:3]:
        yield work(arm.name, 12, measured, bench, arm)
    for off in (*([name] for name in (*SAVINGS, WINDOW)), SAVINGS) if bench.cuda else ():
        arm = arms[2]._replace(name=f"{best}, graph, table, without {' and '.join(off)}", off=frozenset(off))
        yield work(arm.name, 12, measured, bench, arm)
    crd = Arm(f"{best}, graph, table, crd", best, terms=_terms("crd"))
    for arm in (crd, crd._replace(name=f"{crd.name}, without {ORDER}", off=frozenset([ORDER]))):
        yield work(arm.name, 12, measured, bench, arm)


def kernels(bench: Bench) -> Iterator[Work]:
    """How many kernels a step launches, and which take the most time. Late, since a profiler stays attached,
    and slows steps that are launched piece by piece.
    """
    yield work("a step with table", 10, profiled, bench, Arm("kernels", bench.best, graph=False))


def profiled(bench: Bench, arm: Arm) -> dict[str, Any]:
    from torch.profiler import ProfilerActivity, profile

    activity = ProfilerActivity.CUDA if bench.cuda else ProfilerActivity.CPU
    with Steps(bench.product, arm) as world:
        world.steps(bench.scale.warm, stay=True)
        with profile(activities=[activity]) as seen:
            world.steps(1, stay=True)
            if bench.cuda:
                torch.cuda.synchronize(bench.device)
    events = [event for event in seen.key_averages() if not event.key.startswith(("Mem", "cuda"))]
    events.sort(key=lambda event: -(event.device_time_total if bench.cuda else event.cpu_time_total))
    lines = [f"{event.count:5} {event.device_time_total:9.1f} us {event.key[:150]}" for event in events]
    (bench.out / "kernels.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return {"kernels": sum(event.count for event in events), "kinds": len(events), "file": "kernels.txt"}


def suite(bench: Bench) -> Iterator[Work]:
    """The tests that need a GPU."""
    yield work("on_a_gpu", 75, tested, bench)


def tested(bench: Bench) -> dict[str, Any]:
    command = [sys.executable, "-m", "pytest", "-o", "addopts=", "-q", "-rs", *SUITE, "-k", "on_a_gpu"]
    done = bench.called(command, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    if done.returncode:
        bench.fail(f"suite: exit {done.returncode}")
    return {
        "exit": done.returncode,
        "last": done.stdout.strip().rpartition("\n")[2],
        "output": done.stdout[-6000:],
    }


def together(bench: Bench) -> Iterator[Work]:
    """Students with a table beside one another, each with an order of its own; `share` of one alone."""
    alone: list[float] = []

    def several(count: int) -> dict[str, Any]:
        row = measured(bench, Arm("together", bench.best), range(count), rounds=1)
        alone.append(row["ms"])
        return row | {"share": row["ms"] / (count * alone[0])}

    for count in (1, 2, 4, 8) if bench.cuda else (1, 2):
        yield work(f"{count} students", 12, several, count)


def fill(bench: Bench) -> Iterator[Work]:
    """How many images in a second a folded teacher answers, by the size of a forward."""
    for precision in bench.precisions[:2]:
        for size in (512, 1024, 2048) if bench.cuda else (8, 16):
            yield work(f"{precision}, {size} images", 4, filled, bench, precision, size)
    yield work(f"{bench.best}, a table", 10, kept, bench)


def filled(bench: Bench, precision: str, size: int) -> dict[str, Any]:
    with Steps(bench.product, Arm("fill", precision, graph=False, table=False)) as world:
        course, images = world.loop.course, world.loop.images
        rows = epoch_plan(0, 0, course.row_set, course.views, bench.device).rows
        few = rows.at(torch.arange(size, device=bench.device) % len(rows.index))
        batch = Batch(images(few), few.index, few)
        count = max(3, 2**16 // size) if bench.cuda else 2
        timed(bench, lambda: world.loop.teacher(batch))
        return {"images_per_s": round(count * size / timed(bench, lambda: world.loop.teacher(batch), count))}


class AtOnce(WriteLater):
    """Writes each part before the next is asked for."""

    def give(self, codes: Codes, rows: Mapping[str, Tensor]) -> None:
        super().give(codes, rows)
        self.finish()


def kept(bench: Bench) -> dict[str, Any]:
    """Answers in a second that a table takes, written at once or later, and gives, row by row or whole."""
    with Steps(bench.product, Arm("table", bench.best, graph=False)) as world:
        course, teacher, row = world.loop.course, world.loop.teacher, dict[str, Any]()
        assert isinstance(teacher, Tabled)
        plans = [epoch_plan(0, 1000 + n, course.row_set, course.views, bench.device) for n in range(3)]
        teacher.prepare(plans[:1], 0)  # to warm up
        for plan, later in zip(plans[1:], (AtOnce, WriteLater), strict=True):
            teacher.writer, before = later, teacher.forwards
            seconds = timed(bench, partial(teacher.prepare, [plan], 0))
            row[f"asked_{later.__name__}"] = round((teacher.forwards - before) / seconds)
        teacher.room = len(teacher.table)
        for teacher.whole in (False, True):
            teacher.shelf = None
            seconds = timed(bench, partial(teacher.prepare, plans[:1], 0))
            assert teacher.shelf is not None
            row["read_whole" if teacher.whole else "read_by_row"] = round(teacher.shelf.used / seconds)
    return row


def failing(bench: Bench) -> Iterator[Work]:
    """A loss that waits for the device: no graph, a line that says so, and no weight that changed."""
    yield work("a loss that waits", 15, refused, bench)


def refused(bench: Bench) -> dict[str, Any]:
    plain = SoftTargets.forward

    def waits(self: SoftTargets, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        assert student.logits.sum().item() != 0
        return plain(self, student, teacher, batch)

    with Steps(bench.product, Arm("failing", bench.best, table=False)) as world:
        world._begin(0)
        before = world.state()
        assert isinstance(world.loop.step, Captured)
        SoftTargets.forward = waits  # type: ignore[method-assign]
        try:
            world.loop.step.record(bench.scale.batch)
        finally:
            SoftTargets.forward = plain  # type: ignore[method-assign]
        if bench.cuda:
            torch.cuda.synchronize(bench.device)
        after = world.state()
        unchanged = all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
        said = bench.product.lines.of("graph")
    if not unchanged or "none" not in said:
        bench.fail(f"a recording that failed: unchanged {unchanged}, {said}")
    return {"unchanged": unchanged, "said": said}


def compiled(bench: Bench) -> Iterator[Work]:
    """Compiled models in a graph, with compiled losses and without."""
    arm = Arm("compiled", bench.best, compiled=True)
    if bench.cuda:  # on a CPU a compiler takes minutes
        yield work(f"{bench.best}, graph, table, compiled", 110, by_the_compiler, bench, arm)


def by_the_compiler(bench: Bench, arm: Arm) -> dict[str, Any]:
    scale, row = bench.scale, dict[str, Any]()
    with Steps(bench.product, arm) as world:
        row["warm_s"] = timed(bench, lambda: world.steps(scale.warm, stay=True))
        world.steps(world.plans[0].steps, stay=True)  # from then on all rows of the epoch are there
        for name in ("ms", "ms_losses_plain"):
            row[name] = 1e3 * timed(bench, lambda: world.steps(scale.steps, stay=True)) / scale.steps
            row["graph"] = world.recorded
            for learner in world.loop.step.learners:
                learner.mix._compiled_call_impl = None
            if isinstance(world.loop.step, Captured):
                world.loop.step.graph.clear()
            world.steps(scale.warm, stay=True)
    return row


def losses(bench: Bench) -> Iterator[Work]:
    """Each loss beside the labels: time of a step as a graph, and whether it leaves what eager ones leave."""
    names = sorted(
        path.stem for path in (HOME / "conf" / "loss").glob("*.yaml") if path.stem != "cross_entropy"
    )
    ordered = [name for name in FIRST if name in names] + [name for name in names if name not in FIRST]
    for name in bench.losses or ordered:
        yield work(name, 8, one_loss, bench, name)


def one_loss(bench: Bench, name: str) -> dict[str, Any]:
    graph = Arm(name, bench.best, terms=_terms(name), table=False)
    scale: Scale = bench.scale
    product = bench.product
    product.scale = bench.scale = scale._replace(warm=min(scale.warm, 10), steps=min(scale.steps, 50))
    try:
        row = measured(bench, graph, rounds=1)
        if not make_mix(graph.terms).terms[-1].loss.capturable:
            return row  # it says that no graph can hold it, so there is nothing to compare
        exact = graph._replace(precision="fp32")
        steps = min(scale.checked, 15)
        # what some add up backwards comes in an order that is left to chance
        return row | {"same": same(bench, exact._replace(graph=False), exact, 1e-3, steps)}
    except KdrunError as error:
        return {"said": f"left out: {error}"}
    finally:
        product.scale = bench.scale = scale


def _terms(name: str) -> Terms:
    """Labels, and the loss with a small weight, so that numbers stay in range."""
    return {"hard": {"name": "cross_entropy", "weight": 1.0}, "other": node("loss", name) | {"weight": 1e-3}}
