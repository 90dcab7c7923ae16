"""The one self-contained page about a run."""

import base64
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from recalib.benchmark.advice import runtimes
from recalib.benchmark.published import BASELINE
from recalib.report.figures import FIGURES, Panel
from recalib.report.marks import Mark, marks
from recalib.report.overheads import overhead_bars, percent_domain
from recalib.report.rows import Cell, Row, costs, median_text, module_title, overhead_cell, rows, setting, status_text
from recalib.report.scatter import scatter
from recalib.report.tradeoff import depth_points, module_points, sources
from recalib.version import __version__

_HERE = Path(__file__).parent
_HEADINGS = ("Which module", "What deploy gains", "Or a deeper network?")
_COLUMNS = ["network", "runtime", "module", "parameters", "GMACs", "MB moved", *["ms", "overhead, %"] * 2]
_STATES = {False: "as inserted", True: "deployed"}


def write_page(
    path: str | Path, cells: Sequence[Cell], machine: Mapping[str, Any], advice: Sequence[str], command: str
) -> None:
    """Write the page: advice, accuracy against time, overheads, every measurement, and how it was made.

    It is one file that loads nothing, scripts and pictures included, and everything it shows is escaped.

    Args:
        path: the HTML file to write.
        cells: what `recalib compare --json` writes.
        machine: its machine; nested mappings are shown on one line each.
        advice: what `recalib.benchmark.advice.advise` said about `cells`.
        command: the command line that measured them.
    """
    script = (_HERE / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = render(
        "template.html",
        **_content(cells, machine),
        advice=[line.replace(" %", "\u00a0%").replace(" ms", "\u00a0ms") for line in advice],
        headed=len(advice) % len(_HEADINGS) == 0,
        headings=_HEADINGS,
        command=command,
        script=Markup(script),
        script_hash=f"sha256-{digest}",
    )
    Path(path).write_text(page, encoding="utf-8")


def render(template: str, **content: Any) -> str:
    """A page with the house's style; everything in its content is escaped."""
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = Markup((_HERE / "page.css").read_text(encoding="utf-8"))
    return environment.get_template(template).render(content, version=__version__, style=style)


def _content(everything: Sequence[Cell], machine: Mapping[str, Any]) -> dict[str, Any]:
    cells = main_setting(everything)
    every = rows(cells)
    networks = list(dict.fromkeys(cell["model"] for cell in cells if cell["module"] != BASELINE))
    look = marks([BASELINE, *(cell["module"] for cell in cells)])
    tradeoffs = [panels for name in _by_speed(cells) if (panels := _tradeoffs(cells, name, networks, look))["panels"]]
    setup = any(cell.get("setup_s") is not None for cell in cells)
    return {
        "title": f"Channel attention in {', '.join(networks)}" if networks else "Channel attention",
        "setting": setting(cells),
        "device": machine.get("device", "this machine"),
        "tradeoffs": tradeoffs,
        "overheads": [group for model in networks if (group := _overheads(model, every, cells, look))["panels"]],
        "figures": _figures(everything) if len(cells) < len(everything) else [],
        "columns": [*_COLUMNS, *(["set-up, s"] if setup else [])],
        "setup": setup,
        "rows": [_table_row(row, look[row.module]) for row in every],
        "problems": _problems(cells),
        "machine": [(name.replace("_", " "), _flat(value)) for name, value in machine.items() if value is not None],
        "sources": sources(cells, [panels["runtime"] for panels in tradeoffs]) if tradeoffs else [],
    }


def main_setting(cells: Sequence[Cell]) -> list[Cell]:
    """The cells of the resolution, batch and precision that most cells have; of equals the first."""

    def setting_of(cell: Cell) -> tuple[str, int, str]:
        return str(cell["size"]), cell["batch"], cell["precision"]

    counts = Counter(map(setting_of, cells)).most_common(1)
    return [cell for cell in cells if setting_of(cell) == counts[0][0]] if counts else []


def _figures(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """The paper's figures of a grid over settings, with what a reader can choose by."""
    made = []
    for number, figure in FIGURES.items():
        if number != "4" and (panels := figure.panels(cells)):  # Fig. 4 is the page's first chart already
            made.append(
                {
                    "number": number,
                    "heading": figure.heading,
                    "note": figure.note,
                    "filters": _filters(panels),
                    "panels": [Panel(panel.title, Markup(panel.svg), panel.facets) for panel in panels],
                }
            )
    return made


def _filters(panels: Sequence[Panel]) -> list[tuple[str, list[str]]]:
    values: dict[str, list[str]] = {}
    for panel in panels:
        for name, value in panel.facets.items():
            if value not in values.setdefault(name, []):
                values[name].append(value)
    return [(name, found) for name, found in values.items() if len(found) > 1]


def _by_speed(cells: Sequence[Cell]) -> list[str]:
    """Every runtime that measured a plain network, those fastest for the first network first."""
    models = dict.fromkeys(cell["model"] for cell in cells)
    return list(dict.fromkeys(name for model in models for name in runtimes(cells, model)))


def _tradeoffs(cells: Sequence[Cell], runtime: str, networks: Sequence[str], look: dict[str, Mark]) -> dict[str, Any]:
    """One runtime's pictures: each network's modules, then all networks by depth."""
    pictures = [
        (model, "overhead over the plain network, %", module_points(cells, model, runtime, look)) for model in networks
    ]
    pictures.append(("All networks", "median latency, ms", depth_points(cells, runtime, look)))
    panels = [
        {"title": title, "wide": Markup(scatter(p, x, 420, 330)), "narrow": Markup(scatter(p, x, 270, 300))}
        for title, x, p in pictures
        if p
    ]
    return {"runtime": runtime, "panels": panels}


def _overheads(model: str, every: Sequence[Row], cells: Sequence[Cell], look: dict[str, Mark]) -> dict[str, Any]:
    of_model = [cell for cell in cells if cell["model"] == model]
    domain = percent_domain(of_model)
    panels = []
    for runtime in _by_speed(of_model):
        chosen = [row for row in every if (row.model, row.runtime) == (model, runtime)]
        panels.append({"runtime": runtime, "svg": Markup(overhead_bars(chosen, look, domain))})
    return {"model": model, "panels": panels}


def _table_row(row: Row, mark: Mark) -> dict[str, Any]:
    raw = (row.network.get("params"), row.network.get("macs"), row.network.get("bytes_moved"))
    waits = [cell["setup_s"] for cell in (row.before, row.after) if cell and cell.get("setup_s") is not None]
    return {
        "model": row.model,
        "runtime": row.runtime,
        "module": module_title(row.module),
        "mark": mark,
        "costs": [(text, "" if value is None else value) for text, value in zip(costs(row), raw, strict=True)],
        "times": [_time(cell) for cell in (row.before, row.after)],
        "setup": f"{max(waits):.1f}" if waits else "",
    }


def _time(cell: Cell | None) -> dict[str, Any]:
    status = status_text(cell)
    text, _, interval = overhead_cell(cell).partition(" ")
    return {
        "text": median_text(cell),
        "ms": cell["latency_ms"]["median"] if cell and cell["latency_ms"] else "",
        "overhead": status or text,
        "interval": interval,
        "ratio": cell["overhead"]["ratio"] if cell and cell["overhead"] else "",
        "bad": bool(status),
    }


def _problems(cells: Sequence[Cell]) -> list[tuple[str, list[str]]]:
    """Each kind of warning and each reason why a cell has no time, with the cells it befell."""
    found: dict[str, list[str]] = {}
    for cell in cells:
        where = ", ".join((cell["model"], cell["module"], cell["runtime"], _STATES[bool(cell["deployed"])]))
        for warning in cell.get("warnings") or ():
            kind, _, detail = warning.partition(": ")
            found.setdefault(kind, []).append(f"{where}: {detail}" if detail else where)
        if status := status_text(cell):
            found.setdefault(": ".join(filter(None, (status, cell.get("message")))), []).append(where)
        if cell.get("complete") is False:
            found.setdefault("incomplete: interrupted before its last round", []).append(where)
    return list(found.items())


def _flat(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_flat(inner)}" for name, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_flat, value))
    return str(value)
