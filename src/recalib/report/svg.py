"""Altair charts as SVG text that takes its colours from the page's style sheet."""

import importlib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from recalib.errors import require_packages


class _OnUse:
    """A package that is imported when it is first asked for something."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        require_drawing()
        return getattr(importlib.import_module(self._name), attribute)


if TYPE_CHECKING:
    import altair as alt
    import vl_convert
else:
    alt, vl_convert = _OnUse("altair"), _OnUse("vl_convert")

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif"


def require_drawing() -> None:
    """Do nothing where charts can be drawn; call it before long work that ends in a page.

    Raises:
        RecalibError: with the command that installs what is missing.
    """
    require_packages(("altair", "vl_convert"), "report", "pages and figures")


Json = dict[str, Any]


def field(shorthand: str, **more: Any) -> Json:
    """A channel of Vega-Lite: ``x:Q`` is the quantitative field x, ``module:N`` the nominal field module."""
    name, _, kind = shorthand.partition(":")
    return {"field": name, **({"type": {"Q": "quantitative", "N": "nominal"}[kind]} if kind else {}), **more}


def own(shorthand: str) -> Json:
    """A channel whose values are colours, dashes or shapes as they are."""
    return field(shorthand, scale=None)


def layer(values: Sequence[Json], mark: str, look: Json, **channels: Json) -> Json:
    """One layer of a chart; plain Vega-Lite, for Altair's objects take ten times as long as drawing does."""
    return {"data": {"values": list(values)}, "mark": {"type": mark, **look}, "encoding": channels}


def draw(chart: "alt.LayerChart | Json") -> str:
    """Render a chart as an SVG to put inline into the page.

    Colours may be CSS variables, so one picture serves the light and the dark theme; it scales with its container.

    Args:
        chart: a chart of Vega-Lite, or one of Altair's.
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
    spec = chart if isinstance(chart, dict) else chart.to_dict(validate=False)
    spec["config"] = {
        "background": "transparent",
        "font": FONT,
        "padding": 2,
        "axis": axis,
        "view": {"stroke": None},
        "legend": {"labelColor": "var(--ink)", "labelFontSize": 12},
    }
    return _lean(vl_convert.vegalite_to_svg(spec))


def _lean(svg: str) -> str:
    """The same picture in fewer characters: hundredths of a px, the font said once, nothing invisible or by default."""
    svg = svg.replace(' xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"', "", 1)
    svg = svg.replace(f' font-family="{FONT}"', "").replace("<svg", f'<svg font-family="{FONT}"', 1)
    svg = re.sub(r'<path class="(?:back|fore)ground"[^>]* d="(?:M0,0h0v0h0Z)?"[^>]*/>', "", svg)
    svg = re.sub(r' (?:opacity="1"|stroke-width="1"|[xy]2="0"|transform="translate\(0,0\)")(?=[ />])', "", svg)
    return re.sub(r'(?<= )(?:transform|d|width|height|x2|y2)="[^"]*"', _rounded, svg)


def _rounded(attribute: re.Match[str]) -> str:
    return re.sub(
        r"\d+\.\d{3,}(?:e-\d+)?", lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), attribute[0]
    )
