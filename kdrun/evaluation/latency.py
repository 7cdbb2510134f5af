"""How fast models answer, side by side: the same threads, the same images, taking turns, so that what else
the machine does falls on all of them alike."""

from __future__ import annotations

import copy
import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from kdrun.graphs import CudaGraphs

Timed = Callable[[], float]
"""Answers the batch once and returns the milliseconds it took."""

WARM_UP_ROUNDS = 5
WARM_UP_SHARE = 0.2
"""Of the time allowed, what the warm-up may take at most (but always one round)."""

FEWEST_ROUNDS = 3
"""Measured even where the time is over: one forward of a very large model may take longer than the whole
budget."""

PATIENCE = 10.0
"""Seconds beyond those allowed after which one round must do, and larger batches are left out."""

MODES = ("eager", "graph", "compiled")

MARGIN = 1.1
"""A ratio of medians closer to 1 than this is never called a speed-up."""


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
) -> dict[str, list[dict[str, Any]]]:
    """For each model, one row per mode and batch size, as in report.json's `latency`:
    `{device, mode, threads, batch, p50_ms, p95_ms, images_per_s, n}`.

    image_shape: (C, H, W). A sample is one forward of one batch that already lies on the device; the models
    take turns, in reversed order every second round. For each batch size the rounds end after `samples`, or
    when `seconds` are over for all models together (FEWEST_ROUNDS at least), so `n` says how many there were;
    a batch size that takes far longer (PATIENCE) ends with one round and is the last. Percentiles are by
    nearest rank: with fewer than 20 samples p95 is the slowest one. images_per_s follows from p50.

    Copies are measured, in inference mode, channels last, float32; the models stay as and where they are. On
    a GPU the time is that between two events, the device idle before each sample. modes: eager, graph (a
    replayed CUDA graph, on a GPU only), compiled (torch.compile, whose own time is not counted).
    """
    place = torch.device(device)
    if "graph" in modes and place.type != "cuda":
        raise ValueError("the mode graph needs a cuda device")
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in models}
    with _threads(threads), torch.inference_mode():
        for mode in modes:
            copies = {name: _copy(model, place, mode) for name, model in models.items()}
            how: dict[str, Any] = {"device": device, "mode": mode, "threads": threads}
            for batch in batches:
                images = torch.zeros(batch, *image_shape, device=place)
                images = images.contiguous(memory_format=torch.channels_last)
                arms = {name: _timed(model, images, mode) for name, model in copies.items()}
                start = time.perf_counter()
                for name, times in _take_turns(arms, samples, seconds).items():
                    rows[name].append(how | {"batch": batch} | summary(times, batch))
                if time.perf_counter() - start > seconds + PATIENCE:
                    break
    return rows


def summary(times_ms: Sequence[float], batch: int) -> dict[str, float]:
    """p50_ms, p95_ms (nearest rank), images_per_s at the median, and n."""
    ordered = sorted(times_ms)
    p50, p95 = (ordered[math.ceil(q * len(ordered)) - 1] for q in (0.5, 0.95))
    return {"p50_ms": p50, "p95_ms": p95, "images_per_s": 1000 * batch / p50, "n": len(ordered)}


def speedup(latency: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Teacher's p50 over student's for every device, mode and batch that both were measured at:
    `{device, mode, batch, ratio, significant}`; above 1 the student is faster.

    latency: by role, as `measure` returns it. Significant means further from 1 (in either direction, on a log
    scale) than MARGIN and than twice what student and control differ by: those two are one architecture, so
    whatever tells them apart is noise, and one draw of it says its size only roughly. Without a control the
    student's own p95 / p50 takes that place.
    """
    found = []
    for student in latency.get("student", ()):
        teacher = _at_same(latency.get("teacher", ()), student)
        if teacher is None:
            continue
        ratio = teacher["p50_ms"] / student["p50_ms"]
        noise = max(math.log(MARGIN), _noise(student, _at_same(latency.get("control", ()), student)))
        head = {key: student[key] for key in ("device", "mode", "batch")}
        found.append(head | {"ratio": ratio, "significant": abs(math.log(ratio)) > noise})
    return found


def _noise(student: Mapping[str, Any], control: Mapping[str, Any] | None) -> float:
    """By which log ratio two measurements of one architecture may differ."""
    if control is None:
        return math.log(student["p95_ms"] / student["p50_ms"])
    return 2 * abs(math.log(student["p50_ms"] / control["p50_ms"]))


def _at_same(rows: Sequence[Mapping[str, Any]], other: Mapping[str, Any]) -> Mapping[str, Any] | None:
    keys = ("device", "mode", "threads", "batch")
    return next((row for row in rows if all(row[key] == other[key] for key in keys)), None)


def _copy(model: nn.Module, device: torch.device, mode: str) -> nn.Module:
    duplicate = copy.deepcopy(model).eval().to(device).to(memory_format=torch.channels_last)
    if mode == "compiled":
        duplicate.compile(dynamic=False)
    return duplicate


def _take_turns(arms: Mapping[str, Timed], samples: int, seconds: float) -> dict[str, list[float]]:
    """Times in ms by arm, equally many for each, in rounds of one sample each."""
    start = time.perf_counter()
    for _ in range(WARM_UP_ROUNDS):
        for arm in arms.values():
            arm()
        if time.perf_counter() - start > WARM_UP_SHARE * seconds:
            break
    times: dict[str, list[float]] = {name: [] for name in arms}
    order = list(arms)
    with _no_garbage_collection():
        for done in range(samples):
            allowed = seconds if done >= FEWEST_ROUNDS else seconds + PATIENCE
            if done and time.perf_counter() - start > allowed:
                break
            for name in order:
                times[name].append(arms[name]())
            order.reverse()
    return times


def _timed(model: nn.Module, images: Tensor, mode: str) -> Timed:
    def answer() -> None:
        model(images)

    if mode == "compiled":
        answer()  # compiled here
    if not images.is_cuda:
        return _on_cpu(answer)
    if mode != "graph":
        return _on_cuda(answer)
    graphs = CudaGraphs(images.device)
    graphs.rehearse(answer)
    return _on_cuda(graphs.record(answer))


def _on_cpu(forward: Callable[[], None]) -> Timed:
    def timed() -> float:
        start = time.perf_counter_ns()
        forward()
        return (time.perf_counter_ns() - start) / 1e6

    return timed


def _on_cuda(forward: Callable[[], None]) -> Timed:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]

    def timed() -> float:
        torch.cuda.synchronize()
        start.record()
        forward()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end))

    return timed


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
