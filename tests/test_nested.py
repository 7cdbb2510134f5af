"""Values of nested mappings by their dotted keys."""

from __future__ import annotations

from kdrun.nested import leaves


def test_leaves() -> None:
    values = {
        "seed": 0,
        "recipe": {"student": {"epochs": 5, "betas": [0.9, 0.999]}, "none": {}},
        "assistant": [{"name": "mlp", "args": {"widths": [3]}}, {"name": "wrn"}],
        "logger": [],
    }
    assert dict(leaves(values)) == {
        "seed": 0,
        "recipe.student.epochs": 5,
        "recipe.student.betas": [0.9, 0.999],
        "assistant": ["mlp", "wrn"],
        "assistant.0.name": "mlp",
        "assistant.0.args.widths": [3],
        "assistant.1.name": "wrn",
        "logger": [],
    }
