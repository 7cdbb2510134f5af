"""What stands on each HTML page: of a run, of a sweep or a search, of many runs, of two runs."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kdrun.config.choices import shown_role
from kdrun.figures import plural
from kdrun.nested import leaves
from kdrun.records import METRICS, read_rows
from kdrun.report import answers, comparison, pictures, search_files, sheets, sweep_files, thumbnails
from kdrun.report.blocks import Block, Bullets, Section, Table
from kdrun.report.html import charts
from kdrun.report.markdown import sections
from kdrun.report.naming import said_of
from kdrun.report.read import read
from kdrun.report.runs import table as table_of_runs
from kdrun.report.schema import Report
from kdrun.report.soft import share_text
from kdrun.report.sweep_folder import collected
from kdrun.report.sweeps import key_name, swept
from kdrun.report.verdict import tone, verdict

HINT = (
    "Point at a chart to read its values; a click in the legend hides a line. Ctrl and the wheel zoom; with "
    "the tools above a chart you move it, zoom into a box, and go back."
)
FIRST = ("Figures", "Against each control")
"""Sections that stand before the charts."""


class Links(NamedTuple):
    """Of a server: where the page of a run is, and the name by which two are chosen; None and empty for a run
    that it does not serve.
    """

    page: Callable[[Path], str | None]
    name: Callable[[Path], str]


class Bar(NamedTuple):
    """A class with its share at each temperature: percent, text and colour."""

    name: str
    shares: list[tuple[float, str, str]]


class Thumb(NamedTuple):
    """An image as a data URI, lines of text with their colours, and bars."""

    image: str
    lines: Sequence[tuple[str, str]]
    bars: Sequence[Bar] = ()


class PagePart(NamedTuple):
    """A part of a page. links: where the first cells of the last table lead, None for a plain cell. closed:
    shown after a click. picks: rows of that table can be chosen; the names of the runs.
    """

    title: str
    blocks: Sequence[Block] = ()
    charts: Mapping[str, Any] = MappingProxyType({})
    thumbs: Sequence[Thumb] = ()
    pictures: Sequence[tuple[str, str]] = ()
    links: Sequence[str | None] = ()
    picks: Sequence[str] = ()
    closed: bool = False


class Page(NamedTuple):
    """title; above it the place, below it a sentence; tone: `better`, `worse`, `unclear`, or empty."""

    title: str
    about: str
    parts: Sequence[PagePart]
    verdict: str = ""
    tone: str = ""


def of_run(folder: Path) -> Page:
    """The page of a finished run. Raises KdrunError without a report."""
    report, kept = read(folder), answers.read(folder)
    told, rows = sections(report), read_rows(folder / METRICS)
    first = [section for section in told if section.title in FIRST]
    parts = [
        *map(_plain, first),
        *_curves(report, rows),
        *(_plain(section) for section in told if section.title == "Where it errs"),
        *_confusion(report, kept),
        *_images(folder, kept),
        *(_plain(section) for section in told if section.title not in (*FIRST, "Where it errs")),
        *_settings(report),
        *_epochs(rows),
    ]
    own = said_of(folder)
    about = filter(None, (own.get("name"), own.get("note"), ", ".join(own.get("tags", []))))
    return Page(report["label"], " | ".join(about), parts, verdict(report), tone(report))


def _plain(section: Section) -> PagePart:
    title = "What was run, and how to repeat it" if section.title == "What was run" else section.title
    return PagePart(title, section.blocks)


def _curves(report: Report, rows: Sequence[Any]) -> Iterator[PagePart]:
    if rows:
        yield PagePart("Curves", [HINT], charts.curves(rows, pictures.headline_epochs(report)))


def _confusion(report: Report, kept: answers.Answers) -> Iterator[PagePart]:
    if matrices := pictures.matrices_of(report, kept):
        text = (
            "Test images: the true class is the row, the answer the column. Point at a cell to read it. Ctrl "
            "and the wheel zoom, as does the box above a chart; all matrices follow."
        )
        yield PagePart("Confusion", [text], charts.confusion(matrices, list(map(str, kept["classes"]))))


def _images(folder: Path, kept: answers.Answers) -> Iterator[PagePart]:
    shown = thumbnails.read(folder)
    if sheet := sheets.errors_of(kept, shown):
        yield PagePart("Surest errors", [f"{sheet.title}."], thumbs=_captioned(sheet.captions))
    if content := sheets.knowledge_of(kept, shown):
        names = ", ".join(f"{value:g}" for value in content.temperatures)
        text = f"Soft targets of the {content.called} at T = {names}, bars from left to right"
        thumbs = [_softened(each, content) for each in content.images]
        yield PagePart("Dark knowledge", [f"{text}: {content.rule}."], charts.entropy(content), thumbs)
        text = f"{content.called} and student differ on {content.parted_in_all:,} test images"
        if content.parted:
            text += "; those of which both are surest."
            yield PagePart("Teacher and student apart", [text], thumbs=_captioned(content.parted))


def _captioned(captions: Sequence[sheets.Caption]) -> list[Thumb]:
    plain = (sheets.GREY, "black")  # lines in the colour of the text
    return [
        Thumb(data_uri(each.image), [(text, "" if tone in plain else tone) for text, tone in each.lines])
        for each in captions
    ]


def _softened(each: sheets.Softened, content: sheets.Knowledge) -> Thumb:
    bars = []
    for name, shares in sheets.top_shares(each, content):
        coloured = zip(shares, sheets.bar_colours(content), strict=True)
        bars.append(Bar(name, [(100 * share, share_text(share), colour) for share, colour in coloured]))
    return Thumb(data_uri(each.image), [(each.title, "")], bars)


def data_uri(pixels: NDArray[np.uint8]) -> str:
    """An image (C, H, W) as a PNG in a data URI."""
    from PIL import Image

    picture, sink = pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0), BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(sink, format="PNG")
    return _png(sink.getvalue())


def _png(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def _settings(report: Report) -> Iterator[PagePart]:
    if config := report.get("config"):
        body = [(key, comparison.value_text(value)) for key, value in leaves(config)]
        yield PagePart("Configuration", [Table(("key", "value"), body, left=2)])


def _epochs(rows: Sequence[Any]) -> Iterator[PagePart]:
    """Every figure of metrics.jsonl."""
    flat = [{"model": shown_role(row["stage"]), **dict(leaves(row))} for row in rows]
    names = [
        name
        for name in dict.fromkeys(name for row in flat for name in row)
        if name not in ("stage", "epochs") and not name.startswith("gradients.")
    ]
    if flat:
        body = [[_figure(row.get(name)) for name in names] for row in flat]
        yield PagePart("Every epoch", [Table(names, body)], closed=True)


def _figure(value: Any) -> str:
    return "-" if value is None else f"{value:.5g}" if isinstance(value, float) else str(value)


def of_sweep(folder: Path, links: Links | None = None) -> Page | None:
    """The page of a sweep's or a search's folder; None for another folder."""
    if (folder / "search.json").is_file():
        search = search_files.read(folder)
        return Page("Search", folder.name, [PagePart("Trials", search_files.blocks(search)), *_drawn(folder)])
    if not (folder / "jobs").is_dir() or not (jobs := collected(folder)):
        return None
    blocks = sweep_files.blocks(jobs, sweep_files.commands(folder))
    told = [line for block in blocks if isinstance(block, Bullets) for line in block.lines]
    chosen = next((line for line in told if line.startswith("The setting chosen")), "")
    parts = [PagePart("Settings", blocks)]
    if drawn := charts.pareto(jobs):
        text = "Ringed, on the line: no other student is as accurate, and faster or smaller. " + HINT
        parts.append(PagePart("Pareto front", [text], drawn))
    parts += _drawn(folder)
    outputs = folder.parent.parent
    runs = [(outputs / job["folder"], job["report"]) for job in jobs if job["report"] is not None]
    if runs:
        parts.append(_runs(runs, links))
    keys = ", ".join(map(key_name, swept(jobs)))
    return Page(f"Sweep over {keys}" if keys else "Sweep", folder.name, parts, chosen)


def _drawn(folder: Path) -> list[PagePart]:
    """The pictures of a folder but for pareto.png, which is a chart here."""
    files = (path for path in sorted(folder.glob("*.png")) if path.name != "pareto.png")
    shown = [(path.stem, _png(path.read_bytes())) for path in files]
    return [PagePart("Pictures", pictures=shown)] if shown else []


def of_runs(runs: Sequence[tuple[Path, Report]], place: str) -> Page:
    """The page of many runs."""
    return Page(plural(len(runs), "finished run"), place, [_runs(runs, None)])


def of_outputs(
    runs: Sequence[tuple[Path, Report]],
    place: str,
    links: Links,
    many: Mapping[str, str],
    damaged: Sequence[str],
) -> Page:
    """The first page of a server. many: sweeps and searches, with their addresses. damaged: a line each."""
    parts = [_runs(runs, links)] if runs else []
    if many:
        table = Table(("folder",), [(name,) for name in many])
        parts.append(PagePart("Sweeps and searches", [table], links=list(many.values())))
    if damaged:
        parts.append(PagePart("Left out", [Bullets(damaged)]))
    return Page(plural(len(runs), "finished run"), place, parts)


def _runs(runs: Sequence[tuple[Path, Report]], links: Links | None) -> PagePart:
    """A row for each run, by its name or id; what all share stands above the table."""
    table = table_of_runs(runs)
    columns = list(zip(*table.body, strict=True))
    shared = [place for place in range(1, table.left) if len(runs) > 1 and len(set(columns[place])) == 1]
    kept = [place for place in range(len(table.head)) if place not in shared]
    head, *body = ([row[place] for place in kept] for row in (table.head, *table.body))
    all_of = [f"{table.head[place]} {columns[place][0]}" for place in shared]
    blocks: list[Block] = ["; ".join(["Top-1 on test", *all_of]) + ". A click on a heading sorts."]
    blocks.append(Table(head, body, table.left - len(shared)))
    if links is None:
        return PagePart("Runs", blocks)
    places = [run for run, _ in runs]
    return PagePart("Runs", blocks, links=list(map(links.page, places)), picks=list(map(links.name, places)))


def of_two(first: Path, second: Path) -> Page:
    """What differs between two runs, and the paired test."""
    both = comparison.compared(first, second)
    parts = []
    for title in ("keys", "figures"):
        body = [(row["name"], row["first"] or "-", row["second"] or "-") for row in both[title]]
        blocks: list[Block] = [Table(("", *both["runs"]), body)] if body else [f"No {title} differ."]
        parts.append(PagePart(f"{title.capitalize()} that differ", blocks))
    return Page(" and ".join(both["runs"]), " | ".join(both["folders"]), parts, comparison.verdict(both))
