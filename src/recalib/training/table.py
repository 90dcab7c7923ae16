"""Mean and deviation over seeds, in the form of Klomp et al.'s Table 1."""

import statistics
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from recalib.errors import RecalibError
from recalib.runs import read_config, read_metrics


@dataclass(frozen=True)
class Row:
    """One network, trained with one or more seeds; accuracies of the last epoch in percent.

    Attributes:
        model: name of the network.
        attention: module, "baseline" for none.
        runs: number of seeds.
        top1: mean over the runs.
        top1_std: sample standard deviation, 0 for one run.
        top5: mean over the runs.
        top5_std: sample standard deviation.
        curve: mean and deviation of the test accuracy after every epoch that all runs reached.
    """

    model: str
    attention: str
    runs: int
    top1: float
    top1_std: float
    top5: float
    top5_std: float
    curve: list[tuple[float, float]]


def finished_runs(out: Path, like: Path) -> list[Path]:
    """Runs under a folder that came to their end and differ from one of them only in model, attention and seed."""
    wanted = _setting(read_config(like))
    folders = sorted(path.parent for path in out.glob("*/config.json"))
    return [f for f in folders if _setting(read_config(f)) == wanted and len(_epochs(f)) == wanted["recipe"]["epochs"]]


def table(folders: Iterable[Path]) -> list[Row]:
    """One row for each network and attention among the runs.

    Raises:
        RecalibError: where a run has no metrics yet.
    """
    groups: dict[tuple[str, str], list[list[dict[str, Any]]]] = defaultdict(list)
    for folder in folders:
        recipe, epochs = read_config(folder)["recipe"], _epochs(folder)
        if not epochs:
            raise RecalibError(f"{folder} has no finished epoch")
        name = (recipe["attention"] or "baseline") + (" (identity)" if recipe["identity"] else "")
        groups[recipe["model"], name].append(epochs)
    return [_row(*names, runs) for names, runs in groups.items()]


def _row(model: str, attention: str, runs: list[list[dict[str, Any]]]) -> Row:
    top1, top5 = (_mean_std([run[-1][key] for run in runs]) for key in ("top1", "top5"))
    curve = [_mean_std([epoch["top1"] for epoch in epochs]) for epochs in zip(*runs, strict=False)]
    return Row(model, attention, len(runs), *top1, *top5, curve)


def as_json(rows: list[Row]) -> list[dict[str, Any]]:
    """Rows for a results file."""
    return [asdict(row) for row in rows]


def markdown(rows: list[Row]) -> str:
    """A table with the best of each network bold and those within one standard deviation of it underlined."""
    lines = ["| Model | Module | Runs | Top-1 | Top-5 |", "|---|---|---|---|---|"]
    for row in rows:
        rivals = [r for r in rows if r.model == row.model]
        cells = [_cell(row, rivals, key) for key in ("top1", "top5")]
        lines.append(f"| {row.model} | {row.attention} | {row.runs} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(row: Row, rivals: list[Row], key: str) -> str:
    best = max(rivals, key=lambda r: getattr(r, key))
    value, top = getattr(row, key), getattr(best, key)
    text = f"{value:.2f}" + (f" ± {getattr(row, key + '_std'):.2f}" if row.runs > 1 else "")
    if value == top:
        return f"**{text}**"
    return f"<u>{text}</u>" if top - value <= getattr(best, key + "_std") else text


def _mean_std(values: list[float]) -> tuple[float, float]:
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def _epochs(folder: Path) -> list[dict[str, Any]]:
    return [row for row in read_metrics(folder) if "top1" in row]


def _setting(config: dict[str, Any]) -> dict[str, Any]:
    varied = {"model", "attention", "options", "identity", "seed"}
    recipe = {key: value for key, value in config["recipe"].items() if key not in varied}
    return {"recipe": recipe, "preset": config["preset"]}
