"""The page about a trimmed network: what is lost against the time that is saved, and every site."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from recalib.report.page import render
from recalib.report.svg import alt, draw

COLUMNS = ("site", "frozen at its", "variation", "loss alone", "loss of a linear gate", "ms")


def trim_page(result: Mapping[str, Any], command: str) -> str:
    """The page as HTML; it loads nothing.

    Args:
        result: of `recalib.study.checkpoint.trim_checkpoint`.
        command: the command line that made it.
    """
    rows = [
        [
            site["name"],
            site["stand_in"] or site["why_kept"],
            *(_number(site[key]) for key in ("variation", "loss", "linear")),
            ""
            if site["ms"] is None
            else f"{site['ms']:.3f} [{', '.join(f'{end:.3f}' for end in site['ms_interval'])}]",
        ]
        for site in result["sites"]
    ]
    return render(
        "trim.html", title="Gates that earn their time", sentence=result["sentence"], notes=result["notes"], rows=rows,
        columns=COLUMNS, command=command, wide=Markup(loss_curve(result["curve"], result["frozen"], 960)),
        narrow=Markup(loss_curve(result["curve"], result["frozen"], 270)),
    )  # fmt: skip


def loss_curve(curve: Sequence[Mapping[str, Any]], frozen: int, width: int) -> str:
    """Points lost against milliseconds saved, without fine-tuning and, where there was any, with it.

    Args:
        curve: points, from nothing frozen on.
        frozen: the one that was taken.
        width: of the plotting area in px.
    """
    values = [
        {"x": point["ms"], "y": loss["points"], "low": loss["low"], "high": loss["high"], "series": series,
         "size": 130 if point["frozen"] == frozen else 45, "title": f"{point['frozen']} frozen: {point['site']}"}
        for point in curve
        for series, loss in (("means alone", point["loss"]), ("fine-tuned", point["finetuned"]))
        if loss is not None
    ]  # fmt: skip
    data = alt.Chart(alt.Data(values=values))
    colours = alt.Scale(domain=["means alone", "fine-tuned"], range=["var(--module-0)", "var(--module-3)"])
    stroke = alt.Stroke("series:N", scale=colours, legend=alt.Legend(orient="top", title=None, symbolType="stroke"))
    fill = alt.Fill("series:N", scale=colours, legend=None)
    x = alt.X("x:Q", title="time saved, ms")
    y = alt.Y("y:Q", title="points lost")
    layers: Any = alt.layer(
        data.mark_line(strokeWidth=2, aria=False).encode(x=x, y=y, stroke=stroke),
        data.mark_rule(strokeWidth=1.5, aria=False).encode(x=x, y=alt.Y("low:Q"), y2="high:Q", stroke=stroke),
        data.mark_point(opacity=1).encode(
            x=x, y=y, fill=fill, stroke=stroke, size=alt.Size("size:Q", scale=None), description="title:N"
        ),
    )
    return draw(layers.properties(width=width, height=300))


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
