"""The pair of models that a data set's file names, which a run takes if it names none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

OF = "of_"
"""`of_cifar100`: the model of that data set's pair."""

OTHERWISE = {"teacher": "cnn_digits", "student": "cnn_digits_small"}
"""The pair of a data set that names none: small models for any image."""


def paired(dataset: str, role: str, folders: Sequence[Path]) -> str:
    """The name of the model in a role, by the data set's file or by the file that it builds on."""
    content = _content(dataset, folders)
    pair = content.get("pair")
    if isinstance(pair, Mapping) and pair.get(role):
        return str(pair[role])
    bases = [entry for entry in content.get("defaults") or [] if isinstance(entry, str) and entry != "_self_"]
    return paired(bases[0], role, folders) if bases else OTHERWISE[role]


def _content(dataset: str, folders: Sequence[Path]) -> Mapping[str, Any]:
    """The data set's file; empty if there is none or if it is damaged, which composing says."""
    paths = (folder / "dataset" / f"{dataset}.yaml" for folder in folders)
    for path in filter(Path.is_file, paths):
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError):
            continue
        return content if isinstance(content, Mapping) else {}
    return {}
