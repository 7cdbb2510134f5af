"""`python -m tests.bench.reading`: JPEGs read while they are needed, by kdrun's processes or a `DataLoader`.

Both give the same bits of the same epochs, in pairs, in turn. Needs Linux (/proc says what processes cost).
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from kdrun.config.files import shipped
from kdrun.data import select
from kdrun.data.images import ImageSet
from kdrun.data.lazy import Reading, Unread
from kdrun.data.load import load
from kdrun.data.resident import Normal
from kdrun.data.streamed import Streamed
from kdrun.data.views import make_views
from kdrun.types import Rows
from tests.bench.ratios import ratios, spread, verdict
from tests.scratch import scratch

BATCH = 32


class Files(Dataset[Any]):
    def __init__(self, images: Unread) -> None:
        self.read, self.items = images.one, images.items

    def __getitem__(self, row: int) -> Any:
        return self.read(self.items[row])


def stacked(pixels: Sequence[Any]) -> Tensor:
    return torch.from_numpy(np.stack(pixels))


class ByDataLoader:
    """The textbook's way: an epoch's batches as `batch_sampler`, processes that stay."""

    def __init__(self, ours: Streamed) -> None:
        self.ours, self.plan = ours, list[list[int]]()
        images, workers = ours.images, ours.images.reading.workers
        more: dict[str, Any] = (
            {"multiprocessing_context": "spawn", "persistent_workers": True} if workers else {}
        )
        self.loader: DataLoader[Any] = DataLoader(
            Files(images), batch_sampler=self.plan, num_workers=workers, collate_fn=stacked, **more
        )

    def epoch(self, parts: Sequence[Rows]) -> Iterator[Tensor]:
        self.plan[:] = [rows.index.tolist() for rows in parts]
        for pixels, rows in zip(self.loader, parts, strict=True):
            yield self.ours._seen(pixels, rows.view)


def pictures(folder: Path, count: int = 600) -> Path:
    """JPEGs of about 256x256, smooth with some noise."""
    draw = np.random.RandomState(0)
    for n in range(count):
        coarse = Image.fromarray(draw.randint(0, 256, (16, 16, 3)).astype(np.uint8))
        smooth = np.asarray(coarse.resize((256 + n % 80, 256 + n % 20), Image.Resampling.BICUBIC), np.int64)
        noisy = (smooth + draw.randint(-12, 13, smooth.shape)).clip(0, 255).astype(np.uint8)
        path = folder / f"class{n % 10}" / f"{n:04}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noisy).save(path, quality=90)
    return folder


def loaded(folder: Path, workers: int) -> ImageSet:
    import yaml

    node = yaml.safe_load((shipped() / "dataset" / "imagefolder.yaml").read_text())
    node |= {"path": str(folder), "size": 224, "resize_to": 256, "cache": False, "validation": 0, "test": 20}
    select.free_memory = lambda: 20_000  # too little, so that images are read while they are needed
    return load(node, folder, Reading(workers))


def processes(above: int) -> set[int]:
    """This process's children, and theirs."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and _stat(int(entry.name))[1:2] == [str(above)]:
            found |= {int(entry.name)} | processes(int(entry.name))
    return found


def spent(children: set[int]) -> float:
    """Seconds of processor time: of this process and of some children."""
    ticks = sum(int(value) for child in children for value in _stat(child)[11:13])
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def _stat(process: int) -> list[str]:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def measure(folder: Path, workers: int, pairs: int, images: int) -> None:
    data = loaded(folder, workers)
    views = make_views({"name": "crop_flip", "padding": 4, "flip": True}, data.image_shape)
    assert isinstance(data.train.images, Unread)
    with closing(Streamed(data.train.images, views, Normal(data.mean, data.std, data.white, "cpu"))) as ours:
        arms = {"kdrun": ours.in_turn, "DataLoader": ByDataLoader(ours).epoch}
        children: dict[str, set[int]] = {}
        costs: dict[str, list[tuple[float, float]]] = {name: [] for name in arms}
        for number in range(pairs + 1):
            draw = torch.Generator().manual_seed(number)
            index = torch.randperm(len(data.train.labels), generator=draw)[:images]
            parts = [Rows(rows, views.draw(draw, len(rows))) for rows in index.split(BATCH)]
            sums = {}
            for name in list(arms)[:: 1 if number % 2 else -1]:
                before, began = spent(children.get(name, set())), time.monotonic()
                there = processes(os.getpid())
                batches = arms[name](parts)
                sums[name] = float(next(batches).double().sum())
                first = time.monotonic() - began
                sums[name] += sum(float(batch.double().sum()) for batch in batches)
                if not number:  # the processes start
                    children[name] = processes(os.getpid()) - there
                    cost = spent(children[name]) - before
                    print(f"{name}: first batch after {first:.1f} s, first epoch {cost:.1f} s of processor")
                else:
                    costs[name].append((spent(children[name]) - before, time.monotonic() - began))
            assert len(set(sums.values())) == 1, "both give the same images"
    for position, clock in enumerate(("processor time", "time by the clock")):
        base, other = ([cost[position] for cost in costs[name]] for name in ("DataLoader", "kdrun"))
        rates = [f"{spread([images / cost for cost in each])} images/s" for each in (other, base)]
        factor = f"{ratios(base, other)} times as fast ({verdict(base, other)})"
        print(f"{workers} processes, {clock}: {factor}, {rates}")
    print(f"load {os.getloadavg()[0]:.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.reading", description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--images", type=int, default=256, help="of an epoch")
    parser.add_argument("--pictures", type=Path, help="a folder of class folders; else they are made")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with scratch("kdrun-reading") as folder:
        measure(asked.pictures or pictures(folder), asked.workers, asked.pairs, asked.images)


if __name__ == "__main__":
    main()
