"""What all parts share: where and how large, what was measured, and the time that is left.

Each row is a line of `gpu.jsonl` as soon as it is there, so that a kill loses only the row that was at work.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import torch

from kdrun.machine import Machine
from tests.gpu.page import markdown
from tests.gpu.product import HOME, TINY, Product, Scale
from tests.recorded import Recorded
from tests.scratch import scratch

Row = dict[str, Any]
Work = tuple[str, float, Callable[[], Mapping[str, Any]]]
"""A row to be: its name, the seconds that it takes at most, and what gives its values."""


class Bench:
    """Runs parts and writes their rows. failed: what is not as it must be.

    minutes: of all parts together. Nothing is begun that would not end in this time. losses: names of those
    that are asked for; none: all.
    """

    def __init__(
        self, out: Path, device: str, tiny: bool = False, minutes: float = 8.5, losses: Iterable[str] = ()
    ) -> None:
        self.out, self.device, self.tiny = out, torch.device(device), tiny
        self.scale: Scale = TINY if tiny else Scale()
        self.losses = list(losses)
        self.closing = ExitStack()
        self.folder = self.closing.enter_context(scratch("kdrun-gpu"))
        self.product = Product(self.scale, self.folder, device)
        self.rows: dict[str, list[Row]] = {}
        self.failed: list[str] = []
        self.began = time.monotonic()
        self.until = self.began + 60 * minutes
        out.mkdir(parents=True, exist_ok=True)
        (out / "gpu.jsonl").write_text("", encoding="utf-8")
        self._line({"part": "environment"} | self.environment())
        self.graphs = Machine.graphs
        if not self.cuda:  # what stands for a graph in the tests
            Machine.graphs = lambda self, wanted: Recorded() if wanted == "auto" else None  # type: ignore

    def close(self) -> None:
        Machine.graphs = self.graphs  # type: ignore[method-assign]
        self.closing.close()

    @property
    def cuda(self) -> bool:
        return self.device.type == "cuda"

    @property
    def precisions(self) -> tuple[str, ...]:
        return ("bf16", "tf32", "fp32") if self.cuda else ("fp32",)

    @property
    def best(self) -> str:
        return self.precisions[0]

    def left(self) -> float:
        """Seconds until the end."""
        return self.until - time.monotonic()

    def do(self, part: str, works: Callable[[Bench], Iterable[Work]]) -> None:
        """Does the works of a part that there is time for, each with its own row."""
        self.say(f"\n== {part}   {time.monotonic() - self.began:.0f} s gone")
        try:
            for name, seconds, act in works(self):
                self._row(part, name, 0.0 if self.tiny else seconds, act)
        except Exception as error:  # the other parts are worth having all the same
            self._failed(part, "", error)
        self.write()

    def _row(self, part: str, name: str, seconds: float, act: Callable[[], Mapping[str, Any]]) -> None:
        start = time.monotonic()
        if self.left() < seconds:
            self._keep(part, {"name": name, "said": f"left out: {self.left():.0f} s are left"})
            return
        try:
            values = act()
        except Exception as error:
            self._failed(part, name, error)
            return
        self._keep(part, {"name": name, **values, "took_s": round(time.monotonic() - start, 2)})

    def _failed(self, part: str, name: str, error: Exception) -> None:
        self.fail(f"{part} {name}: {type(error).__name__}: {error}")
        self._keep(part, {"name": name, "said": str(error)[:500], "error": traceback.format_exc()[-4000:]})

    def _keep(self, part: str, row: Row) -> None:
        self.rows.setdefault(part, []).append(row)
        self._line({"part": part} | row)
        shown = ((key, value) for key, value in row.items() if key not in ("error", "output", "rounds_ms"))
        texts = (
            f"{key}={value:.5g}" if isinstance(value, float) else f"{key}={value}" for key, value in shown
        )
        self.say("   " + "  ".join(texts)[:300])

    def _line(self, row: Mapping[str, Any]) -> None:
        with (self.out / "gpu.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, default=str) + "\n")

    def write(self) -> None:
        """The page of all rows so far."""
        (self.out / "gpu.md").write_text(page(self.out), encoding="utf-8")

    def say(self, text: object) -> None:
        print(text, flush=True)

    def fail(self, what: str) -> None:
        """Notes that something is not as it must be."""
        self.say(f"   FAILED {what}")
        self.failed.append(what.partition("\n")[0])
        self._line({"part": "failed", "what": what[:500]})

    def called(self, command: list[str], **more: str) -> subprocess.CompletedProcess[str]:
        """A command at the root of the project, with more in its environment."""
        limit = max(self.left(), 20.0)
        return subprocess.run(
            command, cwd=HOME, capture_output=True, text=True, timeout=limit, check=False,
            env={**os.environ, **more},
        )  # fmt: skip

    def environment(self) -> dict[str, Any]:
        name = torch.cuda.get_device_name(self.device) if self.cuda else platform.machine()
        return {
            "device": name,
            "torch": str(torch.__version__),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
            "python": platform.python_version(),
            **self.scale._asdict(),
        }


def page(out: Path) -> str:
    """The page of what a folder's `gpu.jsonl` has, also of a call that was killed."""
    environment: Row = {}
    failed: list[str] = []
    results: dict[str, list[Row]] = {}
    for line in (out / "gpu.jsonl").read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue  # it was killed while it wrote this line
        part = row.pop("part")
        if part == "environment":
            environment = row
        elif part == "failed":
            failed.append(row["what"])
        else:
            results.setdefault(part, []).append(row)
    return markdown({"environment": environment, "failed": failed, "results": results})


def work(name: str, seconds: float, act: Callable[..., Mapping[str, Any]], *given: Any, **more: Any) -> Work:
    """A row to be."""
    return name, seconds, partial(act, *given, **more)
