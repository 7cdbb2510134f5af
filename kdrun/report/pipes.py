"""Tables in Markdown, and in aligned columns."""

from __future__ import annotations

from collections.abc import Sequence

from kdrun.terminal import padded, widest


def pipe_table(head: Sequence[str], body: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Lines of a markdown table; the first `left` columns to the left, the others to the right."""
    rule = ["---" if i < left else "---:" for i in range(len(head))]
    return [f"| {' | '.join(_cell(cell) for cell in line)} |" for line in (head, rule, *body)]


def aligned(table: Sequence[Sequence[str]]) -> list[str]:
    """Aligned columns for a screen, the first to the left."""
    widths = [widest(column) for column in zip(*table, strict=True)]
    return [
        "  ".join(
            padded(cell, wide, right=place > 0)
            for place, (cell, wide) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
