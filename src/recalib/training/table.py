"""Mean and deviation over seeds, in the form of Klomp et al.'s Table 1."""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from recalib.errors import RecalibError
from recalib.runs import read_config, read_metrics

Mark = Literal["best", "close", ""]

# settings that make another row of the table, or another run of one; the others make another recipe
_VARIED = {"model", "attention", "options", "identity", "seed"}


@dataclass(frozen=True)
class Row:
    """One network, trained with one or more seeds; accuracies of the last epoch in percent.

    Attributes:
        model: name of the network.
        attention: module with its options, "baseline" for none.
        recipe: the settings in which runs of the table differ besides these and the seed.
        runs: number of seeds.
        top1: mean over the runs.
        top1_std: sample standard deviation, 0 for one run.
        top5: mean over the runs.
        top5_std: sample standard deviation.
        curve: mean and deviation of the test accuracy after every epoch that all runs reached.
    """

    model: str
    attention: str
    recipe: str
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
    return [folder for folder in folders if _setting(read_config(folder)) == wanted and is_finished(folder)]


def is_finished(folder: Path) -> bool:
    """Whether a run came to its end."""
    return len(_epochs(folder)) == read_config(folder)["recipe"]["epochs"]


def table(folders: Iterable[Path]) -> list[Row]:
    """One row for all runs that differ in their seed alone.

    Raises:
        RecalibError: where a run has no metrics yet.
    """
    groups: dict[tuple[str, str, str], list[list[dict[str, Any]]]] = defaultdict(list)
    configs = {folder: read_config(folder) for folder in folders}
    settings = {folder: _setting(config) for folder, config in configs.items()}
    keys = dict.fromkeys(key for setting in settings.values() for key in setting)
    differing = [key for key in keys if len({str(setting.get(key)) for setting in settings.values()}) > 1]
    for folder, config in configs.items():
        if not (epochs := _epochs(folder)):
            raise RecalibError(f"{folder} has no finished epoch")
        recipe = ", ".join(f"{key} {settings[folder].get(key)}" for key in differing)
        groups[config["recipe"]["model"], _module(config["recipe"]), recipe].append(epochs)
    return [_row(*names, runs) for names, runs in groups.items()]


def _module(recipe: dict[str, Any]) -> str:
    start = ["(identity)"] if recipe["identity"] else []
    return " ".join([recipe["attention"] or "baseline", *recipe.get("options", ()), *start])


def _row(model: str, attention: str, recipe: str, runs: list[list[dict[str, Any]]]) -> Row:
    top1, top5 = (_mean_std([run[-1][key] for run in runs]) for key in ("top1", "top5"))
    curve = [_mean_std([epoch["top1"] for epoch in epochs]) for epochs in zip(*runs, strict=False)]
    return Row(model, attention, recipe, len(runs), *top1, *top5, curve)


def as_json(rows: list[Row]) -> list[dict[str, Any]]:
    """Rows for a results file."""
    return [asdict(row) for row in rows]


def markdown(rows: list[Row]) -> str:
    """A table with the best of each network bold and those within one standard deviation of it underlined."""
    named = ["Recipe"] if any(row.recipe for row in rows) else []
    heads = ["Model", *named, "Module", "Runs", "Top-1", "Top-5"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    style = {"best": "**{}**", "close": "<u>{}</u>", "": "{}"}
    for row in rows:
        cells = [style[mark].format(text) for text, mark in accuracies(row, rows)]
        lines.append(f"| {' | '.join([row.model, *[row.recipe] * len(named), row.attention, str(row.runs), *cells])} |")
    return "\n".join(lines)


def accuracies(row: Row, rows: Sequence[Row]) -> list[tuple[str, Mark]]:
    """Top-1 and top-5 as text, and whether each is the best of its network and recipe or close to it.

    Args:
        row: of the table.
        rows: the whole table.
    """
    rivals = [r for r in rows if (r.model, r.recipe) == (row.model, row.recipe)]
    return [_accuracy(row, rivals, key) for key in ("top1", "top5")]


def _accuracy(row: Row, rivals: list[Row], key: str) -> tuple[str, Mark]:
    best = max(rivals, key=lambda r: getattr(r, key))
    value, top = getattr(row, key), getattr(best, key)
    text = f"{value:.2f}" + (f" ± {getattr(row, key + '_std'):.2f}" if row.runs > 1 else "")
    close: Mark = "close" if top - value <= getattr(best, key + "_std") else ""
    return text, "best" if value == top else close


def _mean_std(values: list[float]) -> tuple[float, float]:
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def _epochs(folder: Path) -> list[dict[str, Any]]:
    return [row for row in read_metrics(folder) if "top1" in row]


def _setting(config: dict[str, Any]) -> dict[str, Any]:
    return {**{k: v for k, v in config["recipe"].items() if k not in _VARIED}, "preset": config["preset"]}
