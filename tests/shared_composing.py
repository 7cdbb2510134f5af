"""What Hydra composes is shared among the tests of a process: each choice of files is composed once."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import pytest
from hydra.errors import HydraException

from kdrun.config import compose as module
from kdrun.config.compose import Composed, Composer
from kdrun.config.plugins import SearchModels
from kdrun.config.sweep import _parsed

Compose = Callable[[Sequence[str]], Composed]
KEPT = 40
"""So many choices of files are kept."""


class Shared:
    """Composes by the way that the jobs of a sweep take: values of keys are written into a copy.

    whole: Hydra's own way. It is taken if files of a user are read, and for what the other way cannot do.
    """

    def __init__(self, whole: Compose) -> None:
        self.whole, self.composer = whole, Composer()
        self.kept = lru_cache(KEPT)(whole)

    def __call__(self, overrides: Sequence[str]) -> Composed:
        if SearchModels.own is not None or any("hydra" in override for override in overrides):
            return self.whole(overrides)
        values = typed_values(overrides)
        if values is None:
            return self.whole(overrides)
        if values:
            if len(self.composer.bases) > KEPT:
                self.composer.bases.clear()
            common = tuple(each for each in overrides if each.partition("=")[0] not in values)
            return self.composer._written(common, values) or self.whole(overrides)
        config, choices = self.kept(tuple(overrides))
        return copy.deepcopy(config), choices


def typed_values(overrides: Sequence[str]) -> dict[str, Any] | None:
    """The values of plain keys, without those that choose files; None if an override cannot be read."""
    values: dict[str, Any] = {}
    for override in overrides:
        key, equals, _ = override.partition("=")
        if not equals or set("+~@/") & set(key) or key in module.CHOSEN:
            continue
        try:
            parsed = _parsed(override)
        except HydraException:
            return None
        if parsed.is_sweep_override():
            return None
        values[key] = parsed.value()
    return values


@contextmanager
def sharing() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_compose", Shared(module._compose))
        yield


@contextmanager
def not_sharing() -> Iterator[None]:
    """Hydra composes each run, for tests of how it does."""
    shared = module._compose
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_compose", shared.whole if isinstance(shared, Shared) else shared)
        yield
