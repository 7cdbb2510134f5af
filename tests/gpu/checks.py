"""What must hold on a GPU: tests, captured steps that do what eager ones do, losses that can be compiled."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from kdrun.errors import KdrunError
from kdrun.training.seeds import generators
from tests.gpu.bench import HOME, Bench, Scale
from tests.gpu.timing import measured, timed
from tests.gpu.world import Arm, Terms, World, node, tensors

Rows = list[dict[str, Any]]


def tests(bench: Bench) -> Rows:
    """Those of the suite that need a GPU."""
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-rs", "tests", "-k", "on_a_gpu"]
    done = bench.called(command)
    bench.say(done.stdout[-3000:] + done.stderr[-1000:])
    if done.returncode:
        bench.fail("tests")
    last = done.stdout.strip().rpartition("\n")[2]
    return [{"exit": done.returncode, "last": last, "command": command[1:], "output": done.stdout[-9000:]}]


def exact(bench: Bench) -> Rows:
    """Captured against eager over the end of an epoch, with kernels that give the same bits each time."""
    scale, rows = _short(bench.scale, bench.scale.checked), list[dict[str, Any]]()
    for numerics in ("fp32", "tf32", "bf16") if bench.cuda else ("fp32",):
        for teacher in ("live", "table"):
            arm = Arm(f"{numerics}, {teacher}", numerics, graph=False, teacher=teacher)
            found = compared(bench, scale, (arm, arm._replace(graph=True)), scale.checked)
            rows.append({"arm": arm.name} | found)
            bench.say(f"   {rows[-1]}")
            if found["gap"] > 1e-5 or found["said"]:
                bench.fail(f"exact: {arm.name}")
    return rows


def losses(bench: Bench) -> Rows:
    """Each loss beside the labels: time and memory of a step, eager and captured; do both leave the same?"""
    return _each_loss(bench, _loss)


def compiled(bench: Bench) -> Rows:
    """Each loss compiled as one piece: value and gradient against the eager ones."""
    return _each_loss(bench, _compiled_loss)


def compared(bench: Bench, scale: Scale, arms: Sequence[Arm], count: int) -> dict[str, Any]:
    """What two arms leave after so many steps: whether bits are equal, and the largest gap of a tensor,
    relative to its largest entry. What is 0 but for rounding may differ by any factor, so 0.01 is the least.
    """
    before, bench.scale, left = bench.scale, scale, list[list[Tensor]]()
    try:
        for arm in arms:
            world = World(bench, arm)
            world.steps(count)
            left.append(world.state())
            world.teacher.close()
    finally:
        bench.scale = before
    pairs = [(one, other) for one, other in zip(*left, strict=True) if one.numel()]
    gaps = [gap(one, other, least=1e-2) for one, other in pairs]
    equal = all(torch.equal(one, other) for one, other in pairs)
    return {"steps": count, "equal": equal, "gap": max(gaps), "said": " ".join(world.said)}


def _short(scale: Scale, steps: int) -> Scale:
    """So few images that an epoch, with a smaller last batch, ends half way."""
    return scale._replace(images=steps // 2 * scale.batch + scale.batch // 4)


def gap(one: Tensor, other: Tensor, least: float = 1e-12) -> float:
    """The largest difference, relative to the largest entry."""
    return float((one - other).abs().max() / other.abs().max().clamp(min=least))


def _each_loss(bench: Bench, check: Callable[[Bench, str], dict[str, Any]]) -> Rows:
    rows: Rows = []
    names = sorted(path.stem for path in (HOME / "conf" / "loss").glob("*.yaml"))
    for name in bench.losses or [name for name in names if name != "cross_entropy"]:
        found: dict[str, Any] = {"said": "left out: no time"}
        try:
            found = check(bench, name) if bench.left else found
        except KdrunError as error:
            found = {"said": f"left out: {error}"}
        except Exception as error:  # the others are worth having all the same
            found = {"said": f"{type(error).__name__}: {error}"[:2000]}
            bench.fail(f"{name}: {found['said']}")
        rows.append({"loss": name} | found)
        if "said" in found:
            bench.say(f"   {name}: {found['said']}")
    return rows


def _terms(name: str) -> Terms:
    """Labels, and the loss with a small weight, so that numbers stay in range."""
    return {"hard": {"name": "cross_entropy", "weight": 1.0}, "other": node("loss", name) | {"weight": 1e-3}}


def _loss(bench: Bench, name: str) -> dict[str, Any]:
    scale, eager = bench.scale, Arm(f"{name}, eager", graph=False, terms=_terms(name))
    graph = eager._replace(name=f"{name}, graph", graph=True)
    bench.scale = scale._replace(warm=min(scale.warm, 10), steps=min(scale.steps, 50))
    try:
        found = {"eager": measured(bench, eager), "graph": measured(bench, graph)}
    finally:
        bench.scale = scale
    arms, steps = [arm._replace(numerics="fp32") for arm in (eager, graph)], min(scale.checked, 15)
    same = compared(bench, _short(scale, steps), arms, steps)
    if same["gap"] > 1e-3:  # backward passes of some add up in an order that is left to chance
        bench.fail(f"losses: {name} captured differs by {same['gap']:.2g}")
    return found | {"same": same}


def _compiled_loss(bench: Bench, name: str) -> dict[str, Any]:
    world = World(bench, Arm(name, "fp32", graph=False, terms=_terms(name)))
    (learner,) = world.learners
    loss, batch = learner.mix.terms[1].loss, world.plain.batch(world.rows(bench.scale.batch))
    teacher, state = world.teacher(batch), {key: value.clone() for key, value in loss.state_dict().items()}
    torch.compiler.reset()
    backend = "inductor" if bench.cuda else "aot_eager"
    found: list[tuple[Tensor, Tensor]] = []

    def act(value_of: Callable[..., Tensor]) -> None:
        loss.load_state_dict(state)
        torch.manual_seed(5)
        images = batch.images.clone().requires_grad_()
        value = value_of(learner.tapped(images), teacher, batch)
        pull = torch.zeros_like(images)
        if value.requires_grad:
            value.backward()  # type: ignore[no-untyped-call]
            pull = pull if images.grad is None else images.grad
        found.append((value.detach(), pull))

    act(loss)
    seconds = timed(bench, lambda: act(torch.compile(loss, backend=backend, fullgraph=True, dynamic=False)))
    (value, pull), (other, other_pull) = found
    largest = max(gap(other, value), gap(other_pull, pull))
    draws = _draws(lambda: act(loss))
    bench.say(f"   {name:16} {largest:9.2g} apart, compiled in {seconds:.1f} s")
    if largest > 1e-3 and not draws:
        bench.fail(f"compiled: {name} differs by {largest:.2g}")
    return {"value": float(value), "gap": largest, "seconds": seconds, "draws": draws}


def _draws(act: Callable[[], None]) -> bool:
    """Whether it draws random numbers, which a compiler draws in another way."""
    torch.manual_seed(5)
    before = [tensor.clone() for tensor in tensors(generators())]
    act()
    return not all(map(torch.equal, before, tensors(generators())))
