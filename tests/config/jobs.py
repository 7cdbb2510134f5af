"""A command for the tests of sweeps, in a module of its own so that other processes can import it."""

from __future__ import annotations

import json
from pathlib import Path

from kdrun.config.load import Loaded


def run(loaded: Loaded, quiet: bool) -> Path:
    """Trains nothing: leaves a report in a folder that depends on temperature, alpha and seed."""
    facts = {"temperature": loaded.run.temperature, "alpha": loaded.run.alpha, "seed": loaded.run.seed}
    folder = Path(loaded.run.outputs_dir) / "runs" / "-".join(map(str, facts.values()))
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "report.json").exists():
        (folder / "report.json").write_text(json.dumps(facts))
    return folder
