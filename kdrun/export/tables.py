"""The figures of exported files as rows of text: for the screen and for the model card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kdrun.figures import ABSENT, file_size, percent, plural, signed, three_digits
from kdrun.report.tables import pipe_table

Table = list[tuple[str, ...]]
"""A head, then rows."""


def answers(record: Mapping[str, Any]) -> Table:
    """The answers of each file on the test part beside the student's: the worst of its batch sizes."""
    eager = record["eager"]
    rows: Table = [("", "top-1 %", "95 %", "change", "95 %", "agrees %", "differ", "size")]
    own = percent(eager["top1"]), _interval(eager["interval"], percent)
    rows.append(("eager", *own, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT))
    for name, file in record["files"].items():
        each = file["answered"]
        rows.append(
            (
                name,
                percent(min(row["top1"] for row in each)),
                _interval(file["interval"], percent),
                signed(file["drop"]),
                _interval(file["drop_interval"], signed),
                percent(min(row["agreement"] for row in each)),
                f"{max(row['difference'] for row in each):.1e}",
                file_size(file["bytes"]),
            )
        )
    return rows


def latencies(record: Mapping[str, Any]) -> Table:
    """Median and p95 in ms of each file at each batch size."""
    times: Mapping[str, Sequence[Mapping[str, Any]]] = record["latency"]
    batches = sorted({row["batch"] for rows in times.values() for row in rows})
    head = ["latency, ms", *(f"batch {batch}{end}" for batch in batches for end in ("", " p95"))]
    table: Table = [tuple(head)]
    for name, rows in times.items():
        by_batch = {row["batch"]: row for row in rows}
        cells = [
            three_digits(by_batch[batch][key]) if batch in by_batch else ABSENT
            for batch in batches
            for key in ("p50_ms", "p95_ms")
        ]
        table.append((name, *cells))
    return table


def caption(record: Mapping[str, Any]) -> str:
    """Explains the rows of `answers`."""
    sizes = [row["batch"] for file in record["files"].values() for row in file["answered"]]
    batches = ", ".join(map(str, sorted(set(sizes))))
    return (
        f"{plural(record['images'], 'test image')}, all of them at batch {batches}; the worst is shown. "
        "Change: top-1 at batch 1 minus the student's, in points, with its paired interval over the images. "
        "Agrees: the same class as the student. Differ: the largest difference of logits."
    )


def verdict(record: Mapping[str, Any]) -> str:
    """What int8 costs in accuracy, in a sentence; empty without int8."""
    file = record["files"].get("int8")
    if file is None:
        return ""
    how = "loses" if file["verdict"] == "worse" else "gains" if file["verdict"] == "better" else ""
    interval = f"95 % interval {_interval(file['drop_interval'], signed)}"
    if not how:
        return f"int8 does not measurably change top-1 ({signed(file['drop'])} points, {interval})."
    return f"int8 {how} {abs(file['drop']):.1f} points of top-1 ({interval})."


def as_markdown(table: Table) -> list[str]:
    """The lines of a Markdown table."""
    head, *rows = table
    return pipe_table(head, rows)


def _interval(ends: Sequence[float], form: Any) -> str:
    return " to ".join(map(form, ends))
