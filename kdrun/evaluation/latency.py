"""The latency of models, measured side by side.

They run on the same threads and images and take turns, so that other load slows all of them equally.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from kdrun.config.choices import is_control
from kdrun.evaluation.cost import bytes_per_image
from kdrun.figures import file_size
from kdrun.garbage import uncollected
from kdrun.graphs import cuda_graphs
from kdrun.machine import exact, torch_threads
from kdrun.nested import grouped

Result = TypeVar("Result")

Shape = tuple[int, int, int]
"""Of an image: (C, H, W)."""

Timed = Callable[[], float]
"""Runs the batch once and returns the milliseconds."""

WARM_UP_ROUNDS = 5
WARM_UP_SHARE = 0.2
"""The most of the allowed time that the warm-up takes; it always has one round."""

FEWEST_ROUNDS = 3
"""Rounds that are measured even if the time is over."""

PATIENCE = 10.0
"""Seconds beyond the allowed time. After these, one round is enough and larger batches are left out."""

MARGIN = 1.1
"""A ratio of medians closer to 1 than this is never called a speed-up."""


class LatencyResults(NamedTuple):
    """Latencies by model, and a note for each that could not be measured."""

    rows: dict[str, list[dict[str, Any]]]
    notes: list[str]


def measure(
    models: Mapping[str, nn.Module],
    image_shape: tuple[int, int, int],
    batches: Sequence[int] = (1, 32),
    *,
    device: str = "cpu",
    threads: int = 1,
    samples: int = 200,
    seconds: float = 1.0,
    modes: Sequence[str] = ("eager",),
    room: int | None = None,
    shapes: Mapping[str, Shape] = MappingProxyType({}),
    ahead: Callable[[float], object] = lambda share: None,
) -> LatencyResults:
    """For each model, one row per mode and batch size, as in report.json's `latency`:
    `{device, mode, threads, batch, p50_ms, p95_ms, images_per_s, n}`.

    image_shape: (C, H, W); shapes: of models that take others, by name. A sample is one forward of a batch
    that is already on the device. The models take turns, in reversed order every second round. For each batch
    size the rounds end after `samples`, or when `seconds` are over for all models together, but not before
    FEWEST_ROUNDS; `n` is their number. If a batch size takes far longer (PATIENCE), it has one round and
    larger ones are left out. Percentiles are by nearest rank. images_per_s follows from p50.

    Copies of the models are measured: in inference mode, channels last (or first, if a model says
    `channels_first`), exact float32. On a GPU the time is that between two events, and it is idle before each
    sample. modes: eager, graph (a replayed CUDA graph, on a GPU only), compiled (torch.compile, not timed). A
    model that fails at a batch size, or needs more than `room` bytes for it, is left out there. ahead: gets
    the share that is done, between samples.
    """
    if "graph" in modes and torch.device(device).type != "cuda":
        raise ValueError("the mode graph needs a cuda device")
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in models}
    notes: list[str] = []
    parts = max(1, len(modes) * len(batches))
    ahead(0.0)
    taken = {name: shapes.get(name, image_shape) for name in models}
    with torch_threads(threads), torch.inference_mode(), exact():
        sizes = _each_size(models, taken, sorted(batches), device, modes, room, seconds)
        for done, (mode, batch, arms) in enumerate(sizes):
            how = {"device": torch.device(device).type, "mode": mode, "threads": threads, "batch": batch}
            for name, times in _take_turns(arms, samples, seconds, part(ahead, done, parts)).items():
                rows[name].append(how | summary(times, batch))
            notes += arms.notes(batch, device, mode)
    ahead(1.0)
    return LatencyResults(rows, notes)


def part(ahead: Callable[[float], object], done: int, parts: int) -> Callable[[float], object]:
    """What gets the share of one of several equal parts, after `done` of them."""
    return lambda share: ahead((done + share) / parts)


def _each_size(
    models: Mapping[str, nn.Module],
    shapes: Mapping[str, Shape],
    batches: Sequence[int],
    device: str,
    modes: Sequence[str],
    room: int | None,
    seconds: float,
) -> Iterator[tuple[str, int, _Arms]]:
    """The models that can be measured in each mode at each batch size. After a size that takes too long, no
    model can be in that mode.
    """
    needs = {name: bytes_per_image(model, shapes[name]) for name, model in models.items() if room}
    for mode in modes:
        place, broken = torch.device(device), dict[str, str]()
        copied = {name: _attempt(broken, name, _copy, model, place, mode) for name, model in models.items()}
        copies = {name: copy for name, copy in copied.items() if copy is not None}
        for batch in batches:
            start = time.perf_counter()
            arms = _Arms(broken | _too_large(needs, batch, room))
            for shape in dict.fromkeys(shapes.values()):
                alike = {name: copy for name, copy in copies.items() if shapes[name] == shape}
                arms.add(alike, (batch, *shape), place, mode)
            yield mode, batch, arms
            if (took := time.perf_counter() - start) > seconds + PATIENCE:
                broken = dict.fromkeys(models, f"batch {batch} took {took:.0f} s") | broken


def summary(times_ms: Sequence[float], batch: int) -> dict[str, float]:
    """p50_ms, p95_ms (nearest rank), images_per_s at the median, and n."""
    ordered = sorted(times_ms)
    p50, p95 = (ordered[math.ceil(q * len(ordered)) - 1] for q in (0.5, 0.95))
    return {"p50_ms": p50, "p95_ms": p95, "images_per_s": 1000 * batch / p50, "n": len(ordered)}


def speedup(
    latency: Mapping[str, Sequence[Mapping[str, Any]]], over: str = "teacher"
) -> list[dict[str, Any]]:
    """Teacher's p50 over student's: `{device, mode, batch, ratio, significant}` for all that both have.

    Above 1 the student is faster. over: another model in the teacher's place. latency: rows by model, as
    `measure` returns them. significant: the ratio is further from 1, on a log scale, than MARGIN and than
    twice the difference between student and control. These have the same architecture, so their difference is
    noise; it is doubled since it is a single draw. Without a control, the student's own p95 / p50 is the
    noise.
    """
    ratios = []
    for student in latency.get("student", ()):
        teacher = _at_same(latency.get(over, ()), student)
        if teacher is None:
            continue
        ratio = teacher["p50_ms"] / student["p50_ms"]
        controls = (row for model, rows in latency.items() if is_control(model) for row in rows)
        noise = max(math.log(MARGIN), _noise(student, _at_same(controls, student)))
        head = {key: student[key] for key in ("device", "mode", "batch")}
        ratios.append(head | {"ratio": ratio, "significant": abs(math.log(ratio)) > noise})
    return ratios


def _noise(student: Mapping[str, Any], control: Mapping[str, Any] | None) -> float:
    """The log ratio by which two measurements of one architecture can differ."""
    if control is None:
        return math.log(student["p95_ms"] / student["p50_ms"])
    return 2 * abs(math.log(student["p50_ms"] / control["p50_ms"]))


def _at_same(rows: Iterable[Mapping[str, Any]], other: Mapping[str, Any]) -> Mapping[str, Any] | None:
    keys = ("device", "mode", "threads", "batch")
    return next((row for row in rows if all(row[key] == other[key] for key in keys)), None)


def _copy(model: nn.Module, device: torch.device, mode: str) -> nn.Module:
    duplicate = copy.deepcopy(model).eval().to(device).to(memory_format=torch.channels_last)
    if mode == "compiled":
        duplicate.compile(dynamic=False)
    return duplicate


class _Arms:
    """Models that take turns at one batch size. left_out: the other models, each with the reason."""

    def __init__(self, left_out: Mapping[str, str]) -> None:
        self.timed: dict[str, Timed] = {}
        self.left_out = dict(left_out)

    def add(
        self,
        models: Mapping[str, nn.Module],
        shape: tuple[int, int, int, int],
        place: torch.device,
        mode: str,
    ) -> None:
        """Adds the models that are not left out, all with the same images (N, C, H, W)."""
        names = [name for name in models if name not in self.left_out]
        images = _attempt(self.left_out, names, _images, shape, place)
        for name in names if images is not None else ():
            timed = _attempt(self.left_out, name, _timed, models[name], images, mode)
            if timed is not None:
                self.timed[name] = timed

    def time(self, name: str) -> list[float]:
        """Milliseconds of one forward. A model that fails gives none and drops out."""
        took = _attempt(self.left_out, name, self.timed[name])
        if took is None:
            del self.timed[name]
        return [] if took is None else [took]

    def notes(self, batch: int, device: str, mode: str) -> list[str]:
        """One note for each reason, with the models that were left out for it."""
        what = f"latency at batch {batch} on {device}" + (f" ({mode})" if mode != "eager" else "")
        names = grouped(self.left_out, lambda name: self.left_out[name])
        return [f"{what} is left out for {', '.join(some)}: {reason}" for reason, some in names.items()]


def _attempt(
    failed: dict[str, str], names: str | Sequence[str], call: Callable[..., Result], *arguments: Any
) -> Result | None:
    """The result of a call. If it fails: None, and `failed` holds the reason for these models."""
    try:
        return call(*arguments)
    except Exception as error:  # a model may raise anything for a batch that it cannot take
        text = str(error).strip().partition("\n")[0]
        reason = f"{type(error).__name__}: {text}"
    failed |= dict.fromkeys([names] if isinstance(names, str) else names, reason)
    torch.cuda.empty_cache()
    return None


def _images(shape: tuple[int, ...], place: torch.device) -> Tensor:
    """A batch of one image of noise, always the same. A GPU computes faster with black ones: less power."""
    image = torch.randn(shape[1:], generator=torch.Generator().manual_seed(0))
    return image.to(place).expand(shape).contiguous(memory_format=torch.channels_last)


def _too_large(needs: Mapping[str, int], batch: int, room: int | None) -> dict[str, str]:
    """Models for which a batch does not fit twice, with the reason.

    Twice, since operations can need as much again as tensors. needs: bytes for an image. room: free bytes.
    """
    if room is None:
        return {}
    sizes = {name: 2 * batch * need for name, need in needs.items()}
    reason = "it would take about {}, and {} are free"
    return {
        name: reason.format(file_size(size), file_size(room)) for name, size in sizes.items() if size > room
    }


def _take_turns(
    arms: _Arms, samples: int, seconds: float, ahead: Callable[[float], object]
) -> dict[str, list[float]]:
    """Times in ms by model, the same number for each, in rounds of one sample each. ahead: gets the share
    that is done.
    """
    start = time.perf_counter()
    for _ in range(WARM_UP_ROUNDS):
        for name in list(arms.timed):
            arms.time(name)
        if time.perf_counter() - start > WARM_UP_SHARE * seconds:
            break
    order = list(arms.timed)
    times: dict[str, list[float]] = {name: [] for name in order}
    with uncollected():
        for done in range(samples):
            allowed = seconds if done >= FEWEST_ROUNDS else seconds + PATIENCE
            if done and time.perf_counter() - start > allowed:
                break
            for name in order:
                if name in arms.timed:
                    times[name] += arms.time(name)
            order.reverse()
            ahead(min(1.0, max((done + 1) / samples, (time.perf_counter() - start) / max(seconds, 1e-9))))
    return {name: values for name, values in times.items() if name in arms.timed}


def _timed(model: nn.Module, images: Tensor, mode: str) -> Timed:
    if getattr(model, "channels_first", False):
        images = images.contiguous()

    def answer() -> None:
        model(images)

    if mode == "compiled":
        answer()  # the first call compiles
    if not images.is_cuda:
        return _on_cpu(answer)
    if mode != "graph":
        return _on_cuda(answer, images.device)
    graphs = cuda_graphs(images.device)
    graphs.rehearse(answer)
    return _on_cuda(graphs.record(answer), images.device)


def _on_cpu(forward: Callable[[], None]) -> Timed:
    def timed() -> float:
        start = time.perf_counter_ns()
        forward()
        return (time.perf_counter_ns() - start) / 1e6

    return timed


def _on_cuda(forward: Callable[[], None], device: torch.device) -> Timed:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]

    def timed() -> float:
        torch.cuda.synchronize(device)
        start.record()
        forward()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end))

    return timed
