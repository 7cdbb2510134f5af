"""A table of a teacher's answers that rank 0 keeps for all ranks: the others need no disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from kdrun.ranks import Ranks
from kdrun.training.table import Answers, Table


class SharedTable:
    """Like `Table`. Every rank makes the same calls. open_table: called on rank 0."""

    def __init__(
        self,
        ranks: Ranks,
        open_table: Callable[[], Table],
        codes: int,
        widths: Mapping[str, int],
        numbers: str,
    ) -> None:
        self.ranks, self.codes, self.widths, self.numbers = ranks, codes, dict(widths), numbers
        self.table = open_table() if ranks.leads else None

    def __len__(self) -> int:
        return self.codes

    def has(self, codes: NDArray[np.int64]) -> NDArray[np.bool_]:
        """As `Table.has`."""
        there: NDArray[np.bool_] = self._shared(lambda table: {"": table.has(codes)})[""]
        return there

    def read(self, codes: NDArray[np.int64]) -> Answers:
        """As `Table.read`."""
        return self._shared(lambda table: table.read(codes))

    def some(self, most: int, seed: int) -> NDArray[np.int64]:
        """As `Table.some`."""
        codes: NDArray[np.int64] = self._shared(lambda table: {"": table.some(most, seed)})[""]
        return codes

    def stored(self) -> NDArray[np.int64]:
        """As `Table.stored`."""
        codes: NDArray[np.int64] = self._shared(lambda table: {"": table.stored()})[""]
        return codes

    def write(self, codes: NDArray[np.int64], answers: Answers) -> None:
        """As `Table.write`, on rank 0."""
        if self.table is not None:
            self.table.write(codes, answers)

    def close(self) -> None:
        """As `Table.close`, on rank 0."""
        if self.table is not None:
            self.table.close()

    def _shared(self, read: Callable[[Table], Answers]) -> Answers:
        """What rank 0 reads."""

        def here() -> dict[str, torch.Tensor]:
            assert self.table is not None
            return {name: torch.from_numpy(rows) for name, rows in read(self.table).items()}

        return {name: rows.numpy() for name, rows in self.ranks.shared(here).items()}
