"""The one self-contained page about a run."""

import base64
import hashlib
import re
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from recalib.choose.published_times import times
from recalib.choose.rules import runtimes
from recalib.choose.verdict import verdicts
from recalib.measure.cells import BASELINE, Cell
from recalib.report import evaluated
from recalib.report.figures import FIGURES, Panel
from recalib.report.marks import Mark, marks
from recalib.report.overheads import overhead_bars, percent_domain, published_bars
from recalib.report.rows import (
    Row,
    costs,
    counted,
    facets_of,
    facets_text,
    is_like_plain,
    median_text,
    module_title,
    overhead_cell,
    rows,
    setting,
    setting_of,
    status_text,
    varying,
    worth_naming,
)
from recalib.report.scatter import Point, scatter
from recalib.report.series import side
from recalib.report.table2 import HEADINGS, table2_rows
from recalib.report.tradeoff import depth_points, module_points, sources
from recalib.version import __version__

_HERE = Path(__file__).parent
_HEADINGS = ("Which module", "What deploy gains", "Or a deeper network?")
_COLUMNS = ["parameters", "GMACs", "MB moved", *["ms", "overhead, %"] * 2]
_OVERHEAD = "overhead over the plain network, %"
_PAPER = ("fp32", "224", "1")  # precision, resolution and batch of its Table 2
_STATES = {False: "as inserted", True: "deployed"}


_MANY = 60  # rows; a page of more has charts of many settings


class Filter(NamedTuple):
    """One choice of a reader: an empty value stands for all."""

    name: str
    values: list[str]
    chosen: str


def write_page(
    path: str | Path, cells: Sequence[Cell], machine: Mapping[str, Any], advice: Sequence[str], command: str
) -> None:
    """Write the page: the verdict, advice, accuracy against time, overheads, every measurement, and how it was made.

    It is one file that loads nothing, scripts and pictures included, and everything it shows is escaped.

    Args:
        path: the HTML file to write.
        cells: what `recalib compare --json` writes.
        machine: its machine; nested mappings are shown on one line each.
        advice: what `recalib.choose.advice.advise` said about `cells`.
        command: the command line that measured them.
    """
    content = _content(cells, machine)
    script = (_HERE / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = render(
        "template.html",
        **content,
        verdicts=_verdicts(cells, content["overheads"]),
        advice=[_unbroken(line) for line in advice],
        headed=len(advice) % len(_HEADINGS) == 0,
        headings=_HEADINGS,
        command=command,
        script=Markup(script),
        script_hash=f"sha256-{digest}",
    )
    Path(path).write_text(page, encoding="utf-8")


def _verdicts(cells: Sequence[Cell], drawn: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each sentence beside the overheads that it speaks of: of its network in its fastest runtime."""
    main = main_setting(cells)
    one = setting_of(main[0]) if main else {}
    charts = {group["model"]: next((p for p in group["panels"] if p.facets == one), None) for group in drawn}
    networks = list(dict.fromkeys(cell.model for cell in main if cell.module != BASELINE))
    shown = []
    for model, sentence in zip(networks, verdicts(main), strict=True):
        panel = charts.get(model)
        title = f"{model}, {panel.title}" if panel else ""
        shown.append({"sentence": _unbroken(sentence), "title": title, "svg": panel and panel.svg})
    return shown


def _unbroken(line: str) -> str:
    """A line whose numbers stay with their units."""
    return line.replace(" %", "\u00a0%").replace(" ms", "\u00a0ms")


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


def _content(cells: Sequence[Cell], machine: Mapping[str, Any]) -> dict[str, Any]:
    every = rows(cells)
    networks = list(dict.fromkeys(cell.model for cell in cells if cell.module != BASELINE))
    look = marks([BASELINE, *(cell.module for cell in cells)])
    main, vary = main_setting(cells), varying(cells)
    preferred = setting_of(main[0]) if main else {}
    tradeoffs = _tradeoffs(cells, networks, look)
    overheads = [group for model in networks if (group := _overheads(model, every, look))["panels"]]
    timed = [one for model in networks for one in times(model)]
    setup = any(cell.setup_s is not None for cell in cells)
    is_grid = bool(vary) or len(networks) > 1
    table = [_table_row(row, look[row.module], vary) for row in every]
    fastest = _by_speed(main)[:1] or [""]
    preferred = {"network": "", "runtime": fastest[0], **preferred}
    filters = _filters([row["facets"] for row in table], preferred)
    problems, usual = _problems(cells, vary)
    figures, files = _figures(cells) if is_grid else [], _files(cells)
    table2 = _table2(cells) if is_grid else None
    return {
        "title": f"Channel attention in {', '.join(networks)}" if networks else "Channel attention",
        "setting": setting(cells),
        "advised": facets_text(worth_naming(preferred, vary)) if vary else "",
        "device": machine.get("device", "this machine"),
        "tradeoffs": tradeoffs,
        "overheads": overheads,
        "processes": _processes(cells),
        "published_times": f"{timed[0].label}, Table 2: {timed[0].setting}" if timed else "",
        "filters": filters,
        "packed": len(every) > _MANY,
        "pack": _packed,
        "figures": figures,
        "table2": table2,
        "columns": ["module", "network", "runtime", *vary, *_COLUMNS, *(["set-up, s"] if setup else [])],
        "named": 3 + len(vary),
        "setup": setup,
        "rows": table,
        "files": files,
        "problems": problems,
        "usual": usual,
        "contents": _contents(tradeoffs, figures, files, table2, problems),
        "machine": [(name.replace("_", " "), _flat(value)) for name, value in machine.items() if value is not None],
        "sources": sources(cells, [group["runtime"] for group in tradeoffs]) if tradeoffs else [],
    }


def main_setting(cells: Sequence[Cell]) -> list[Cell]:
    """The cells of the setting that most cells have; of equals the paper's one, else the first."""
    counts = Counter(tuple(setting_of(cell).values()) for cell in cells)
    main = max(counts, key=lambda one: (counts[one], one[: len(_PAPER)] == _PAPER), default=None)
    return [cell for cell in cells if tuple(setting_of(cell).values()) == main]


def _settings(cells: Sequence[Cell]) -> list[tuple[dict[str, str], list[Cell]]]:
    """Each setting with its cells."""
    found: dict[tuple[str, ...], list[Cell]] = {}
    for cell in cells:
        found.setdefault(tuple(setting_of(cell).values()), []).append(cell)
    return [(setting_of(group[0]), group) for group in found.values()]


def _figures(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """The paper's figures of a grid over settings."""
    made = []
    for number, figure in FIGURES.items():
        if number != "4" and (panels := figure.panels(cells)):  # Fig. 4 is the page's first chart already
            made.append(
                {
                    "number": number,
                    "heading": figure.heading,
                    "note": figure.note,
                    "panels": [Panel(panel.title, Markup(panel.svg), panel.facets) for panel in panels],
                }
            )
    return made


def _table2(cells: Sequence[Cell]) -> dict[str, Any]:
    return {"columns": HEADINGS, "lines": table2_rows(cells)}


def _files(cells: Sequence[Cell]) -> dict[str, Any] | None:
    """Accuracy and time of the same file; None where nothing was evaluated."""
    lines = evaluated.lines(cells)
    if not lines:
        return None
    told = next(cell.accuracy for cell in cells if cell.accuracy) or {}
    return {
        "note": evaluated.CAPTION,
        "images": f"{told['images']} {told['source']}",
        "named": evaluated.headings(cells),
        "counted": evaluated.COUNTED,
        "lines": lines,
    }


def _contents(tradeoffs: Any, figures: Sequence[Mapping[str, Any]], files: Any, table2: Any, problems: Any) -> Any:
    """Anchors and headings of the sections that the page has."""
    charts = [(f"figure-{figure['number']}", figure["heading"]) for figure in figures]
    return [
        *[("accuracy", "Accuracy against time")] * bool(tradeoffs),
        ("overhead", "Overhead"),
        *charts,
        *[("same-file", "Accuracy and time of the same file")] * bool(files),
        *[("table-2", "Cost, accuracy and time")] * bool(table2),
        ("measurements", "Every measurement"),
        *[("warnings", "Warnings")] * bool(problems),
        ("made", "How it was measured"),
    ]


def _filters(facets: Sequence[Mapping[str, str]], preferred: Mapping[str, str]) -> list[Filter]:
    """Differences among facets, with the value that is chosen at first; an empty one stands for all."""
    found: dict[str, dict[str, None]] = {}
    for one in facets:
        for name, value in one.items():
            found.setdefault(name, {})[value] = None
    filters = []
    for name, values in found.items():
        ordered = sorted(values, key=_numbers) if name in ("resolution", "batch") else list(values)
        if len(values) > 1:
            filters.append(Filter(name, ["", *ordered], preferred.get(name, "")))
    return filters


def _packed(svg: str) -> str:
    """A chart in a twelfth of its characters; the page's script unpacks it."""
    return base64.b64encode(zlib.compress(svg.encode(), 9)).decode()


def _numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]


def _by_speed(cells: Sequence[Cell]) -> list[str]:
    """Every runtime that measured a plain network, those fastest for the first network first."""
    models = dict.fromkeys(cell.model for cell in cells)
    return list(dict.fromkeys(name for model in models for name in runtimes(cells, model)))


def _tradeoffs(cells: Sequence[Cell], networks: Sequence[str], look: dict[str, Mark]) -> list[dict[str, Any]]:
    """For every runtime, fastest first, and setting: each network's modules, then all networks by depth."""
    groups: list[dict[str, Any]] = []
    vary = varying(cells)
    for runtime in _by_speed(cells):
        for one, found in _settings(cells):
            named = facets_text({"runtime": runtime, **{name: one[name] for name in vary}})
            pictures = [(model, _OVERHEAD, module_points(found, model, runtime, look)) for model in networks]
            pictures.append(("All networks", "median latency, ms", depth_points(found, runtime, look)))
            panels = [_drawn(f"{title}, {named}", p, x, both=not vary) for title, x, p in pictures if p]
            if panels:
                facets = {"runtime": runtime, **one}
                groups.append({"runtime": runtime, "facets": facets, "panels": panels})
    return groups


def _drawn(title: str, points: Sequence[Point], x_title: str, *, both: bool) -> dict[str, Any]:
    """A picture for wide and one for narrow screens, or, since a grid has many, one in between."""
    sizes = {"wide": (420, 330), "narrow": (270, 300)} if both else {"": (310, 290)}
    return {"title": title, "charts": {name: Markup(scatter(points, x_title, *size)) for name, size in sizes.items()}}


def _overheads(model: str, every: Sequence[Row], look: dict[str, Mark]) -> dict[str, Any]:
    of_model = [row for row in every if row.model == model]
    measured = [cell for row in of_model for cell in (row.before, row.after) if cell]
    vary, panels = varying([cell for row in every for cell in (row.before, row.after) if cell]), []
    for one, cells in _settings(measured):
        domain = percent_domain(cells)
        for runtime in _by_speed(cells):
            chosen = [row for row in of_model if row.runtime == runtime and row.setting == one]
            title = facets_text({"runtime": runtime, **{name: one[name] for name in vary}})
            panels.append(Panel(title, Markup(overhead_bars(chosen, look, domain)), one))
    if panels:  # published ones have no setting of ours, so that they stand beside whatever is chosen
        panels += [Panel(f"{one.framework}, published", Markup(published_bars(one, look))) for one in times(model)]
    return {"model": model, "panels": panels}


def _table_row(row: Row, mark: Mark, vary: Sequence[str]) -> dict[str, Any]:
    raw = counted(row.network)
    waits = [cell.setup_s for cell in (row.before, row.after) if cell and cell.setup_s is not None]
    return {
        "model": row.model,
        "runtime": row.runtime,
        "facets": facets_of(row.network),
        "setting": [(row.setting[name], side(row.network) if name == "resolution" else "") for name in vary],
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
        "ms": f"{cell.latency_ms.median:.6g}" if cell and cell.latency_ms else "",
        "overhead": status or text,
        "interval": interval,
        "ratio": f"{cell.overhead.ratio:.6g}" if cell and cell.overhead else "",
        "bad": bool(status),
        "same": is_like_plain(cell),
    }


def _problems(cells: Sequence[Cell], vary: Sequence[str]) -> tuple[list[tuple[str, list[str]]], list[str]]:
    """Warnings and reasons why cells have no time, each with its cells; and, in a line, what befell most of them."""
    found: dict[str, list[str]] = {}
    for cell in cells:
        named = facets_text({name: setting_of(cell)[name] for name in vary})
        words = cell.model, cell.module, cell.runtime, named, _STATES[bool(cell.deployed)]
        where = ", ".join(filter(None, words))
        for warning in cell.warnings:
            kind, _, detail = warning.partition(": ")
            found.setdefault(kind, []).append(f"{where}: {detail}" if detail else where)
        if status := status_text(cell):
            found.setdefault(": ".join(filter(None, (status, cell.message))), []).append(where)
        if cell.complete is False:
            found.setdefault("incomplete: interrupted before its last round", []).append(where)
    usual = [kind for kind, where in found.items() if len(where) > max(4, len(cells) / 2)]
    lines = [f"{kind.capitalize()}: {len(found[kind])} of {len(cells)} cells, so that it marks none." for kind in usual]
    return [(kind, where) for kind, where in found.items() if kind not in usual], lines


def _processes(cells: Sequence[Cell]) -> str:
    """Number of processes that measured the cells, which decides what their intervals hold."""
    counts = Counter(len(cell.processes) for cell in cells if cell.latency_ms)
    if len(counts) == 1:
        return f"Every cell was measured by {_of(*counts)}."
    words = [f"{number} cells by {_of(processes)}" for processes, number in sorted(counts.items(), reverse=True)]
    return f"Measured were {'; '.join(words)}." if words else ""


def _of(processes: int) -> str:
    return f"{processes} processes, far apart in time" if processes > 1 else (
        "one process, whose intervals hold what differs from round to round, not from one process to the next"
    )  # fmt: skip


def _flat(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_flat(inner)}" for name, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_flat, value))
    return str(value)
