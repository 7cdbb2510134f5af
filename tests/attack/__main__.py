"""`python -m tests.attack --minutes 30`: attacks until the time is over, and prints what went wrong."""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.attack.files import Store
from tests.attack.kills import Kills
from tests.attack.values import attack

KILLS, FILES = 25, 4
"""Every so many-th attack is one by kills, or one on files; the others are values."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.attack", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    until, counts, number = time.monotonic() + 60 * asked.minutes, Counter[str](), 0
    with tempfile.TemporaryDirectory() as folder:
        store, kills, grounds = Store(Path(folder) / "files"), Kills(Path(folder) / "kills"), {}
        while time.monotonic() < until:
            draw = random.Random(f"{asked.seed} {number}")
            number += 1
            if number % KILLS == 0:
                what, ends, left = kills.attacked(draw)
                faults = left + [fault for end in ends for fault in end.faults()]
                counts["killed commands"] += 1
            elif number % FILES:
                end = attack(draw, grounds)
                faults, what = end.faults(), " ".join(end.words)
                counts["values"] += 1
            else:
                what, ends, left = store.attacked(draw)
                faults = left + [f"{end.words[0]}: {fault}" for end in ends for fault in end.faults()]
                counts["files"] += 1
            for fault in faults:
                counts["faults"] += 1
                print(f"{asked.seed} {number - 1}  {what[:200]!r}\n    {fault[:300]}", flush=True)
    print("  ".join(f"{name} {count}" for name, count in counts.items()))
    return 1 if counts["faults"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
