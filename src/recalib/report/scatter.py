"""Points with intervals, lines from where they come, and labels beside them, as an SVG."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from recalib.report.labels import CLEARANCE, Boxes, place_labels
from recalib.report.marks import Mark
from recalib.report.svg import Json, draw, field, layer, own

_LINE_STEP = 8  # px between the spots by which a line keeps labels off itself


@dataclass(frozen=True)
class Point:
    """One network.

    Attributes:
        label: written beside it, unless empty.
        x: its value, and the ends of the 95 % interval.
        y: published top-1 in percent.
        mark: how it looks.
        title: what a pointer over it says.
        origin: x and y of the plain network from which its line starts, hence also that it is a module.
        on_ladder: whether the dashed line through the depths goes through it.
        faded: whether it is drawn back.
    """

    label: str
    x: tuple[float, ...]
    y: float
    mark: Mark
    title: str
    origin: tuple[float, float] | None = None
    on_ladder: bool = False
    faded: bool = False

    @property
    def colour(self) -> str:
        """Of its marks."""
        return self.mark.faded if self.faded else self.mark.colour


@dataclass(frozen=True)
class _Axis:
    """A linear scale between data and px."""

    low: float
    high: float
    length: int
    upwards: bool = False

    def px(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.length * (1 - share if self.upwards else share)

    def value(self, px: float) -> float:
        share = px / self.length
        return self.low + (self.high - self.low) * (1 - share if self.upwards else share)

    @property
    def scale(self) -> Json:
        return {"domain": [self.low, self.high], "nice": False, "zero": False}


def scatter(points: Sequence[Point], x_title: str, width: int, height: int) -> str:
    """Draw points, at least one, on a plotting area of `width` by `height` px."""
    x = _axis([value for point in points for value in point.x], width, 0.18)
    y = _axis([point.y for point in points], height, 0.09, upwards=True)
    both = {
        "x": field("x:Q", scale=x.scale, title=x_title),
        "y": field("y:Q", scale=y.scale, title="ImageNet top-1, % (published)"),
    }
    layers = [*_lines(points), *_marks(points), *_labels(points, x, y)]
    return draw({"layer": layers, "encoding": both, "width": width, "height": height})


def _axis(values: Sequence[float], length: int, room: float, upwards: bool = False) -> _Axis:
    """An axis over the values with room for labels at both ends, as a share of their range."""
    low, high = min(values), max(values)
    margin = room * (high - low) or 0.5
    return _Axis(low - margin, high + margin, length, upwards)


def _segments(points: Sequence[Point]) -> list[tuple[float, float, float, float]]:
    """From x, y to x, y: the lines to the modules and those between depths."""
    ladder = sorted((point.x[0], point.y) for point in points if point.on_ladder)
    steps = [(*start, *end) for start, end in pairwise(ladder)]
    return steps + [(*point.origin, point.x[0], point.y) for point in points if point.origin]


def _lines(points: Sequence[Point]) -> list[Json]:
    ladder = [{"x": point.x[0], "y": point.y} for point in points if point.on_ladder]
    modules = [
        {
            "x": point.origin[0],
            "y": point.origin[1],
            "x2": point.x[0],
            "y2": point.y,
            "low": point.x[1],
            "high": point.x[2],
            "colour": point.colour,
        }
        for point in points
        if point.origin
    ]
    stroke, to = own("colour:N"), {"x2": field("x2"), "y2": field("y2")}
    dashed = {"stroke": "var(--plain)", "strokeDash": [5, 4], "strokeWidth": 1.5, "aria": False}
    thin = {"strokeWidth": 1.1, "strokeOpacity": 0.6, "aria": False}
    interval = {"x": field("low:Q"), "x2": field("high"), "y": field("y2:Q")}
    return [
        layer(ladder, "line", dashed),
        layer(modules, "rule", thin, **to, stroke=stroke),
        layer(modules, "rule", {"strokeWidth": 2, "aria": False}, **interval, stroke=stroke),
    ]


def _marks(points: Sequence[Point]) -> list[Json]:
    values = [
        {
            "x": point.x[0],
            "y": point.y,
            "colour": point.colour,
            "fill": point.colour if point.origin else "var(--paper)",
            "shape": point.mark.shape,
            "title": point.title,
        }
        for point in points
    ]
    return [
        layer(
            values,
            "point",
            {"size": 90, "strokeWidth": 1.6, "opacity": 1},
            fill=own("fill:N"),
            stroke=own("colour:N"),
            shape=own("shape:N"),
            description=field("title:N"),
        )
    ]


def _labels(points: Sequence[Point], x: _Axis, y: _Axis) -> list[Json]:
    """Texts at places computed in px, with a thin leader where one had to move away from its point."""
    named = [point for point in points if point.label]
    spots = [(x.px(point.x[0]), y.px(point.y)) for point in named]
    boxes = place_labels(spots, [point.label for point in named], _obstacles(points, x, y), x.length, y.length)
    texts, leaders = [], []
    for point, spot, (left, top, right, bottom) in zip(named, spots, boxes.tolist(), strict=True):
        texts.append({"x": x.value((left + right) / 2), "y": y.value((top + bottom) / 2), "text": point.label})
        end = min(max(spot[0], left), right), min(max(spot[1], top), bottom)
        if abs(end[0] - spot[0]) + abs(end[1] - spot[1]) > 2 * CLEARANCE:
            leaders.append({"x": point.x[0], "y": point.y, "x2": x.value(end[0]), "y2": y.value(end[1])})
    thin = {"strokeWidth": 0.8, "stroke": "var(--muted)", "aria": False}
    return [
        layer(leaders, "rule", thin, x2=field("x2"), y2=field("y2")),
        layer(
            texts, "text", {"fontSize": 12, "baseline": "middle", "fill": "var(--ink)", "aria": False},
            text=field("text:N"),
        ),
    ]  # fmt: skip


def _obstacles(points: Sequence[Point], x: _Axis, y: _Axis) -> Boxes:
    """Marks, intervals and spots along the lines."""
    boxes = []
    for point in points:
        boxes.append(_around(x.px(point.x[0]), y.px(point.y), CLEARANCE - 1))
        boxes.append((x.px(point.x[1]), y.px(point.y) - 2, x.px(point.x[2]), y.px(point.y) + 2))
    for x1, y1, x2, y2 in _segments(points):
        start, end = (x.px(x1), y.px(y1)), (x.px(x2), y.px(y2))
        steps = max(2, int((abs(end[0] - start[0]) + abs(end[1] - start[1])) / _LINE_STEP))
        boxes += [_around(px, py, 2) for px, py in np.linspace(start, end, steps).tolist()]
    return np.array(boxes)


def _around(px: float, py: float, reach: float) -> tuple[float, float, float, float]:
    return px - reach, py - reach, px + reach, py + reach
