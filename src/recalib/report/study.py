"""A study on the terminal and as a page: gains with their intervals, accuracy against time, curves."""

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from markupsafe import Markup
from rich.console import Console
from rich.table import Table

from recalib.report.marks import Mark, marks
from recalib.report.page import render
from recalib.report.svg import alt, draw
from recalib.report.trained import seed_curves
from recalib.training.table import SCORED, NetworkRow

COLUMNS = ("network", "parameters", "MMACs", "ms", "overhead, %", "seeds", "score", "gain")


def show_study(results: Mapping[str, Any]) -> None:
    """Print the table and what follows from it."""
    console = Console(soft_wrap=True)
    table = Table(*COLUMNS, box=None)
    for network in results["networks"]:
        table.add_row(*_cells(network))
    console.print(table)
    for line in (*results["sentences"], *notes_of(results)):
        console.print(line, highlight=False, markup=False)


def markdown(results: Mapping[str, Any]) -> str:
    """The table for a README."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(_cells(network))} |" for network in results["networks"])])


def study_page(results: Mapping[str, Any], command: str) -> str:
    """The page as HTML; it loads nothing.

    Args:
        results: of `recalib.study.study.run_study`.
        command: the command line that made it.
    """
    names = [network["name"] for network in results["networks"]]
    kinds = marks([network["attention"] for network in results["networks"]])
    spare = marks(names)  # a larger network, and the same module in other places, look different
    seen: set[str] = set()
    look: dict[str, Mark] = {}
    for network in results["networks"]:
        kind = network["attention"]
        look[network["name"]] = spare[network["name"]] if kind in seen else kinds[kind]
        seen.add(kind)
    trained = [_row(network) for network in results["networks"] if network["curve"]]
    timed = [network for network in results["networks"] if network.get("ms") and network["scores"]]
    charts = {
        "wide": Markup(seed_curves(trained, look, 960)) if trained else "",
        "narrow": Markup(seed_curves(trained, look, 270)) if trained else "",
        "against": Markup(against_time(timed, look, results["score"], 640)) if timed else "",
        "against_narrow": Markup(against_time(timed, look, results["score"], 270)) if timed else "",
    }
    rows = [{"cells": _cells(network), "mark": look[network["name"]]} for network in results["networks"]]
    title = f"Does attention help {results['model']}?"
    return render(
        "study.html", title=title, columns=COLUMNS, rows=rows, sentences=results["sentences"],
        notes=notes_of(results), recipe=results["study"], command=command, score=results["score"], **charts,
    )  # fmt: skip


def against_time(networks: Sequence[Mapping[str, Any]], look: Mapping[str, Mark], score: str, width: int) -> str:
    """Score against time over the plain network's, both with intervals, and the line to the larger network.

    Args:
        networks: that have both.
        look: a mark for each, by name.
        score: its name.
        width: of the plotting area in px.
    """
    values = []
    for network in networks:
        ratio, low, high = network["overhead"]
        half = _half(network)
        values.append({
            "network": network["name"], "x": 100 * (ratio - 1), "x1": 100 * (low - 1), "x2": 100 * (high - 1),
            "y": network["mean"], "y1": network["mean"] - half, "y2": network["mean"] + half,
            "colour": look[network["name"]].colour, "shape": look[network["name"]].shape,
        })  # fmt: skip
    data = alt.Chart(alt.Data(values=values))
    x = alt.X("x:Q", title="time over the plain network's, %", scale=alt.Scale(zero=False, padding=20))
    y = alt.Y("y:Q", title=f"{score}, %", scale=alt.Scale(zero=False, padding=20))
    colour = alt.Stroke("colour:N", scale=None)
    ends = [value for value, n in zip(values, networks, strict=True) if n["role"] != "module"]
    line = alt.Chart(alt.Data(values=ends)).mark_line(strokeDash=[5, 4], stroke="var(--muted)", aria=False)
    points = data.mark_point(size=90, opacity=1, strokeWidth=1.5).encode(
        fill=alt.Fill("colour:N", scale=None), stroke=colour, shape=alt.Shape("shape:N", scale=None), x=x, y=y,
        description="network:N",
    )  # fmt: skip
    layers: Any = alt.layer(
        line.encode(x=x, y=y),
        data.mark_rule(strokeWidth=1.5, aria=False).encode(x="x1:Q", x2="x2:Q", y=y, stroke=colour),
        data.mark_rule(strokeWidth=1.5, aria=False).encode(y="y1:Q", y2="y2:Q", x=x, stroke=colour),
        points,
        data.mark_text(dx=10, dy=-8, align="left", aria=False).encode(
            x=x, y=y, text="network:N", fill=alt.value("var(--ink)")
        ),
    )
    return draw(layers.properties(width=width, height=320))


def _half(network: Mapping[str, Any]) -> float:
    """Half of the 95 % interval of a mean over seeds by itself; 0 where one seed tells none."""
    from scipy.stats import t

    n = len(network["scores"])
    return float(t.ppf(0.975, n - 1)) * network["std"] / n**0.5 if n > 1 else 0.0


def _row(network: Mapping[str, Any]) -> NetworkRow:
    """The network's curve as `recalib report` draws those of runs."""
    curve = [(fmean(epoch), stdev(epoch) if len(epoch) > 1 else 0.0) for epoch in network["curve"]]
    return NetworkRow(network["name"], network["name"], "", SCORED[0], {}, curve, {})


def _cells(network: Mapping[str, Any]) -> list[str]:
    ratio = network.get("overhead")
    n, mean, std, gain = len(network["scores"]), network["mean"], network["std"], network["gain"]
    return [
        network["name"],
        f"{network['params']:,}" if "params" in network else "",
        f"{network['macs'] / 1e6:.1f}" if "macs" in network else "",
        f"{network['ms']:.2f}" if network.get("ms") else "",
        " [".join([f"{100 * (ratio[0] - 1):+.1f}", f"{100 * (ratio[1] - 1):.1f}, {100 * (ratio[2] - 1):.1f}]"])
        if ratio and network["role"] != "baseline"
        else "",
        str(n),
        "" if mean is None else f"{mean:.2f}" + (f" ± {std:.2f}" if std is not None else ""),
        "" if gain is None else _difference(gain),
    ]


def _difference(gain: Mapping[str, Any]) -> str:
    interval = "" if gain["low"] is None else f" [{gain['low']:.2f}, {gain['high']:.2f}]"
    return f"{gain['points']:+.2f}{interval}"


def notes_of(results: Mapping[str, Any]) -> list[str]:
    """Missing runs, and the gain that the study can show."""
    found = []
    if missing := results["missing"]:
        runs = sum(missing.values())
        found.append(
            f"{runs} of {results['seeds'] * len(results['networks'])} runs are missing "
            f"({', '.join(f'{name} {count}' for name, count in missing.items())}): this study is open"
        )
    if results["detectable"] is not None:
        found.append(
            f"scatter of a run: {results['deviation']:.2f} points; four of five such studies would show a gain of "
            f"{results['detectable']:.2f}"
        )
    return found
