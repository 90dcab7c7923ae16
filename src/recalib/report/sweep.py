"""A sweep's trials on the terminal."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

SHOWN = 20  # rows on a terminal


def show_sweep(results: Mapping[str, Any]) -> None:
    """Print the trials, the best first, and a sentence on the best."""
    console = Console(soft_wrap=True)
    trials, best = results["trials"], results["best"]
    if best is None:
        console.print("no trial is complete yet", highlight=False)
        return
    metrics = list(best["values"])
    front = set(results.get("pareto", ()))
    table = Table("trial", *best["params"], *metrics, "state")
    order = ranked(results)
    for trial in order[:SHOWN]:
        values = [_number(trial["values"].get(name)) for name in metrics]
        mark = "on the Pareto front" if trial["index"] in front else trial["state"]
        table.add_row(str(trial["index"]), *map(_number, trial["params"].values()), *values, mark)
    console.print(table)
    if len(order) > SHOWN:
        console.print(f"and {len(order) - SHOWN} more", highlight=False)
    told = ", ".join(f"{name} {_number(value)}" for name, value in best["params"].items())
    reached = ", ".join(f"{name} {_number(value)}" for name, value in best["values"].items())
    ended = sum(trial["state"] in ("complete", "pruned", "failed") for trial in trials)
    console.print(f"best of {ended}: trial {best['index']}, {told}: {reached}", highlight=False)


def ranked(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Trials from the best on, by the first metric; those without a value last."""
    first = next(iter(results["best"]["values"]))
    sign = -1 if results["goals"][first] == "maximize" else 1
    return sorted(results["trials"], key=lambda t: (first not in t["values"], sign * t["values"].get(first, 0.0)))


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)
