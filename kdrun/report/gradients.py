"""Summary of `diagnostics=gradients`: whether the gradient of one term dominates the update."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from kdrun.figures import plural
from kdrun.report.schema import Gradients

TIMES = 10.0
"""A term dominates if its gradient norm is more than this many times the sum of all others."""


def summary(rows: Sequence[Mapping[str, Any]]) -> Gradients | None:
    """Medians over the epochs of one stage, from its rows of metrics.jsonl; None without gradients."""
    measured = [row["gradients"] for row in rows if row.get("gradients")]
    if not measured:
        return None
    names = list(measured[-1])
    terms = {
        name: {
            key: median(values)
            for key in ("norm", "cosine")
            if (values := [row[name][key] for row in measured if key in row.get(name, {})])
        }
        for name in names
    }
    dominant = {name: sum(_dominates(name, row) for row in measured) for name in names}
    return Gradients(
        epochs=len(measured), terms=terms, dominant={name: count for name, count in dominant.items() if count}
    )


def sentence(gradients: Gradients) -> str:
    """Says whether a term dominates, and by which rule."""
    rule = f"more than {TIMES:g} times as long as those of all other terms together"
    about = (
        f"On a fixed batch after each of {plural(gradients['epochs'], 'epoch')}, the gradient of {{}} on the "
        f"student, weighted, was {rule}{{}}. Medians over the epochs: {', '.join(_figures(gradients))}."
    )
    dominant = gradients.get("dominant", {})
    if len(gradients["terms"]) < 2:
        figures = ", ".join(_figures(gradients))
        return f"There is one term, so none dominates; medians over the epochs: {figures}."
    if not dominant:
        return about.format("no term", "")
    name, count = max(dominant.items(), key=lambda item: item[1])
    consequence = ": there it decides alone, and the others hardly count"
    return about.format(f"**{name}**", f" after {count} of them{consequence}")


def _dominates(name: str, row: Mapping[str, Mapping[str, float]]) -> bool:
    others = sum(figures["norm"] for other, figures in row.items() if other != name)
    return len(row) > 1 and row.get(name, {"norm": 0.0})["norm"] > TIMES * others


def _figures(gradients: Gradients) -> Iterator[str]:
    for name, figures in gradients["terms"].items():
        angle = f", cosine to cross-entropy's {figures['cosine']:.2f}" if "cosine" in figures else ""
        yield f"{name} {figures['norm']:.3g}{angle}"
