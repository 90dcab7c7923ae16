"""Altair charts as SVG text that takes its colours from the page's style sheet."""

from typing import Any

import altair as alt
import vl_convert

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif"


def draw(chart: alt.LayerChart) -> str:
    """Render a chart as an SVG to put inline into the page.

    Colours may be CSS variables, so one picture serves the light and the dark theme; it scales with its container.
    """
    axis: dict[str, Any] = {
        "domainColor": "var(--rule)",
        "tickColor": "var(--rule)",
        "gridColor": "var(--grid)",
        "labelColor": "var(--muted)",
        "titleColor": "var(--ink)",
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": 500,
        "titlePadding": 10,
        "tickCount": 6,
    }
    styled = (
        chart.configure(background="transparent", font=FONT, padding=2)
        .configure_axis(**axis)
        .configure_view(stroke=None)
        .configure_legend(labelColor="var(--ink)", labelFontSize=12)
    )
    svg: str = vl_convert.vegalite_to_svg(styled.to_dict(validate=False))
    return svg.replace('<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"', "<svg")
