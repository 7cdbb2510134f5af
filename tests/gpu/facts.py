"""Facts about the machine and its libraries on which the design rests."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from kdrun.machine import Machine
from kdrun.stages.saved import saved
from kdrun.stages.teacher import live_teacher
from kdrun.types import Batch, Rows
from tests.gpu.bench import Bench, Work, work
from tests.gpu.product import Arm
from tests.gpu.timing import timed

ASKED = 32
"""Rows that are asked again in other batches, as a table is checked."""


def facts(bench: Bench) -> Iterator[Work]:
    """Machine, ceilings, the backend of batch norm, folding, and bits of a row in batches of other sizes."""
    yield work("machine", 2, machine, bench)
    yield work("ceilings", 5, ceilings, bench)
    yield work("batch norm", 1, batch_norm, bench)
    for precision in bench.precisions:
        yield work(f"folding in {precision}", 5, folds, bench, precision)
        yield work(f"rows in {precision}", 10, rows, bench, precision)


def machine(bench: Bench) -> dict[str, Any]:
    if not bench.cuda:
        return {"cpu": platform.processor()}
    asked = "name,driver_version,clocks.sm,clocks.max.sm,power.limit,memory.total"
    command = ["nvidia-smi", f"--query-gpu={asked}", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    return {"nvidia_smi": done.stdout.strip(), "gpus": torch.cuda.device_count()}


def ceilings(bench: Bench) -> dict[str, Any]:
    """Bytes that are copied in a second, and products in bf16."""
    size = 2**28 if bench.cuda else 2**16
    one = torch.zeros(size, dtype=torch.uint8, device=bench.device)
    other = torch.empty_like(one)
    timed(bench, lambda: other.copy_(one))
    copied = 20 * 2 * size / timed(bench, lambda: other.copy_(one), 20)
    n = 8192 if bench.cuda else 64
    square = torch.ones(n, n, dtype=torch.bfloat16, device=bench.device)
    timed(bench, lambda: square @ square)
    products = 20 * 2 * n**3 / timed(bench, lambda: square @ square, 20)
    return {"copy_tb_s": copied / 1e12, "bf16_tflops": products / 1e12}


def batch_norm(bench: Bench) -> dict[str, Any]:
    """Which library computes it in training, by type."""
    chosen = {}
    choose = getattr(torch._C, "_select_batch_norm_backend", None)
    if choose is None:
        return {"said": "torch does not say"}
    for dtype in (torch.float32, torch.bfloat16):
        images = torch.zeros(8, 16, 8, 8, dtype=dtype, device=bench.device)
        norm = nn.BatchNorm2d(16).to(bench.device)
        given = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
        chosen[str(dtype)] = str(
            choose(images.contiguous(memory_format=torch.channels_last), *given, True, 1e-5)
        )
    return chosen


def folds(bench: Bench, precision: str) -> dict[str, Any]:
    """How many norms stay when a teacher is folded on the device."""
    said: list[str] = []
    plan = bench.product.plan(Arm("folding", precision))
    weights = saved(plan.teacher)
    assert weights is not None
    with plan.ground.machine.numerics():
        live = live_teacher(weights, frozenset({"logits"}), said.append)
        norms = sum(isinstance(module, nn.BatchNorm2d) for module in live.network.modules())
    if norms or said:
        bench.fail(f"folding in {precision}: {norms} norms stay {said}")
    return {"norms_left": norms, "said": " ".join(said)}


def rows(bench: Bench, precision: str) -> dict[str, Any]:
    """How far answers to the same rows are apart, relative to the largest: asked alone, among a full forward,
    and alone but repeated to a full forward.
    """
    plan = bench.product.plan(Arm("rows", precision))
    place: Machine = plan.ground.machine
    weights = saved(plan.teacher)
    assert weights is not None
    full, asked = (1024, ASKED) if bench.cuda else (40, 8)
    draw = torch.Generator().manual_seed(0)
    images = torch.randn(full, *plan.ground.data.image_shape, generator=draw)
    images = images.to(bench.device).contiguous(memory_format=torch.channels_last)
    where = torch.arange(full, device=bench.device)
    batch = Batch(images, where, Rows(where, where))
    few = Batch(images[:asked], where[:asked], Rows(where[:asked], where[:asked]))
    with place.numerics():
        live = live_teacher(weights, frozenset({"logits"}), lambda line: None)
        among = live(batch).logits[:asked].float()
        alone, padded = live(few).logits.float(), live.padded(few, full).logits.float()
    largest = among.abs().max()
    gap = {
        name: float((own - among).abs().max() / largest)
        for name, own in (("alone", alone), ("padded", padded))
    }
    if gap["padded"]:
        bench.fail(f"rows in {precision}: bits of a row depend on those beside it ({gap['padded']:.2g})")
    return {"gap_alone": gap["alone"], "gap_padded": gap["padded"], "logits": str(live(few).logits.dtype)}
