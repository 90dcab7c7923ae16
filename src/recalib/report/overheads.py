"""Bars of the overhead over the plain network, as inserted and deployed, with their intervals."""

from collections.abc import Sequence
from typing import Any

from recalib.choose.advice import overhead_text
from recalib.choose.published_times import Times
from recalib.measure.cells import Cell, Overhead
from recalib.report.marks import Mark
from recalib.report.rows import Row, is_like_plain, is_reference, module_title, place_of, status_text
from recalib.report.svg import Json, draw, field, layer, own

_GREY = Mark("var(--muted)", "")  # of what cannot be told from the plain network
STATES = ("as inserted", "deployed")
_BAR, _WIDTH = 13, 230  # px: thickness of a bar, width of the plotting area


def percent_domain(cells: Sequence[Cell]) -> tuple[float, float]:
    """An axis in percent that holds every interval, zero, and room for a number beyond the longest bar."""
    ends = [100 * (end - 1) for cell in cells if cell.overhead for end in (cell.overhead.low, cell.overhead.high)]
    low, high = min([0.0, *ends]), max([1.0, *ends])
    return low - 0.02 * (high - low), high + 0.2 * (high - low)


def overhead_bars(rows: Sequence[Row], look: dict[str, Mark], domain: tuple[float, float]) -> str:
    """Draw one network in one runtime as an SVG.

    Args:
        rows: its rows.
        look: a mark for each module.
        domain: of the axis, in percent; give panels that are compared the same.
    """
    bars, notes = [], []
    for row in rows:
        for state, cell in zip(STATES, (row.before, row.after), strict=True):
            if cell is None or is_reference(cell):
                continue
            mark = _GREY if is_like_plain(cell) else look[row.module]
            colour = mark.colour if cell.deployed else mark.faded
            base: dict[str, Any] = {"module": module_title(row.module), "state": state}
            base |= {"colour": colour, "fill": "var(--paper)" if is_like_plain(cell) else colour}
            if cell.overhead:
                bars.append(base | _bar(row, state, cell))
            elif text := status_text(cell):
                notes.append(base | {"end": 0.0, "text": text})
    titles = [module_title(row.module) for row in rows]
    quiet = {"domain": False, "ticks": False, "grid": False, "labelPadding": 8}
    zero = {"condition": {"test": "datum.value === 0", "value": "var(--rule)"}, "value": "var(--grid)"}
    scale = {"domain": list(domain), "nice": False}
    both = {
        "x": field("end:Q", scale=scale, title="overhead over the plain network, %", axis={"gridColor": zero}),
        "y": field("module:N", sort=titles, title=None, axis=quiet),
        "yOffset": field("state:N", sort=list(STATES), scale={"domain": list(STATES)}),
    }
    step = {"step": _BAR, "for": "offset"}
    return draw({"layer": _layers(bars, notes), "encoding": both, "width": _WIDTH, "height": step})


def _bar(row: Row, state: str, cell: Cell) -> dict[str, Any]:
    over = cell.overhead
    assert over is not None
    percent = {"low": 100 * (over.low - 1), "ratio": 100 * (over.ratio - 1), "high": 100 * (over.high - 1)}
    return {
        "end": percent["ratio"],
        "low": percent["low"],
        "high": percent["high"],
        "beyond": max(percent["high"], 0.0),
        "text": f"{percent['ratio']:.1f}",
        "title": f"{module_title(row.module)} in {row.runtime}, {state}: {_text(cell)}"
        f"{', not distinguishable from none' if is_like_plain(cell) else ''}",
    }


def _text(cell: Cell) -> str:
    assert cell.overhead is not None
    text = overhead_text(cell.overhead)
    return text if cell.overhead.low < cell.overhead.high else text.partition(" [")[0]


def published_bars(times: Times, look: dict[str, Mark]) -> str:
    """Draw published overheads of the modules that have a mark; they have no interval, and an axis of their own."""
    rows = []
    for module, ratio in sorted(times.overheads().items(), key=lambda item: place_of(item[0])):
        if module in look:
            overhead = Overhead(ratio, ratio, ratio, distinguishable=True)
            where = f"{times.framework}, {times.label}"
            cell = Cell(model="", module=module, runtime=where, deployed=False, overhead=overhead)
            rows.append(Row("", where, {}, module, cell, None))
    return overhead_bars(rows, look, percent_domain([row.network for row in rows]))


def _layers(bars: list[Json], notes: list[Json]) -> list[Json]:
    text: dict[str, Any] = {
        "align": "left",
        "baseline": "middle",
        "dx": 4,
        "fontSize": 11,
        "aria": False,
        "fill": "var(--muted)",
    }
    return [
        layer(
            bars,
            "bar",
            {"cornerRadiusEnd": 2},
            fill=own("fill:N"),
            stroke=own("colour:N"),
            description=field("title:N"),
        ),
        layer(
            bars,
            "rule",
            {"stroke": "var(--ink)", "strokeWidth": 1.2, "aria": False},
            x=field("low:Q"),
            x2=field("high"),
        ),
        layer(bars, "text", text, x=field("beyond:Q"), text=field("text:N")),
        layer(notes, "text", {**text, "fontStyle": "italic"}, text=field("text:N")),
    ]
