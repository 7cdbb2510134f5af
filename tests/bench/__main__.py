"""`python -m tests.bench [PART ...]`: measures, prints tables and targets, writes a JSON file an arm."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tests.bench.arms import Kind, arms, missing
from tests.bench.ratios import Spread
from tests.bench.scene import BATCH, TAIL, Scene, at_random, of_cifar, one_thread
from tests.bench.targets import lines
from tests.scratch import scratch

FEW = 2
"""Batches and a tail: after more steps, rounding alone has grown to 1e-4 whatever the order of sums."""

Part = Callable[[argparse.Namespace, Path], dict[str, Spread]]


def options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", default=["steps"], help=", ".join(PARTS))
    parser.add_argument("--pair", default="resnet56-resnet20", help="teacher-student, of `kdrun list models`")
    parser.add_argument("--rounds", type=int, default=7, help="fewer than 7 name no winner")
    parser.add_argument("--steps", type=int, help="batches of 64 in a round; 8, on a GPU 200")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=0, help="of the rivals' DataLoader")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--data_dir", default="", help="where CIFAR-100 lies; else images are random")
    parser.add_argument("--arms", default="", help="only these, by comma; the textbook is always one")
    parser.add_argument("--seeds", type=int, default=3, help="of parity; for the digits twice as many")
    parser.add_argument("--out", type=Path, default=Path("bench"), help="folder for the JSON files")
    found = parser.parse_args(arguments)
    for part in found.parts:
        if part not in PARTS:
            parser.error(f"no such part: {part} (there are {', '.join(PARTS)})")
    found.steps = found.steps or (200 if found.device.startswith("cuda") else 8)
    return found


def scene(asked: argparse.Namespace, folder: Path, validation: int = 0) -> Scene:
    teacher, _, student = asked.pair.rpartition("-")
    images = asked.steps * BATCH + TAIL
    return Scene(
        teacher=teacher,
        student=student,
        images=images,
        epochs=asked.rounds + 1,
        data=of_cifar(asked.data_dir) if asked.data_dir else at_random(images + validation),
        about="CIFAR-100" if asked.data_dir else "random images of CIFAR-100's shape",
        folder=folder,
        validation=validation,
        device=asked.device,
        threads=asked.threads,
        workers=asked.workers,
    )


def chosen(asked: argparse.Namespace, names: Sequence[str] = ()) -> Mapping[str, Kind]:
    """names: those of a part where the command names none."""
    there = arms(asked.device)
    wanted = ["textbook", *filter(None, asked.arms.split(","))] if asked.arms else list(names or there)
    if "torchdistill" in wanted and missing():
        _say(missing())
        wanted.remove("torchdistill")
    return {name: there[name] for name in dict.fromkeys(wanted)}


def steps(asked: argparse.Namespace, folder: Path) -> dict[str, Spread]:
    from tests.bench.steps import ladder, measure

    whole = scene(asked, folder)
    return ladder(whole, measure(whole, chosen(asked), asked.rounds, f"steps-{asked.pair}", asked.out, _say))


def epoch(asked: argparse.Namespace, folder: Path) -> dict[str, Spread]:
    from tests.bench.steps import measure

    validated = scene(asked, folder, validation=max(100, asked.steps * BATCH // 9 // 100 * 100))
    kinds = chosen(asked, ["textbook", "torchdistill", "live", "table_first", "table_warm"])
    measure(validated, kinds, asked.rounds, f"epoch-{asked.pair}", asked.out, _say)
    return {}


def cold(asked: argparse.Namespace, folder: Path) -> dict[str, Spread]:
    from tests.bench.cold import measure

    few = replace(scene(asked, folder, validation=100), epochs=3)
    measure(few, asked.rounds, asked.out, _say)
    return {}


def start(asked: argparse.Namespace, folder: Path) -> dict[str, Spread]:
    from tests.bench.start import measure
    from tests.bench.tiny import scene as tiny_scene

    return measure(tiny_scene("conv", 1, asked.device, folder), asked.rounds, asked.out, _say)


def tiny(asked: argparse.Namespace, folder: Path) -> dict[str, Spread]:
    from tests.bench.tiny import measure

    return measure(asked.rounds, asked.device, folder, asked.out, _say)


def growth(asked: argparse.Namespace, folder: Path) -> dict[str, Spread]:
    from tests.bench.growth import measure

    return measure(3, asked.device, asked.threads, folder, asked.out, _say)


def parity(asked: argparse.Namespace, folder: Path) -> dict[str, Spread]:
    from tests.bench.parity import cifar, digits, measure

    measure(digits(folder), 2 * asked.seeds, asked.out, _say)
    if asked.data_dir:
        measure(cifar(asked.data_dir, folder), asked.seeds, asked.out, _say)
    return {}


def allocator(asked: argparse.Namespace, folder: Path) -> dict[str, Spread]:
    from tests.bench.allocator import measure

    measure(scene(asked, folder), asked.rounds, asked.out, _say)
    return {}


def same(asked: argparse.Namespace, folder: Path) -> dict[str, Spread]:
    from tests.bench.same import measure

    few = argparse.Namespace(**{**vars(asked), "steps": FEW})
    measure(scene(few, folder), asked.out, _say)
    return {}


PARTS: Mapping[str, Part] = {
    "same": same,
    "steps": steps,
    "epoch": epoch,
    "cold": cold,
    "start": start,
    "allocator": allocator,
    "tiny": tiny,
    "growth": growth,
    "parity": parity,
}


def _say(text: str) -> None:
    print(text, flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    asked, figures = options(arguments), dict[str, Spread]()
    one_thread()
    for part in asked.parts:
        with scratch("kdrun-bench") as folder:
            figures |= PARTS[part](asked, folder)
    for line in lines(figures):
        _say(line)


if __name__ == "__main__":
    main()
