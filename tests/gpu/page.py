"""What was found, as a page of tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

LONG = {"error", "output", "command", "rounds_ms"}
"""For the JSON file only."""


def markdown(content: Mapping[str, Any]) -> str:
    """A table for each part, after the machine and what failed."""
    lines = ["# kdrun on a GPU", "", "Written by `scripts/gpu`.", ""]
    lines += [f"- {key}: {value}" for key, value in content["environment"].items()]
    lines += [f"- failed: {'; '.join(content['failed']) or 'nothing'}", ""]
    for name, rows in content["results"].items():
        lines += [f"## {name}", "", *table(rows), ""]
    return "\n".join(lines)


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Rows as lines of a table; a key that a row does not have is an empty cell."""
    flat = [flattened(row) for row in rows]
    keys = list(dict.fromkeys(key for row in flat for key in row))
    cells = [[row.get(key, "") for key in keys] for row in flat]
    return [f"| {' | '.join(line)} |" for line in (keys, ["---"] * len(keys), *cells)]


def flattened(row: Mapping[str, Any], before: str = "") -> dict[str, str]:
    """A row's values as short texts by key; what is within a value has the keys of both."""
    found: dict[str, str] = {}
    for key, value in row.items():
        if isinstance(value, Mapping):
            found |= flattened(value, f"{before}{key} ")
        elif key not in LONG:
            text = f"{value:.4g}" if isinstance(value, float) else str(value)
            found[before + key] = text.partition("\n")[0].replace("|", "/")[:120]
    return found
