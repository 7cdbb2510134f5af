"""What is kept of a benchmark: one JSON file for each arm, with where and how it was measured."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
"""Of a processor, those that change what is measured."""


def conditions(device: str, threads: int) -> dict[str, Any]:
    """The machine, the versions, and how busy it is now."""
    from kdrun.machine import environment, machine
    from kdrun.resources import cores

    info = Path("/proc/cpuinfo")
    words = set(info.read_text().split()) if info.exists() else set()
    return {
        "measured": datetime.date.today().isoformat(),
        **environment(machine(device, "auto", threads), threads),
        "cores": cores(),
        "cpu_flags": [flag for flag in FLAGS if flag in words],
        "load_before": os.getloadavg()[0],
    }


def write(folder: Path, part: str, arm: str, content: Mapping[str, Any]) -> None:
    """`PART-ARM.json`; an older one is overwritten."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"part": part, "arm": arm, **content}, indent=1, default=str)
    (folder / f"{part}-{arm}.json").write_text(text + "\n", encoding="utf-8")
