"""What all parts share: where and how large, what was found, and the time that is left."""

from __future__ import annotations

import json
import platform
import subprocess
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from kdrun.graphs import CudaGraphs, Graphs
from tests.gpu.page import markdown
from tests.recorded import Recorded

HOME = Path(__file__).resolve().parents[2]


class Scale(NamedTuple):
    """How large all is. images: of the training part; seen: of a validation part. steps: of a round, after
    `warm` others, so many rounds. checked: steps after which two ways are compared.
    """

    teacher: str = "resnet32x4"
    student: str = "resnet8x4"
    images: int = 50_000
    seen: int = 10_000
    size: int = 32
    classes: int = 100
    batch: int = 64
    warm: int = 20
    steps: int = 200
    rounds: int = 3
    checked: int = 50


TINY = Scale("resnet14", "resnet8", 44, 40, 16, 10, 8, 2, 3, 1, 4)


class Bench:
    """Runs parts and writes what they find. failed: what is not as it must be.

    seconds: after which a part begins nothing new. losses: the names of those that are asked for; none: all.
    """

    def __init__(
        self, out: Path, device: str, tiny: bool = False, minutes: float = 9.0, losses: Sequence[str] = ()
    ) -> None:
        self.out, self.device, self.tiny = out, torch.device(device), tiny
        self.scale = TINY if tiny else Scale()
        self.seconds, self.losses = 60.0 * minutes, losses
        self.folder = Path(tempfile.mkdtemp(prefix="kdrun-gpu-"))
        self.results: dict[str, Any] = {}
        self.failed: list[str] = []
        self.began = time.monotonic()

    @property
    def cuda(self) -> bool:
        return self.device.type == "cuda"

    @property
    def left(self) -> bool:
        """Whether this part may begin another piece of work."""
        return time.monotonic() - self.began < self.seconds

    def graphs(self) -> Graphs:
        """CUDA's, or on a processor what stands for them in the tests."""
        return CudaGraphs(self.device) if self.cuda else Recorded()

    def do(self, name: str, part: Callable[[Bench], list[dict[str, Any]]]) -> None:
        """Runs a part, and writes all that there is so far."""
        self.say(f"\n== {name}")
        self.began = time.monotonic()
        try:
            self.results[name] = part(self)
        except Exception as error:  # the other parts are worth having all the same
            self.say(traceback.format_exc())
            self.results[name] = [{"said": str(error), "error": traceback.format_exc()}]
            self.fail(f"{name}: {type(error).__name__}: {error}")
        self.say(f"   {time.monotonic() - self.began:.0f} s")
        self.out.mkdir(parents=True, exist_ok=True)
        content = {"environment": self.environment(), "failed": self.failed, "results": self.results}
        (self.out / "gpu.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        (self.out / "gpu.md").write_text(markdown(content), encoding="utf-8")

    def say(self, text: object) -> None:
        print(text, flush=True)

    def fail(self, what: str) -> None:
        """Notes that something is not as it must be."""
        self.say(f"   FAILED {what}")
        self.failed.append(what.partition("\n")[0])

    def called(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """A command at the root of the project."""
        limit = max(self.seconds, 60.0)
        return subprocess.run(command, cwd=HOME, capture_output=True, text=True, timeout=limit, check=False)

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
