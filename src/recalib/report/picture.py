"""Panels as one SVG or PNG file for a paper, in the light theme's colours."""

import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

from recalib.errors import RecalibError, WorkFailed
from recalib.report.figures import Panel
from recalib.report.svg import FONT, vl_convert

_TITLE, _GAP = 24, 16  # px
_LIGHT = dict(
    re.findall(
        r"(--[\w-]+): light-dark\((#\w+),", Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    )
)  # fmt: skip


def write_picture(path: Path, panels: Sequence[Panel]) -> None:
    """Write panels below each other, each under its title.

    Args:
        path: ``*.svg`` or ``*.png`` (at twice its size).
        panels: at least one.

    Raises:
        RecalibError: for another kind of file.
        WorkFailed: if it cannot be written.
    """
    if path.suffix not in (".svg", ".png"):
        raise RecalibError(f"{path}: a figure is written as *.svg or *.png")
    svg = _stack(panels)
    data = svg.encode() if path.suffix == ".svg" else vl_convert.svg_to_png(svg, scale=2)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    except OSError as error:
        raise WorkFailed(f"cannot write {str(path)!r}: {error.strerror}") from None


def _stack(panels: Sequence[Panel]) -> str:
    parts, top, widest = [], 0.0, 0.0
    for panel in panels:
        width, height = (float(v) for v in re.findall(r'(?:width|height)="([\d.]+)"', panel.svg)[:2])
        parts.append(f'<text x="8" y="{top + 16}" font-size="13" font-weight="600">{escape(panel.title)}</text>')
        parts.append(panel.svg.replace("<svg", f'<svg x="0" y="{top + _TITLE}"', 1))
        top, widest = top + _TITLE + height + _GAP, max(widest, width)
    whole = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{widest}" height="{top}" viewBox="0 0 {widest} {top}" font-family="{escape(FONT)}">'
        f'<rect width="100%" height="100%" fill="var(--paper)"/>{"".join(parts)}</svg>'
    )
    return _plain_colours(whole)


def _plain_colours(svg: str) -> str:
    """Replace variables and mixtures of the style sheet, which only browsers know, by the colours they stand for."""
    named = re.sub(r"var\((--[\w-]+)\)", lambda match: _LIGHT[match[1]], svg)
    return re.sub(r"color-mix\(in srgb, (#\w{6}) (\d+)%, (#\w{6})\)", _mixed, named)


def _mixed(match: re.Match[str]) -> str:
    share = int(match[2]) / 100
    pairs = zip(bytes.fromhex(match[1][1:]), bytes.fromhex(match[3][1:]), strict=True)
    return "#" + "".join(f"{round(share * one + (1 - share) * other):02x}" for one, other in pairs)
