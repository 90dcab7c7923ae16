"""The page about trained networks: curves and tables over seeds, in the form of Klomp et al.'s Table 1."""

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from recalib.report.marks import Mark, marks
from recalib.report.page import render
from recalib.report.svg import alt, draw
from recalib.training.table import Row, accuracies, markdown

_STYLES = {"best": "bold", "close": "underline", "": ""}


def show_trained(rows: list[Row], console: Console | None = None) -> None:
    """Print the table: in the form of Markdown where output is no terminal."""
    console = console or Console()
    if not console.is_terminal:
        print(markdown(rows))
        return
    shown = Table(box=box.SIMPLE_HEAD, show_edge=False, caption="bold: best; underlined: within its deviation")
    for heading in ("network", "module"):
        shown.add_column(heading)
    for heading in ("runs", "top-1, %", "top-5, %"):
        shown.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        cells = [Text(text, _STYLES[mark]) for text, mark in accuracies(row, rows)]
        shown.add_row(Text(_title(row)), Text(row.attention), str(row.runs), *cells)
    console.print(shown)


def trained_page(rows: Sequence[Row], left_out: Sequence[str], command: str) -> str:
    """The page as HTML: for each network and recipe its modules' curves and their table. It loads nothing.

    Args:
        rows: of `recalib.training.table.table`.
        left_out: runs that are not among them, for they did not come to their end.
        command: the command line that made the page.
    """
    look = marks([row.attention for row in rows])
    titles = dict.fromkeys(map(_title, rows))
    groups = [_group(title, [row for row in rows if _title(row) == title], look) for title in titles]
    return render("runs.html", title="Trained networks", groups=groups, left_out=left_out, command=command)


def _title(row: Row) -> str:
    return ", ".join(filter(None, (row.model, row.recipe)))


def _group(title: str, rows: list[Row], look: dict[str, Mark]) -> dict[str, Any]:
    return {
        "title": title,
        "wide": Markup(seed_curves(rows, look, 960)),
        "narrow": Markup(seed_curves(rows, look, 270)),
        "rows": [
            {"module": r.attention, "mark": look[r.attention], "runs": r.runs, "accuracies": accuracies(r, rows)}
            for r in rows
        ],
    }


def seed_curves(rows: Sequence[Row], look: dict[str, Mark], width: int) -> str:
    """Mean test accuracy after every epoch, with a band of one standard deviation, as an SVG.

    Args:
        rows: of one network, one a curve.
        look: a mark for each module.
        width: of the plotting area in px.
    """
    values = [
        {"module": row.attention, "colour": look[row.attention].colour, "epoch": i,
         "mean": mean, "low": mean - std, "high": mean + std}
        for row in rows
        for i, (mean, std) in enumerate(row.curve, start=1)
    ]  # fmt: skip
    few = [*range(1, len(rows[0].curve) + 1)] if len(rows[0].curve) <= 12 else None
    data = alt.Chart(alt.Data(values=values))
    x = alt.X(
        "epoch:Q", title="epoch", scale=alt.Scale(nice=False), axis=alt.Axis(format="d", values=few or alt.Undefined)
    )
    names = [row.attention for row in rows]
    colours = alt.Scale(domain=names, range=[look[name].colour for name in names])
    legend = alt.Legend(orient="top", title=None, symbolType="stroke", symbolStrokeWidth=2.5, symbolOpacity=1)
    band = data.mark_area(opacity=0.18, aria=False).encode(
        y=alt.Y("low:Q", title="top-1, %", scale=alt.Scale(zero=False)),
        y2="high:Q",
        fill=alt.Fill("colour:N", scale=None),
        detail="module:N",
    )
    line = data.mark_line(strokeWidth=2, point=alt.OverlayMarkDef(size=18, filled=True), aria=False).encode(
        y=alt.Y("mean:Q"), stroke=alt.Stroke("module:N", scale=colours, legend=legend)
    )
    layers: Any = alt.layer(band, line).encode(x=x)
    return draw(layers.properties(width=width, height=280))
