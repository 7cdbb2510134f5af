"""Data sets as they are written: that of the run, images without labels, a teacher's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import OmegaConf

from kdrun.config.choices import DATASET_HINTS, DATASET_OPTIONS
from kdrun.config.files import Read
from kdrun.config.overrides import TEXTS
from kdrun.errors import KdrunError
from kdrun.paths import expanded, no_folder


def whole_datasets(plain: dict[str, Any], named: Read) -> None:
    """Puts in place of what a plain configuration says of data sets the whole data sets. Raises KdrunError.

    named: reads a data set's file. The teachers are described before.
    """
    dataset = plain["dataset"]
    for hint in DATASET_HINTS:
        dataset.pop(hint, None)
    dataset |= _as_text(dataset) | _unlabelled(dataset.get("unlabelled"), named)
    several = {f"teachers.{name}": each for name, each in plain["teachers"].items()}
    for key, teacher in (several or {"teacher": plain["teacher"]}).items():
        teacher["dataset"] = _own(f"{key}.dataset", teacher.get("dataset"), dataset, named)


def _as_text(dataset: Mapping[str, Any]) -> dict[str, str]:
    """The name and the paths of a data set that YAML reads as numbers, such as a folder called 2024."""
    numbers = {key: value for key, value in dataset.items() if type(value) in (int, float)}
    return {key: str(value) for key, value in numbers.items() if TEXTS.fullmatch(f"dataset.{key}")}


def _unlabelled(chosen: Any, named: Read) -> dict[str, Any]:
    """The folder of `dataset.unlabelled`, or in place of a data set's name what its file says."""
    key = "dataset.unlabelled"
    if chosen is None:
        return {}
    if not isinstance(chosen, str) or not chosen:
        raise KdrunError(key, chosen, "must be a folder of pictures, the name of a data set, or null")
    if expanded(chosen).is_dir():
        return {}
    if "/" in chosen:
        raise KdrunError(key, chosen, no_folder(expanded(chosen)) or "no such folder")
    return {"unlabelled": dict(named(chosen, key))}


def _own(key: str, written: Any, ours: Mapping[str, Any], named: Read) -> dict[str, Any] | None:
    """The whole data set of what is written at `key` for a teacher; None of None.

    A mapping without a name changes keys of `ours`, the run's data set.
    """
    if written is None:
        return None
    if not written or not isinstance(written, (str, Mapping)):
        problem = "the name of a data set is needed, or a mapping: {name: mnist, views: {...}, ...}"
        raise KdrunError(key, f"{written}", problem, more="kdrun list datasets")
    own = {"name": written} if isinstance(written, str) else {str(k): value for k, value in written.items()}
    base = named(str(own.pop("name")), key) if "name" in own else ours
    base = {k: value for k, value in base.items() if k not in DATASET_HINTS}
    for name, value in own.items():
        if name in DATASET_OPTIONS:
            raise KdrunError(f"{key}.{name}", f"{value}", "is for students; a teacher learns from labels")
        if name not in base:
            raise KdrunError(f"{key}.{name}={value}", None, "no such key", [k for k in base if k != "name"])
    whole: dict[str, Any] = OmegaConf.to_container(OmegaConf.merge(base, own))  # type: ignore[assignment]
    return whole | dict.fromkeys(DATASET_OPTIONS) | _as_text(whole)
