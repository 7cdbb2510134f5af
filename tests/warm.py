"""What the processes have in common that tests fork from a server: it imports this module once.

Everything is imported, and common choices of files are composed. Nothing was computed with torch, which must
not be forked.
"""

from __future__ import annotations

import contextlib
from importlib import import_module

from kdrun.config import compose as module
from kdrun.config.arguments import Typed
from tests.shared_composing import Shared

IMPORTED = (
    *("kdrun.cli", "kdrun.stages.pipeline", "kdrun.stages.make"),
    *("matplotlib.backends.backend_agg", "torch.utils.flop_counter"),
)
for name in IMPORTED:
    import_module(name)
with contextlib.suppress(ImportError):
    import_module("optuna")

module._compose = Shared(module._compose)
for choices in ((), ("method=ft",), ("method=dml",)):
    module.single(Typed((*choices, "seed=0")))
