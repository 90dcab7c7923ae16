"""Curves with intervals as an SVG, one colour and shape a module."""

from collections.abc import Sequence
from typing import Any

from recalib.report.marks import PLAIN, Mark
from recalib.report.series import Spot
from recalib.report.svg import alt, draw


def curves(
    spots: Sequence[Spot], look: dict[str, Mark], x_title: str, y_title: str, *, log: bool = False, width: int = 250
) -> str:
    """Draw at least one spot; what cannot be told from no overhead is grey and hollow.

    Args:
        spots: of all curves.
        look: a mark for each curve; those without one are drawn as the plain network is.
        x_title: of the axis.
        y_title: of the axis.
        log: whether x doubles from tick to tick.
        width: of the plotting area in px.
    """
    values = [_value(spot, look.get(spot.curve, PLAIN)) for spot in spots]
    data = alt.Chart(alt.Data(values=values))
    x: Any = _named(spots, x_title) if isinstance(spots[0].x, str) else _number(spots, x_title, log)
    y = alt.Y("y:Q", title=y_title, scale=alt.Scale(zero=True))
    colours = {value["curve"]: value["colour"] for value in values}
    stroke = alt.Stroke(
        "curve:N",
        scale=alt.Scale(domain=list(colours), range=list(colours.values())),
        legend=alt.Legend(orient="top", title=None, symbolType="stroke", symbolStrokeWidth=2.5, columns=3),
    )
    lines = data.mark_line(strokeWidth=1.5, aria=False).encode(
        stroke=stroke, detail="curve:N", strokeDash=alt.StrokeDash("dash:N", scale=None)
    )
    intervals = data.mark_rule(strokeWidth=1.5, aria=False).encode(
        y="low:Q", y2="high:Q", stroke=alt.Stroke("mark:N", scale=None)
    )
    points = data.mark_point(size=55, strokeWidth=1.5, opacity=1).encode(
        fill=alt.Fill("fill:N", scale=None),
        stroke=alt.Stroke("mark:N", scale=None),
        shape=alt.Shape("shape:N", scale=None),
        description="title:N",
    )
    layers = alt.layer(lines.encode(y=y), intervals, points.encode(y=y)).encode(x=x)
    return draw(layers.properties(width=width, height=240))


def _value(spot: Spot, mark: Mark) -> dict[str, Any]:
    grey = "var(--rule)"
    return {
        "curve": spot.curve,
        "x": spot.x,
        "y": spot.y,
        "low": spot.low,
        "high": spot.high,
        "title": spot.title,
        "colour": mark.colour,
        "mark": mark.colour if spot.distinguishable else grey,
        "fill": mark.colour if spot.distinguishable and not spot.reference else "var(--paper)",
        "shape": mark.shape,
        "dash": [5, 4] if spot.reference else [1, 0],
    }


def _named(spots: Sequence[Spot], title: str) -> "alt.X":
    axis = alt.Axis(labelAngle=-30, labelLimit=110)
    return alt.X("x:N", sort=list(dict.fromkeys(spot.x for spot in spots)), title=title, axis=axis)


def _number(spots: Sequence[Spot], title: str, log: bool) -> "alt.X":
    ticks = sorted({spot.x for spot in spots})
    scale = alt.Scale(type="log", base=2, nice=False) if log else alt.Scale(zero=False, nice=False, padding=12)
    return alt.X("x:Q", title=title, scale=scale, axis=alt.Axis(values=ticks, format="d", labelOverlap=True))
