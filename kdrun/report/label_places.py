"""Names beside the points of a picture, placed so that they cover neither a point nor each other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Box = tuple[float, float, float, float]
"""left, bottom, right, top in pixels."""

NEAR, FAR = 12.0, 90.0
"""Pixels between a point and its name: at first, and at most."""

ROOM, THIN = 8.5, 1.5
"""Half the side of the square that is kept free at a point, and at a spot along a line."""

EDGE = 4.0
"""Pixels between a name and the frame."""

STEP = 6.0
"""Pixels from one spot of a line to the next."""


def write_names(axes: Axes, points: Sequence[tuple[float, float]], names: Sequence[str]) -> None:
    """Writes the name of each point at the nearest free place. A line joins the two if they are far apart.

    Names cover nothing that is drawn in the axes. The limits and the layout of the axes must be final.
    """
    frame, per_point = axes.get_window_extent(), axes.figure.dpi / 72
    inside = (frame.x0 + EDGE, frame.y0 + EDGE, frame.x1 - EDGE, frame.y1 - EDGE)
    taken = list(_drawn(axes))
    at = [axes.transData.transform(point).tolist() for point in points]
    for (x, y), point, name in sorted(zip(at, points, names, strict=True), key=lambda each: -each[0][1]):
        wide, high = _size(axes, name)
        place = free_place((x, y), (wide, high), taken, inside)
        taken.append(place)
        far = math.hypot((place[0] + place[2]) / 2 - x, (place[1] + place[3]) / 2 - y)
        beside = far < wide / 2 + 2 * NEAR
        axes.annotate(
            name,
            point,
            xytext=((place[0] - x) / per_point, (place[1] - y) / per_point),
            textcoords="offset points",
            fontsize=8,
            color="#333333",
            arrowprops=None if beside else {"arrowstyle": "-", "color": "#aaaaaa", "linewidth": 0.7},
        )


def free_place(
    point: tuple[float, float], size: tuple[float, float], taken: Sequence[Box], frame: Box
) -> Box:
    """The nearest box of this size around a point that covers nothing and lies in the frame; without one,
    the box that covers least.
    """
    boxes = list(_around(point, size))
    return min(boxes, key=lambda box: sum(_common(box, other) for other in taken) + 3 * _outside(box, frame))


def _around(point: tuple[float, float], size: tuple[float, float]) -> Iterator[Box]:
    (x, y), (wide, high) = point, size
    distance = NEAR
    while distance <= FAR:
        for across, up in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1)):
            left = x + across * distance - (wide if across < 0 else wide / 2 if across == 0 else 0)
            bottom = y + up * distance - (high if up < 0 else high / 2 if up == 0 else 0)
            yield left, bottom, left + wide, bottom + high
        distance += 6.0


def _size(axes: Axes, name: str) -> tuple[float, float]:
    """Width and height of a name in pixels."""
    text = axes.text(0.5, 0.5, name, fontsize=8, transform=axes.transAxes, parse_math=False)
    extent = text.get_window_extent()
    text.remove()
    return float(extent.width), float(extent.height)


def _drawn(axes: Axes) -> Iterator[Box]:
    """The points of all lines of the axes, and spots along those that are drawn as lines."""
    for line in axes.get_lines():
        spots = axes.transData.transform(line.get_xydata())
        if line.get_marker() not in ("", "None", None):
            yield from (_square(x, y, ROOM) for x, y in spots)
        if line.get_linestyle() not in ("", "None", None):
            for (x, y), (to_x, to_y) in pairwise(spots):
                count = int(math.hypot(to_x - x, to_y - y) / STEP) + 1
                for i in range(count + 1):
                    share = i / count
                    yield _square(x + share * (to_x - x), y + share * (to_y - y), THIN)


def _square(x: float, y: float, half: float) -> Box:
    return x - half, y - half, x + half, y + half


def _common(one: Box, other: Box) -> float:
    """The area that both cover."""
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    return max(wide, 0.0) * max(high, 0.0)


def _outside(box: Box, frame: Box) -> float:
    """The area of a box that is not in the frame."""
    return (box[2] - box[0]) * (box[3] - box[1]) - _common(box, frame)
