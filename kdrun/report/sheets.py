"""Pictures made of images: errors.png and knowledge.png, what they show of a run, and how they are drawn.

One canvas in inches for each is quick to draw.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kdrun.artefacts import write_whole
from kdrun.report import mistakes
from kdrun.report.answers import Answers
from kdrun.report.plots import COLOURS, TERMS, as_written, colour_of, drawable, new_figure, shortened
from kdrun.report.soft import WITHOUT, largest, share_text, softened
from kdrun.report.thumbnails import TEMPERATURES, Thumbnails

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WRONG, GREY, SOFT = "#d9480b", "#555555", "#7a3e9d"
COLUMNS = 6
CELL = (1.7, 1.95)
"""Width and height of an image with its caption, in inches."""

SIDE = 1.25
"""Side of an image, in inches."""

TOP = 5
"""Classes whose share is drawn."""

BAR = 0.19
"""Height of a bar, in inches."""

BARS = (1.05, 0.62)
"""Width of a bar of 100 % and of the number behind it, in inches."""

CLASS = 1.15
"""Width of the names of classes, in inches."""


NAME, OTHER = 17, 11
"""The most letters of a class name below an image: alone, and before a share."""


class Caption(NamedTuple):
    """An image (C, H, W) with lines below it, each a text and its colour."""

    image: NDArray[np.uint8]
    lines: tuple[tuple[str, str], ...]


class Sheet(NamedTuple):
    """Images with captions, under a title."""

    captions: Sequence[Caption]
    title: str


class Softened(NamedTuple):
    """An image (C, H, W), a line above it, and the teacher's logits (K,) for it."""

    image: NDArray[np.uint8]
    title: str
    logits: NDArray[Any]


class Knowledge(NamedTuple):
    """What knowledge.png shows. temperatures: a column of bars for each. called: the role of the teacher.
    rule: how the images were chosen. entropy: (T, 3) at TEMPERATURES; None: neither it nor `parted` is shown.
    parted: images on which teacher and student disagree, some of `parted_in_all`.
    """

    images: Sequence[Softened]
    classes: Sequence[str]
    temperatures: Sequence[float]
    called: str
    rule: str
    entropy: NDArray[np.float64] | None = None
    parted: Sequence[Caption] = ()
    parted_in_all: int = 0


def errors_of(answers: Answers, shown: Thumbnails) -> Sheet | None:
    """The surest errors of the student; None if there are none, or if none are kept."""
    rows = shown.get("errors/rows", np.empty(0, int))
    if not len(rows) or not _shows_all(answers, shown):
        return None
    captions = [
        Caption(image, (_truth(answers, row), _says(answers, row, "student", WRONG)))
        for row, image in zip(rows.tolist(), shown["errors/images"], strict=True)
    ]
    wrong, labelled = len(mistakes.surest(answers)), int((answers["test/labels"] >= 0).sum())
    which = f"all {wrong}" if wrong == len(rows) else f"the surest {len(rows)} of {wrong:,}"
    return Sheet(captions, f"{which} errors of the student on {labelled:,} test images")


def knowledge_of(answers: Answers, shown: Thumbnails) -> Knowledge | None:
    """The soft targets of the role that taught the student; None if none are kept."""
    if not len(shown.get("knowledge/rows", ())) or not _shows_all(answers, shown):
        return None
    teacher, temperature = str(shown["taught_by"]), float(shown["temperature"])
    names = list(map(str, answers["classes"]))
    rows = shown["knowledge/rows"].tolist()
    images = [
        Softened(image, _heading(answers, row, teacher), logits)
        for row, image, logits in zip(rows, shown["knowledge/images"], shown["knowledge/logits"], strict=True)
    ]
    parted = [
        Caption(image, (_truth(answers, row), *_both(answers, row, teacher, shares.tolist())))
        for row, image, shares in zip(
            shown["parted/rows"].tolist(), shown["parted/images"], shown["parted/shares"], strict=True
        )
    ]
    # beside 1 the temperature of the loss; WITHOUT if it has none, or if it is 1
    other = temperature if np.isfinite(temperature) and temperature != 1 else WITHOUT
    rule, count = _rule(answers, len(rows), other), int(shown["parted/count"])
    return Knowledge(images, names, (1.0, other), teacher, rule, shown["entropy"], parted, count)


def _rule(answers: Answers, count: int, temperature: float) -> str:
    """How the images were chosen."""
    labels = answers["test/labels"]
    every = len(np.unique(labels[labels >= 0]))
    of = "of each class" if count >= every else f"of {count} of {every} classes, evenly spaced,"
    return f"{of} the test image of highest entropy at T = {temperature:g}, right or wrong"


def _shows_all(answers: Answers, shown: Thumbnails) -> bool:
    """Whether the answers cover all images and roles that are shown."""
    last = max(
        (int(values.max()) for name, values in shown.items() if name.endswith("/rows") and len(values))
    )
    roles = {"labels", "student", *([str(shown["taught_by"])] if "taught_by" in shown else [])}
    return all(len(answers.get(f"test/{role}", ())) > last for role in roles)


def _heading(answers: Answers, row: int, teacher: str) -> str:
    """`truth 2   teacher 2   student 3`."""
    roles = {"truth": "labels", teacher: teacher, "student": "student"}
    named = [f"{word} {shortened(_name(answers, role, row), NAME)}" for word, role in roles.items()]
    return f"image {row}:  {'   '.join(named)}"


def _truth(answers: Answers, row: int) -> tuple[str, str]:
    return f"image {row}: {shortened(_name(answers, 'labels', row), NAME)}", GREY


def _says(answers: Answers, row: int, role: str, colour: str) -> tuple[str, str]:
    share = answers.get(f"test/{role}/{mistakes.SHARE}")
    behind = "" if share is None else f", {share_text(float(share[row]))}"
    return f"says {shortened(_name(answers, role, row), OTHER)}{behind}", colour


def _both(answers: Answers, row: int, teacher: str, shares: list[float]) -> list[tuple[str, str]]:
    return [
        (
            f"{role}: {shortened(_name(answers, role, row), OTHER)}, {share_text(share)}",
            COLOURS.get(role, "black"),
        )
        for role, share in zip((teacher, "student"), shares, strict=True)
    ]


def _name(answers: Answers, role: str, row: int) -> str:
    place = int(answers[f"test/{role}"][row])
    return str(answers["classes"][place]) if place >= 0 else "unknown"


def errors(path: Path, sheet: Sheet) -> None:
    """A sheet of images, COLUMNS in a row."""
    captions, title = sheet
    wide = max(3, min(COLUMNS, len(captions)))
    figure, axes = _canvas(wide * CELL[0] + 0.2, 0.45 + math.ceil(len(captions) / wide) * CELL[1])
    _write(axes, 0.15, 0.27, title, size=11)
    _row(axes, captions, 0.1, 0.45, wide)
    _save(figure, path)


def knowledge(path: Path, content: Knowledge) -> None:
    """Images with soft targets at some temperatures; below them the entropy over T, and disagreements."""
    panel = TOP * BAR + 0.2 + CLASS + len(content.temperatures) * sum(BARS)
    columns = 2 if len(content.images) > 1 and len(content.temperatures) < 3 else 1
    high = TOP * BAR + 0.62
    below = 0.75 + math.ceil(len(content.images) / columns) * high
    wide, footer = (12.0, 2.9) if content.entropy is not None else (max(columns * panel, 7.0) + 0.2, 0.0)
    figure, axes = _canvas(wide, below + footer)
    names = ", ".join(f"{value:g}" for value in content.temperatures)
    more = ", bars from left to right" if len(content.temperatures) > 1 else ""
    _write(axes, 0.15, 0.27, f"soft targets of the {content.called} at T = {names}{more}", size=12)
    _write(axes, 0.15, 0.5, content.rule, colour=GREY)
    for position, each in enumerate(content.images):
        _softened(axes, each, content, 0.15 + position % columns * panel, 0.75 + position // columns * high)
    if content.entropy is not None:
        _entropy(figure, content, below)
        _parted(axes, content, below)
    _save(figure, path)


def _softened(axes: Axes, each: Softened, content: Knowledge, x: float, y: float) -> None:
    """One image, and bars for the classes with the largest shares at the last temperature."""
    from matplotlib.collections import PolyCollection

    _write(axes, x, y + 0.16, each.title)
    _image(axes, each.image, x, y + 0.25, TOP * BAR + 0.1)
    x += TOP * BAR + 0.2 + CLASS
    bars, colours = [], []
    for place, (name, shares) in enumerate(top_shares(each, content)):
        top = y + 0.27 + place * BAR
        _write(axes, x - 0.05, top + 0.15, shortened(name), align="right")
        for column, (share, colour) in enumerate(zip(shares, bar_colours(content), strict=True)):
            left, wide = x + column * sum(BARS), BARS[0] * share
            right, above, below = left + wide, top + 0.14 * BAR, top + 0.86 * BAR
            bars.append([(left, above), (right, above), (right, below), (left, below)])
            colours.append(colour)
            _write(axes, right + 0.05, top + 0.15, share_text(share))
    # Many bars at once: a patch for each would take twice as long as everything else.
    drawn = PolyCollection(bars, facecolors=colours, edgecolors=colours, linewidths=0.5)
    axes.add_collection(drawn, autolim=False)


def top_shares(each: Softened, content: Knowledge) -> list[tuple[str, list[float]]]:
    """The TOP classes with the largest shares at the last temperature, each with its share at every
    temperature.
    """
    shares = [softened(each.logits, temperature) for temperature in content.temperatures]
    return [(content.classes[row], [float(own[row]) for own in shares]) for row in largest(shares[-1], TOP)]


def bar_colours(content: Knowledge) -> list[str]:
    """A colour for each temperature."""
    palette = (colour_of(content.called), SOFT, *TERMS[2:])
    return [palette[place % len(palette)] for place in range(len(content.temperatures))]


def _parted(axes: Axes, content: Knowledge, below: float) -> None:
    text = f"{content.called} and student differ on {content.parted_in_all:,} test images"
    _write(
        axes, 5.2, below + 0.2, text + ("; those of which both are surest" if content.parted else ""), size=10
    )
    _row(axes, content.parted, 5.1, below + 0.35, 4)


def _entropy(figure: Figure, content: Knowledge, below: float) -> None:
    """Entropy over T, with the uniform distribution's as a line."""
    wide, high = figure.get_size_inches()
    axes = figure.add_axes((0.75 / wide, 0.55 / high, 4.0 / wide, (high - below - 1.0) / high))
    low, mean, top = np.asarray(content.entropy).T
    axes.fill_between(TEMPERATURES, low, top, color=COLOURS["teacher"], alpha=0.2, linewidth=0)
    axes.plot(TEMPERATURES, mean, color=COLOURS["teacher"], label="mean; band: 8 of 10 images")
    most = math.log(len(content.classes))
    axes.axhline(most, color=GREY, linestyle=":", linewidth=1, label=f"uniform: ln {len(content.classes)}")
    for temperature, colour in zip(content.temperatures, bar_colours(content), strict=True):
        axes.axvline(temperature, color=colour, linestyle="--", linewidth=1)
    axes.set_xscale("log")
    marks = [0.5, 1, 2, 4, 8, 20]
    axes.set_xticks(marks, [f"{mark:g}" for mark in marks])
    axes.minorticks_off()
    axes.set_ylim(0, most * 1.08)
    axes.set_title(f"entropy of the {content.called}'s soft targets, nats", fontsize=10, loc="left")
    axes.set_xlabel("temperature", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(0, 0.95))
    axes.spines[["top", "right"]].set_visible(False)


def _row(axes: Axes, captions: Sequence[Caption], left: float, top: float, columns: int) -> None:
    for position, each in enumerate(captions):
        x, y = left + position % columns * CELL[0], top + position // columns * CELL[1]
        _image(axes, each.image, x + (CELL[0] - SIDE) / 2, y, SIDE)
        for line, (text, colour) in enumerate(each.lines):
            _write(axes, x + CELL[0] / 2, y + SIDE + 0.17 + 0.16 * line, text, colour=colour, align="center")


def _image(axes: Axes, pixels: NDArray[np.uint8], x: float, y: float, side: float) -> None:
    """Draws (C, H, W) into a square, and keeps its proportions."""
    shape = pixels.shape[1:]
    high, wide = (side * length / max(shape) for length in shape)
    left, top = x + (side - wide) / 2, y + (side - high) / 2
    picture = pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)
    axes.imshow(
        picture,
        cmap="gray",
        vmin=0,
        vmax=255,
        extent=(left, left + wide, top + high, top),
        aspect="auto",
        interpolation="nearest",
    )


def _write(
    axes: Axes, x: float, y: float, text: str, size: int = 8, colour: str = "black", align: str = "left"
) -> None:
    axes.text(x, y, drawable(text), fontsize=size, color=colour, ha=align, va="baseline")


def _save(figure: Figure, path: Path) -> None:
    """Writes a PNG. `savefig` would draw everything twice for a layout that is already made."""
    from PIL import Image

    with as_written(figure):
        figure.canvas.draw()
    picture = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB")  # type: ignore[attr-defined]
    write_whole(path, lambda temporary: picture.save(temporary, format="PNG"))


def _canvas(wide: float, high: float) -> tuple[Figure, Axes]:
    """An empty figure whose coordinates are inches from its upper left corner."""
    figure = new_figure(wide, high)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_autoscale_on(False)
    axes.set(xlim=(0, wide), ylim=(high, 0))
    axes.axis("off")
    return figure, axes
