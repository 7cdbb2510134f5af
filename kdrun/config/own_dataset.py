"""A data set of a teacher's own, as it is written: a name, or keys over a data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from omegaconf import OmegaConf

from kdrun.config.choices import DATASET_HINTS, DATASET_OPTIONS
from kdrun.errors import KdrunError

Node = Callable[[str], Mapping[str, Any]]


def own_dataset(key: str, written: Any, ours: Mapping[str, Any], named: Node) -> dict[str, Any] | None:
    """The whole data set of what is written at `key`; None of None. Raises KdrunError.

    A mapping without a name changes keys of `ours`, the run's data set. named: reads a data set's file.
    """
    if written is None:
        return None
    if not written or not isinstance(written, (str, Mapping)):
        problem = "the name of a data set is needed, or a mapping: {name: mnist, views: {...}, ...}"
        raise KdrunError(key, f"{written}", problem, more="kdrun list datasets")
    own = {"name": written} if isinstance(written, str) else {str(k): value for k, value in written.items()}
    base = _file(key, str(own.pop("name")), named) if "name" in own else dict(ours)
    base = {k: value for k, value in base.items() if k not in DATASET_HINTS}
    for name, value in own.items():
        if name in DATASET_OPTIONS:
            raise KdrunError(f"{key}.{name}", f"{value}", "is for students; a teacher learns from labels")
        if name not in base:
            raise KdrunError(f"{key}.{name}={value}", None, "no such key", [k for k in base if k != "name"])
    whole: dict[str, Any] = OmegaConf.to_container(OmegaConf.merge(base, own))  # type: ignore[assignment]
    return whole | dict.fromkeys(DATASET_OPTIONS)


def _file(key: str, name: str, named: Node) -> Mapping[str, Any]:
    try:
        return named(name)
    except KdrunError as error:  # which names the key of images without labels
        raise KdrunError(key, *error.args[1:]) from None
