"""The figures of Klomp et al. 2023 from measured cells: panels for the page, or a picture for a paper."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from recalib.errors import RecalibError, unknown
from recalib.measure.cells import BASELINE, Cell, fastest_forms
from recalib.report.curves import curves
from recalib.report.marks import Mark, marks
from recalib.report.rows import SETTING, facets_text, setting_of, varying, worth_naming
from recalib.report.scatter import scatter
from recalib.report.series import by_depth, images, overheads, side
from recalib.report.tradeoff import depth_points, module_points

_DIFFERENCE = "overhead over the plain network, %"


@dataclass(frozen=True)
class Panel:
    """One chart of a figure.

    Attributes:
        title: what it shows.
        svg: the chart; its colours are the variables of the page's style sheet.
        facets: what a reader can choose by: runtime, precision, resolution and so on.
    """

    title: str
    svg: str
    facets: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Figure:
    """A figure of the paper.

    Attributes:
        heading: what it is called on the page.
        note: how to read it.
        panels: makes its charts from cells.
    """

    heading: str
    note: str
    panels: Callable[[Sequence[Cell]], list[Panel]]


def find_figure(name: str) -> Figure:
    """A figure by its number in the paper.

    Raises:
        RecalibError: for another name.
    """
    if name not in FIGURES:
        raise unknown("figure", name, [*FIGURES, "table2"])
    return FIGURES[name]


def draw_figure(name: str, cells: Sequence[Cell], chosen: dict[str, str]) -> list[Panel]:
    """The panels of a figure that have the chosen facets.

    Raises:
        RecalibError: for an unknown figure, or where the cells give nothing to draw.
    """
    every = find_figure(name).panels(cells)
    kept = [panel for panel in every if all(panel.facets.get(key, value) == value for key, value in chosen.items())]
    if not kept:
        had = "; ".join(", ".join(panel.facets.values()) for panel in every)
        raise RecalibError(f"figure {name}: nothing to draw; {f'there is {had}' if had else NEEDED[name]}")
    return kept


def _costs(cells: Sequence[Cell]) -> list[Panel]:
    panels = []
    for facets, group in _groups(cells, ("resolution",)):
        # what a network costs on paper is that of its form as inserted: deploy folds norms away
        inserted = [cell for cell in group if not cell.deployed] or group
        first = list({(cell.model, cell.module): cell for cell in inserted}.values())
        macs = by_depth(first, lambda c: c.macs and c.macs / c.batch / 1e9, "GMACs an image")
        params = by_depth(first, lambda c: c.params and c.params / 1e6, "M parameters")
        for spots, y in ((macs, "GMACs an image"), (params, "parameters, M")):
            if spots:
                panels.append(Panel(f"{y}, {facets['resolution']} px", curves(spots, _look(cells), "", y), facets))
    return panels


def _times(cells: Sequence[Cell]) -> list[Panel]:
    panels = []
    for facets, group in _groups(fastest_forms(cells), ("runtime", *SETTING)):
        spots = by_depth(group, lambda c: c.latency_ms.median if c.latency_ms else None, "ms")
        svg = curves(spots, _look(cells), "", "median latency, ms")
        panels.append(Panel(_title(facets, cells), svg, facets))
    return panels


def _tradeoffs(cells: Sequence[Cell]) -> list[Panel]:
    panels, look = [], _look(cells)
    for facets, group in _groups(cells, ("runtime", *SETTING)):
        models = dict.fromkeys(cell.model for cell in group)
        pictures = [(model, _DIFFERENCE, module_points(group, model, facets["runtime"], look)) for model in models]
        pictures.append(("all networks", "median latency, ms", depth_points(group, facets["runtime"], look)))
        for model, x, points in pictures:
            if points:
                panels.append(Panel(f"{model}, {_title(facets, cells)}", scatter(points, x, 360, 280), facets))
    return panels


def _by_resolution(cells: Sequence[Cell]) -> list[Panel]:
    return _overheads(cells, "batch", side, "side of the images, px")


def _by_batch(cells: Sequence[Cell]) -> list[Panel]:
    return _overheads(cells, "resolution", images, "images in one forward pass")


def _overheads(cells: Sequence[Cell], fixed: str, along: Callable[[Cell], float], x_title: str) -> list[Panel]:
    panels = []
    for facets, group in _groups(fastest_forms(cells), ("runtime", "precision", fixed, "protocol", "machine", "code")):
        for model in dict.fromkeys(cell.model for cell in group):
            spots = overheads(group, model, along)
            if len({spot.x for spot in spots if not spot.reference}) > 1:
                svg = curves(spots, _look(cells), x_title, _DIFFERENCE, log=True)
                panels.append(Panel(f"{model}, {_title(facets, cells)}", svg, {"network": model, **facets}))
    return panels


FIGURES = {
    "2": Figure("What networks cost on paper", "Parameters and multiply-adds by depth.", _costs),
    "3": Figure("Time by depth", "Median latency of each network in its fastest form.", _times),
    "4": Figure(
        "Accuracy against time",
        "Accuracy is published, time is measured here. A faded module is behind another that gains as much and is "
        "certainly faster; the dashed line goes from one depth to the next.",
        _tradeoffs,
    ),
    "5": Figure(
        "Overhead by resolution",
        "Bars are 95 % intervals; grey hollow points cannot be told from no overhead; the dashed curve is the next "
        "deeper network.",
        _by_resolution,
    ),
    "6": Figure("Overhead by batch size", "Read as the figure by resolution.", _by_batch),
}
NEEDED = {
    "2": "no cell has its parameters and MACs",
    "3": "no cell has a latency",
    "4": "no network with a published accuracy was measured",
    "5": "no network was measured with modules at two resolutions",
    "6": "no network was measured with modules at two batch sizes",
}


def _look(cells: Sequence[Cell]) -> dict[str, Mark]:
    look = marks([BASELINE, *dict.fromkeys(cell.module for cell in cells)])
    return look | {"plain": look[BASELINE]}


def _groups(cells: Sequence[Cell], names: tuple[str, ...]) -> list[tuple[dict[str, str], list[Cell]]]:
    """Cells that share some facets."""

    def value(cell: Cell, name: str) -> Any:
        if name == "runtime":
            return cell.runtime
        setting = setting_of(cell)
        return (side(cell), setting[name]) if name == "resolution" else setting[name]

    def key(cell: Cell) -> tuple[Any, ...]:
        return tuple(value(cell, name) for name in names)

    groups = groupby(sorted(cells, key=key), key)
    return [
        ({name: str(v[1] if name == "resolution" else v) for name, v in zip(names, values, strict=True)}, list(group))
        for values, group in groups
    ]


def _title(facets: dict[str, str], cells: Sequence[Cell]) -> str:
    return facets_text(worth_naming(facets, varying(cells)))
