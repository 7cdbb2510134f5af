"""The shipped model files, read as plain YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parents[2] / "conf" / "model"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))


def node(name: str, **more: Any) -> dict[str, Any]:
    """The file of a model; a name without one is torchvision's."""
    path = FOLDER / f"{name}.yaml"
    plain = yaml.safe_load(path.read_text()) if path.exists() else torchvision_node(name)
    return {**plain, **more}


def torchvision_node(name: str) -> dict[str, Any]:
    return {"name": name, "family": "torchvision", "args": {}}
