"""All arms by name: what each is, and how it is made. (Made late: the toolkits are not all there.)"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any, NamedTuple

from kdrun.errors import KdrunError
from kdrun.machine import machine
from tests.bench.arm import Arm
from tests.bench.scene import Scene


class Kind(NamedTuple):
    """note: what the arm is. made: the class in `rivals` or `ours`, and its arguments beside the scene.

    kept: whether its process keeps memory (`machine.keep_memory`). runs: trainings that it does at once.
    """

    note: str
    made: tuple[str, dict[str, Any]]
    kept: bool = False
    runs: int = 1

    def make(self, scene: Scene) -> Arm:
        """The arm itself, which may be made once in a process."""
        place, arguments = self.made
        module, _, name = place.partition(".")
        arm: Arm = getattr(importlib.import_module(f"tests.bench.{module}"), name)(scene, **arguments)
        return arm


def rung(name: str, **steps: bool) -> tuple[str, dict[str, Any]]:
    return "ours.Rung", {"name": name, **steps}


def whole(name: str, *overrides: str, filled: bool = False) -> tuple[str, dict[str, Any]]:
    return "ours.Whole", {"name": name, "runs": [list(overrides)], "filled": filled}


LIVE, FP32, BF16, EAGER = "runtime.table=off", "precision=fp32", "precision=bf16", "runtime.graph=off"
AS_IT_IS = "kdrun as it is"

RIVALS = {
    "textbook": Kind(
        "PIL transforms, DataLoader, live teacher, .item() in each step, torch.optim", ("rivals.Textbook", {})
    ),
    "torchdistill": Kind("torchdistill's box, loss, loaders and meters", ("rivals.Torchdistill", {})),
}

LADDER = {
    "resident": Kind("images stay in memory, cropped and normalised in batches", rung("resident")),
    "channels_last": Kind("and channels last", rung("channels_last", channels_last=True)),
    "folded": Kind("and the teacher's batch norms folded", rung("folded", channels_last=True, folds=True)),
    "fused": Kind("and the fused optimiser", rung("fused", channels_last=True, folds=True, fused=True)),
}

CPU = {
    "live": Kind("kdrun, fp32, teacher live: all of these, memory kept", whole("live", FP32, LIVE), True),
    "table_first": Kind(f"{AS_IT_IS}, none of an epoch's answers known", whole("first", FP32), True),
    "table_warm": Kind(f"{AS_IT_IS}, all answers known", whole("warm", FP32, filled=True), True),
}

CPU_BF16 = {
    "bf16": Kind("kdrun, bf16, teacher live", whole("bf16", BF16, LIVE), True),
    "bf16_warm": Kind("kdrun, bf16, all answers known", whole("bf16_warm", BF16, filled=True), True),
}

CUDA = {
    "live": Kind("kdrun, fp32, teacher live, eager", whole("live", FP32, LIVE, EAGER)),
    "live_graph": Kind("kdrun, fp32, teacher live, as a graph", whole("live_graph", FP32, LIVE)),
    "bf16": Kind("kdrun, bf16, teacher live, eager", whole("bf16", BF16, LIVE, EAGER)),
    "bf16_graph": Kind("kdrun, bf16, teacher live, as a graph", whole("bf16_graph", BF16, LIVE)),
    "fp32_warm": Kind("kdrun, fp32, all answers known", whole("fp32_warm", FP32, filled=True)),
    "table_first": Kind(f"{AS_IT_IS}, none of an epoch's answers known", whole("first")),
    "table_warm": Kind(f"{AS_IT_IS}, all answers known", whole("warm", filled=True)),
}


def missing() -> str:
    """Why torchdistill cannot take part, or nothing."""
    if importlib.util.find_spec("torchdistill"):
        return ""
    return "torchdistill is not installed (a folder with it may be named in PYTHONPATH): that arm is left out"


def arms(device: str) -> dict[str, Kind]:
    """Those of a device, in the order of the ladder."""
    own = CUDA if device.startswith("cuda") else CPU | (CPU_BF16 if _cpu_has_bf16() else {})
    return RIVALS | LADDER | own


def _cpu_has_bf16() -> bool:
    try:
        machine("cpu", "bf16", 1)
    except KdrunError:
        return False
    return True
