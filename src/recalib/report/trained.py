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
from recalib.training.table import LEGEND, NetworkRow, accuracies, against_baseline, caption, markdown, named_row

_STYLES = {"best": "bold", "close": "underline", "": ""}


def show_trained(rows: list[NetworkRow], console: Console | None = None) -> None:
    """Print the table: in the form of Markdown where output is no terminal."""
    console = console or Console()
    if not console.is_terminal:
        print(markdown(rows))
        return
    columns = tuple(dict.fromkeys(column for row in rows for column in row.columns))
    shown = Table(box=box.SIMPLE_HEAD, show_edge=False)
    for heading in ("network", "module"):
        shown.add_column(heading)
    for heading in ("runs", *(f"{column.heading}, %" for column in columns)):
        shown.add_column(heading, justify="right", no_wrap=True)
    shown.add_column("against baseline")
    for row in rows:
        told = {name: Text(text, _STYLES[mark]) for name, (text, mark) in accuracies(row, rows).items()}
        cells = [told.get(column.name, Text()) for column in columns]
        shown.add_row(Text(_title(row)), Text(row.attention), str(row.runs), *cells, Text(_compared(row, rows)))
    console.print(shown)
    said = dict.fromkeys([LEGEND, *map(caption, rows), *_notes(rows)])
    console.print("\n".join(said), style="dim", markup=False, highlight=False)


def trained_page(rows: Sequence[NetworkRow], left_out: Sequence[str], command: str) -> str:
    """The page as HTML: for each network and recipe its modules' curves and their table. It loads nothing.

    Args:
        rows: of `recalib.training.table.table`.
        left_out: runs that are not among them, for they did not come to their end.
        command: the command line that made the page.
    """
    look = marks([row.attention for row in rows])
    titles = dict.fromkeys(map(_title, rows))
    groups = [_group(title, [row for row in rows if _title(row) == title], look) for title in titles]
    return render(
        "runs.html", title="Trained networks", legend=LEGEND, groups=groups, left_out=left_out, command=command
    )


def _compared(row: NetworkRow, rows: Sequence[NetworkRow]) -> str:
    found = against_baseline(row, rows)
    return found.text() if found else ""


def _notes(rows: Sequence[NetworkRow]) -> list[str]:
    return [f"{named_row(row)}: {note}" for row in rows for note in row.notes]


def _title(row: NetworkRow) -> str:
    return ", ".join(filter(None, (row.model, row.recipe)))


def _group(title: str, rows: list[NetworkRow], look: dict[str, Mark]) -> dict[str, Any]:
    return {
        "title": title,
        "caption": caption(rows[0]),
        "notes": _notes(rows),
        "columns": [column.heading for column in rows[0].columns],
        "wide": Markup(seed_curves(rows, look, 960)),
        "narrow": Markup(seed_curves(rows, look, 270)),
        "rows": [
            {
                "module": r.attention,
                "mark": look[r.attention],
                "runs": r.runs,
                "compared": _compared(r, rows),
                "parameters": r.about["parameters"],
                "accuracies": [*accuracies(r, rows).values()],
            }
            for r in rows
        ],
    }


def seed_curves(rows: Sequence[NetworkRow], look: dict[str, Mark], width: int) -> str:
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
        y=alt.Y("low:Q", title=f"{rows[0].columns[0].heading}, %", scale=alt.Scale(zero=False)),
        y2="high:Q",
        fill=alt.Fill("colour:N", scale=None),
        detail="module:N",
    )
    line = data.mark_line(strokeWidth=2, point=alt.OverlayMarkDef(size=18, filled=True), aria=False).encode(
        y=alt.Y("mean:Q"), stroke=alt.Stroke("module:N", scale=colours, legend=legend)
    )
    layers: Any = alt.layer(band, line).encode(x=x)
    return draw(layers.properties(width=width, height=280))
