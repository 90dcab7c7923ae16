"""A sweep's trials on the terminal and as a page: curves, parallel coordinates, importances, the Pareto front."""

import math
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup
from rich.console import Console
from rich.table import Table

from recalib.measure.cells import BASELINE
from recalib.report.marks import marks
from recalib.report.page import render
from recalib.report.svg import alt, draw

SHOWN = 20  # rows on a terminal
Trial = Mapping[str, Any]


def show_sweep(results: Mapping[str, Any]) -> None:
    """Print the trials, the best first, and a sentence on the best."""
    console = Console(soft_wrap=True)
    if results["best"] is None:
        console.print("no trial is complete yet", highlight=False)
        return
    heading, rows = _table(results)
    table = Table(*heading)
    for row in rows[:SHOWN]:
        table.add_row(*row)
    console.print(table)
    if len(rows) > SHOWN:
        console.print(f"and {len(rows) - SHOWN} more", highlight=False)
    console.print(verdict(results), highlight=False)


def verdict(results: Mapping[str, Any]) -> str:
    """The best trial in a sentence."""
    trials, best = results["trials"], results["best"]
    ended = sum(trial["state"] in ("complete", "pruned", "failed") for trial in trials)
    return f"Best of {ended}: trial {best['index']}, {_told(best['params'])}: {_told(best['values'])}"


def sweep_page(results: Mapping[str, Any], command: str) -> str:
    """The page as HTML. It loads nothing.

    Args:
        results: of `recalib.study.sweep.sweep`, with at least one complete trial.
        command: the command line that made the page.
    """
    heading, rows = _table(results)
    drawn = {
        "curves": _curves if results["curve"] else None,
        "parallel": _parallel,
        "front": _front if len(results["goals"]) > 1 else None,
        "importances": _importances if results["importances"] else None,
    }
    pictures = {
        name: [Markup(picture(results, width)) for width in (900, 270)] if picture else None
        for name, picture in drawn.items()
    }
    return render(
        "sweep.html", title="A sweep", verdict=verdict(results), settings=_settings(results["settings"]),
        pictures=pictures, heading=heading, rows=rows, front=results.get("pareto"), metrics=list(results["goals"]),
        command=command,
        made=shlex.join(results["environment"]["command"]),
        failed=[t for t in results["trials"] if t["state"] == "failed"],
    )  # fmt: skip


def _settings(settings: Mapping[str, Any]) -> str:
    recipe = settings["recipe"]
    images = f"the first {recipe['limit']} training images" if recipe["limit"] else "all training images"
    return (
        f"method {settings['space']['method'] or 'bayes'}, seed {settings['seed']}, at most {settings['parallel']} "
        f"trials at a time; {recipe['dataset']}, {images}, {recipe['holdout']:.0%} of them set aside and compared on; "
        f"{recipe['epochs']} epochs"
    )


def _ranked(results: Mapping[str, Any]) -> list[Trial]:
    """Trials from the best on, by the first metric; those without a value last."""
    first, goal = next(iter(results["goals"].items()))
    sign = -1 if goal == "maximize" else 1
    return sorted(results["trials"], key=lambda t: (first not in t["values"], sign * t["values"].get(first, 0.0)))


def _table(results: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    metrics, front = list(results["goals"]), set(results.get("pareto", ()))
    rows = []
    for trial in _ranked(results):
        values = [_number(trial["values"].get(name)) for name in metrics]
        state = "on the Pareto front" if trial["index"] in front else trial["state"]
        rows.append([str(trial["index"]), *map(_number, trial["params"].values()), *values, state])
    return ["trial", *results["best"]["params"], *metrics, "state"], rows


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)


def _told(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_number(value)}" for name, value in values.items())


def _colours(trials: Sequence[Trial]) -> dict[int, tuple[str, str]]:
    """Of every trial: its module, and that module's colour everywhere on our pages."""
    modules = [trial["recipe"].get("attention") or BASELINE for trial in trials]
    look = marks(modules)
    return {t["index"]: (module, look[module].colour) for t, module in zip(trials, modules, strict=True)}


def _stroke(colours: Mapping[int, tuple[str, str]]) -> "alt.Stroke":
    pairs = dict(colours.values())
    legend = alt.Legend(orient="top", title=None, symbolType="stroke", symbolStrokeWidth=2.5, symbolOpacity=1)
    return alt.Stroke(
        "module:N",
        scale=alt.Scale(domain=list(pairs), range=list(pairs.values())),
        legend=legend if len(pairs) > 1 else None,
    )


def _curves(results: Mapping[str, Any], width: int) -> str:
    """The metric after every epoch, a line a trial, the best one's thick."""
    metric, colours, best = results["curve"], _colours(results["trials"]), results["best"]["index"]
    values = [
        {"trial": trial["index"], "epoch": int(epoch), "value": value, "module": colours[trial["index"]][0],
         "width": 3.5 if trial["index"] == best else 1.2,
         "title": f"trial {trial['index']}: {_told(trial['params'])}; epoch {epoch}: {_number(value)}"}
        for trial in results["trials"]
        for epoch, value in trial["curve"].items()
    ]  # fmt: skip
    epochs = sorted({value["epoch"] for value in values})
    data = alt.Chart(alt.Data(values=values))
    axis = alt.Axis(format="d", values=epochs if len(epochs) <= 12 else alt.Undefined)
    line = data.mark_line(point=alt.OverlayMarkDef(size=14, filled=True), aria=False).encode(
        x=alt.X("epoch:Q", title="epoch", scale=alt.Scale(nice=False), axis=axis),
        y=alt.Y("value:Q", title=f"{metric}, images set aside", scale=alt.Scale(zero=False)),
        detail="trial:N",
        stroke=_stroke(colours),
        strokeWidth=alt.StrokeWidth("width:Q", scale=None),
        description="title:N",
    )
    layers: Any = alt.layer(line)
    return draw(layers.properties(width=width, height=300))


def _parallel(results: Mapping[str, Any], width: int) -> str:
    """Parallel coordinates: an axis for every parameter and metric, a line for every complete trial."""
    trials = [trial for trial in results["trials"] if trial["state"] == "complete"]
    columns = {name: [t["params"][name] for t in trials] for name in results["best"]["params"]}
    columns |= {name: [t["values"][name] for t in trials] for name in results["goals"]}
    colours, best = _colours(results["trials"]), results["best"]["index"]
    places, ticks = {}, []
    for name, column in columns.items():
        where, labels = _axis(column)
        places[name] = where
        ticks += [{"axis": name, "at": at, "label": label} for label, at in labels.items()]
    values = [
        {"trial": trial["index"], "axis": name, "at": places[name][i], "module": colours[trial["index"]][0],
         "width": 3.5 if trial["index"] == best else 1.2}
        for i, trial in enumerate(trials)
        for name in columns
    ]  # fmt: skip
    x = alt.X("axis:N", title=None, sort=list(columns), axis=alt.Axis(labelAngle=-30, grid=True, domain=False))
    y = alt.Y("at:Q", axis=None, scale=alt.Scale(domain=[-0.05, 1.05], nice=False))
    line = alt.Chart(alt.Data(values=values)).mark_line(aria=False, opacity=0.85)
    label = alt.Chart(alt.Data(values=ticks)).mark_text(fontSize=12, dx=5, align="left", fill="var(--ink)", aria=False)
    lines = line.encode(
        x=x, y=y, detail="trial:N", stroke=_stroke(colours), strokeWidth=alt.StrokeWidth("width:Q", scale=None)
    )
    layers: Any = alt.layer(lines, label.encode(x=x, y=y, text="label:N"))
    return draw(layers.properties(width=width, height=300))


def _axis(column: Sequence[Any]) -> tuple[list[float], dict[str, float]]:
    """Places from 0 to 1 of a column's values, and of the labels beside its axis; wide ranges are logarithmic."""
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in column) or (
        len(set(column)) <= 6 and all(isinstance(value, int) for value in column)
    ):
        words = sorted(set(column), key=lambda v: (not isinstance(v, int | float), v if isinstance(v, int) else str(v)))
        at = {word: i / max(1, len(words) - 1) for i, word in enumerate(words)}
        return [at[value] for value in column], {_number(word): place for word, place in at.items()}
    low, high = min(column), max(column)
    if low == high:
        return [0.5] * len(column), {_number(float(low)): 0.5}
    of = math.log if low > 0 and high / low > 20 else float
    places = [(of(value) - of(low)) / (of(high) - of(low)) for value in column]
    return places, {_number(float(low)): 0.0, _number(float(high)): 1.0}


def _importances(results: Mapping[str, Any], width: int) -> str:
    values = [{"name": name, "share": 100 * share} for name, share in results["importances"].items()]
    bars = alt.Chart(alt.Data(values=values)).mark_bar(fill="var(--accent)", height={"band": 0.6}, aria=False)
    layers: Any = alt.layer(
        bars.encode(
            x=alt.X("share:Q", title="share of the variation explained, % (PED-ANOVA)"),
            y=alt.Y("name:N", title=None, sort=[value["name"] for value in values]),
        )
    )
    return draw(layers.properties(width=width, height=34 * len(values)))


def _front(results: Mapping[str, Any], width: int) -> str:
    """The second metric against the first, the Pareto front as a line."""
    first, second = list(results["goals"])[:2]
    colours, front = _colours(results["trials"]), results["pareto"]
    values = [
        {"x": t["values"][second], "y": t["values"][first], "module": colours[t["index"]][0],
         "fill": colours[t["index"]][1] if t["index"] in front else "var(--paper)",
         "title": f"trial {t['index']}: {_told(t['params'])}; {_told(t['values'])}", "front": t["index"] in front}
        for t in results["trials"]
        if t["state"] == "complete"
    ]  # fmt: skip
    x = alt.X("x:Q", title=second, scale=alt.Scale(zero=False, padding=12))
    y = alt.Y("y:Q", title=first, scale=alt.Scale(zero=False, padding=12))
    on = alt.Chart(alt.Data(values=[value for value in values if value["front"]]))
    line = on.mark_line(stroke="var(--plain)", strokeDash=[5, 4], strokeWidth=1.5, aria=False).encode(x=x, y=y)
    points = alt.Chart(alt.Data(values=values)).mark_point(size=80, strokeWidth=1.6, opacity=1)
    spots = points.encode(x=x, y=y, stroke=_stroke(colours), fill=alt.Fill("fill:N", scale=None), description="title:N")
    layers: Any = alt.layer(line, spots)
    return draw(layers.properties(width=width, height=300))
