"""Curves with intervals as an SVG, one colour and shape a module."""

from collections.abc import Sequence
from typing import Any

from recalib.report.marks import PLAIN, Mark
from recalib.report.series import Spot
from recalib.report.svg import Json, draw, field, layer, own


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
    x = _named(spots, x_title) if isinstance(spots[0].x, str) else _number(spots, x_title, log)
    y = field("y:Q", title=y_title, scale={"zero": True})
    places = list(look)
    ordered = sorted(values, key=lambda value: places.index(value["curve"]) if value["curve"] in look else len(look))
    colours = {value["curve"]: value["colour"] for value in ordered}
    legend = {"orient": "top", "title": None, "symbolType": "stroke", "symbolStrokeWidth": 2.5, "columns": 3}
    scale = {"domain": list(colours), "range": list(colours.values())}
    thin = {"strokeWidth": 1.5, "aria": False}
    layers = [
        layer(
            values, "line", thin,
            stroke=field("curve:N", scale=scale, legend=legend), detail=field("line:N"), strokeDash=own("dash:N"), y=y,
        ),
        layer(values, "rule", thin, y=field("low:Q"), y2=field("high"), stroke=own("mark:N")),
        layer(
            values, "point", {"size": 55, "strokeWidth": 1.5, "opacity": 1},
            fill=own("fill:N"), stroke=own("mark:N"), shape=own("shape:N"), description=field("title:N"), y=y,
        ),
    ]  # fmt: skip
    return draw({"layer": layers, "encoding": {"x": x}, "width": width, "height": 240})


def _value(spot: Spot, mark: Mark) -> dict[str, Any]:
    grey = "var(--muted)"
    return {
        "curve": spot.curve,
        "line": f"{spot.curve} {spot.family}",
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


def _named(spots: Sequence[Spot], title: str) -> Json:
    axis = {"labelAngle": -30, "labelLimit": 110}
    return field("x:N", sort=list(dict.fromkeys(spot.x for spot in spots)), title=title, axis=axis)


def _number(spots: Sequence[Spot], title: str, log: bool) -> Json:
    ticks = sorted({spot.x for spot in spots})
    scale = {"type": "log", "base": 2, "nice": False} if log else {"zero": False, "nice": False, "padding": 12}
    axis = {"values": ticks, "format": "d", "labelOverlap": True}
    return field("x:Q", title=title, scale=scale, axis=axis)
