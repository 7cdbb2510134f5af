"""Fills a table until it is killed. Started as a program by test_table.py: `... FOLDER CODES [BOMB]`.

Bombs: `numbers`: in the middle of the third write of numbers. `between`: with numbers on the disk and no
codes yet. `codes`: in the middle of writing codes. Without one it goes on until it is full.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdrun.training import table as tables
from kdrun.training.table import Answers, AnswerTable

WIDTH, ROWS = 5, 7
"""Of a row of logits; of one write."""


def answers(codes: NDArray[np.int64]) -> Answers:
    """Numbers that tell which code they belong to."""
    whole: NDArray[np.float32] = (codes[:, None] * 10 + np.arange(WIDTH)).astype(np.float32)
    return {"logits": whole, "embedding": whole[:, :2] + 0.5}


def opened(folder: Path, codes: int) -> AnswerTable:
    return AnswerTable(folder, codes, {"logits": WIDTH, "embedding": 2}, "key")


def arm(bomb: str) -> None:
    """Lays the bomb: writes to the disk are counted, and one of them is the last."""
    append, sizes = tables._append, {"numbers": (ROWS, WIDTH), "codes": (ROWS,)}
    left = 3

    def dying(file: int, array: NDArray[Any]) -> None:
        nonlocal left
        whole = bomb == "between" and array.ndim == 1
        left -= whole or array.shape == sizes.get(bomb)
        if not left:
            if not whole:
                os.write(file, array.tobytes()[: array.nbytes // 2 + 3])
            os.kill(os.getpid(), signal.SIGKILL)
        append(file, array)

    tables._append = dying


def fill(folder: Path, codes: int) -> None:
    order = np.random.default_rng(0).permutation(codes)
    table = opened(folder, codes)
    for first in range(0, codes, ROWS):
        part = order[first : first + ROWS]
        table.write(part, answers(part))
    table.close()


if __name__ == "__main__":
    tables.SECONDS = 0.0
    if len(sys.argv) > 3:
        arm(sys.argv[3])
    fill(Path(sys.argv[1]), int(sys.argv[2]))
