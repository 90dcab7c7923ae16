"""Figures of runs over seeds, in the form of Klomp et al.'s Table 1, and what they carry."""

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from recalib.errors import RecalibError
from recalib.runs import read_config, read_metrics
from recalib.runs.folder import read_facts
from recalib.statistics import half_width
from recalib.training.comparison import Comparison, Difference
from recalib.training.job import upgraded
from recalib.training.reservations import reservations

Mark = Literal["best", "close", ""]
BASELINE = "baseline"

# settings that make another row of the table, or another run of one; the others make another recipe
_VARIED = {"model", "attention", "options", "identity", "seed"}


@dataclass(frozen=True)
class Column:
    """A figure of a task: its name in metrics, its heading, and what makes percent of it."""

    name: str
    heading: str
    factor: float = 1.0


# of each task, the score first; a run is of the first task whose score it has
SCORED = (
    (Column("top1", "Top-1"), Column("top5", "Top-5")),
    (Column("AP", "AP", 100), Column("AP50", "AP50", 100), Column("mask_AP", "Mask AP", 100)),
    (Column("miou", "Mean IoU", 100), Column("pixel_accuracy", "Pixels", 100)),
)


@dataclass(frozen=True)
class OverSeeds:
    """A figure over seeds, in percent.

    Attributes:
        by_seed: value of each seed.
    """

    by_seed: Mapping[int, float]

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return statistics.fmean(self.by_seed.values())

    @property
    def std(self) -> float:
        """Sample standard deviation, 0 for one seed."""
        return statistics.stdev(self.by_seed.values()) if len(self.by_seed) > 1 else 0.0

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of the mean by Student's t; None for one seed, which says nothing of the others."""
        half = half_width([*self.by_seed.values()])
        return (self.mean - half, self.mean + half) if len(self.by_seed) > 1 else None

    def text(self) -> str:
        """Mean and standard deviation."""
        return f"{self.mean:.2f}" + (f" ± {self.std:.2f}" if len(self.by_seed) > 1 else "")


@dataclass(frozen=True)
class Paired:
    """A figure minus another's over the seeds that both have, in percent.

    Attributes:
        gain: the difference and its 95 % interval, by Student's t; without common seeds, the difference of the means.
        seeds: number of those that both have.
        decides: seeds that show such a difference in four of five cases; None where that is unknown.
    """

    gain: Difference
    seeds: int
    decides: int | None

    @property
    def told_apart(self) -> bool:
        """True where the interval leaves out zero."""
        return self.gain.verdict != "open"

    def text(self) -> str:
        """The difference, its interval, and what would decide it."""
        if self.seeds < 2:
            return f"{self.gain}, {self.seeds or 'no'} common seed{'s' * (not self.seeds)}: open"
        if self.told_apart:
            return str(self.gain)
        return f"{self.gain}: open" + (f", {self.decides} seeds would decide" if self.decides else "")


def paired(ours: OverSeeds, theirs: OverSeeds) -> Paired:
    """The difference of two figures over their common seeds."""
    seeds = sorted(ours.by_seed.keys() & theirs.by_seed.keys())
    if not seeds:
        return Paired(Difference(ours.mean - theirs.mean, -math.inf, math.inf), 0, None)
    both = {name: {seed: each.by_seed[seed] for seed in seeds} for name, each in (("ours", ours), ("theirs", theirs))}
    comparison = Comparison(both, "theirs")
    gain = comparison.gains()["ours"]
    return Paired(gain, len(seeds), comparison.seeds_for(abs(gain.points)))


@dataclass(frozen=True)
class NetworkRow:
    """One network, trained with one or more seeds; figures of the last epoch in percent.

    Attributes:
        model: name of the network.
        attention: module with its options, "baseline" for none.
        recipe: the settings in which runs of the table differ besides these and the seed.
        columns: those of its task.
        figures: by name of the column; the score first.
        curve: mean and deviation of the score after every epoch that all runs reached.
        about: dataset, train_images, images (that were evaluated on), epochs, preset, parameters; None where unknown.
        notes: why it is not to be compared as if it were whole.
    """

    model: str
    attention: str
    recipe: str
    columns: tuple[Column, ...]
    figures: Mapping[str, OverSeeds]
    curve: list[tuple[float, float]]
    about: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    @property
    def score(self) -> OverSeeds:
        """By which rows are compared."""
        return self.figures[self.columns[0].name]

    @property
    def runs(self) -> int:
        """Number of seeds."""
        return len(self.score.by_seed)

    @property
    def top1(self) -> float:
        """Mean of the score over the runs."""
        return self.score.mean

    @property
    def top1_std(self) -> float:
        """Sample standard deviation of the score."""
        return self.score.std


def finished_runs(out: Path, like: Path) -> list[Path]:
    """Runs under a folder that came to their end and differ from one of them only in model, attention and seed."""
    wanted = _setting(upgraded(read_config(like)))
    folders = sorted(path.parent for path in out.glob("*/config.json"))
    return [folder for folder in folders if _setting(upgraded(read_config(folder))) == wanted and is_finished(folder)]


def is_finished(folder: Path) -> bool:
    """True for a run that came to its end."""
    return has_ended(read_metrics(folder), read_config(folder)["recipe"]["epochs"])


def has_ended(rows: Sequence[Mapping[str, Any]], epochs: int) -> bool:
    """True for the metrics of a run of so many epochs that came to its end, whatever was evaluated."""
    those = [row for row in rows if "train_loss" in row or _is_scored(row)]
    return bool(those) and those[-1].get("epoch", len(those) - 1) + 1 >= epochs


def epochs_of(folder: Path) -> list[dict[str, Any]]:
    """Rows of the epochs that were evaluated."""
    return [row for row in read_metrics(folder) if _is_scored(row)]


def _is_scored(row: Mapping[str, Any]) -> bool:
    return any(columns[0].name in row for columns in SCORED)


def table(folders: Iterable[Path]) -> list[NetworkRow]:
    """One row for all runs that differ in their seed alone.

    Raises:
        RecalibError: where a run has no metrics yet, or two have all settings and the seed in common.
    """
    groups: dict[tuple[str, str, str], dict[int, Path]] = defaultdict(dict)
    configs = {folder: upgraded(read_config(folder)) for folder in folders}
    settings = {folder: _setting(config) for folder, config in configs.items()}
    keys = dict.fromkeys(key for setting in settings.values() for key in setting)
    differing = [key for key in keys if len({str(setting.get(key)) for setting in settings.values()}) > 1]
    for folder, config in configs.items():
        if not epochs_of(folder):
            raise RecalibError(f"{folder} has no epoch with a score: none is finished, or there is nothing to score")
        recipe = ", ".join(f"{key} {settings[folder].get(key)}" for key in differing)
        runs = groups[config["recipe"]["model"], _module(config["recipe"]), recipe]
        seed = config["recipe"]["seed"]
        if seed in runs:
            raise RecalibError(f"{runs[seed]} and {folder} are the same run twice: the same settings, and seed {seed}")
        runs[seed] = folder
    return [_row(*names, runs, configs) for names, runs in groups.items()]


def _module(recipe: dict[str, Any]) -> str:
    start = ["(identity)"] if recipe["identity"] else []
    return " ".join([recipe["attention"] or BASELINE, *recipe.get("options", ()), *start])


def _row(
    model: str, attention: str, recipe: str, runs: Mapping[int, Path], configs: Mapping[Path, dict[str, Any]]
) -> NetworkRow:
    rows = {seed: epochs_of(folder) for seed, folder in runs.items()}
    last = [epochs[-1] for epochs in rows.values()]
    columns = next(columns for columns in SCORED if columns[0].name in last[0])
    there = tuple(column for column in columns if all(column.name in row for row in last))
    figures = {
        column.name: OverSeeds({seed: column.factor * epochs[-1][column.name] for seed, epochs in rows.items()})
        for column in there
    }
    score = columns[0]
    epochs = zip(*rows.values(), strict=False)
    curve = [_mean_std([score.factor * row[score.name] for row in each]) for each in epochs]
    facts = [read_facts(folder) for folder in runs.values()]
    config = configs[next(iter(runs.values()))]
    about = {
        "dataset": facts[0].get("dataset") or config["recipe"].get("dataset"),
        "train_images": facts[0].get("train_images"), "images": last[0].get("images"),
        "epochs": config["recipe"]["epochs"], "preset": config["preset"], "parameters": facts[0].get("parameters"),
    }  # fmt: skip
    notes = (note for folder, fact, row in zip(runs.values(), facts, last, strict=True)
             for note in reservations(configs[folder], fact, row))  # fmt: skip
    return NetworkRow(model, attention, recipe, there, figures, curve, about, tuple(dict.fromkeys(notes)))


def against_baseline(row: NetworkRow, rows: Sequence[NetworkRow]) -> Paired | None:
    """The score minus that of the same network and recipe without attention, where the table has it."""
    plain = next((rival for rival in _rivals(row, rows) if rival.attention == BASELINE), None)
    return None if plain is None or plain is row else paired(row.score, plain.score)


def as_json(rows: list[NetworkRow]) -> list[dict[str, Any]]:
    """Rows for a results file."""
    return [_as_json(row, rows) for row in rows]


def _as_json(row: NetworkRow, rows: list[NetworkRow]) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for name, figure in row.figures.items():
        figures |= {name: figure.mean, f"{name}_std": figure.std, f"{name}_interval": figure.interval}
    found = against_baseline(row, rows)
    compared = found and {
        "mean": found.gain.points, "interval": [found.gain.low, found.gain.high] if found.seeds > 1 else None,
        "seeds": found.seeds, "seeds_that_would_decide": found.decides,
    }  # fmt: skip
    return {
        "model": row.model, "attention": row.attention, "recipe": row.recipe, "runs": row.runs, **figures,
        "curve": row.curve, **row.about, "notes": list(row.notes), "against_baseline": compared,
    }  # fmt: skip


def markdown(rows: list[NetworkRow]) -> str:
    """A table with bold what is told apart from all others of its network, underlined what is not from the best.

    Below it stand the data, epochs and recipe of every network, and what is to be said of its runs.
    """
    named = ["Recipe"] if any(row.recipe for row in rows) else []
    columns = tuple(dict.fromkeys(column for row in rows for column in row.columns))
    heads = ["Model", *named, "Module", "Runs", *(column.heading for column in columns), "Against baseline"]
    heads.append("Parameters")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    style = {"best": "**{}**", "close": "<u>{}</u>", "": "{}"}
    for row in rows:
        told = {column: style[mark].format(text) for column, (text, mark) in accuracies(row, rows).items()}
        cells = [told.get(column.name, "") for column in columns]
        compared, parameters = against_baseline(row, rows), row.about["parameters"]
        rest = [compared.text() if compared else "", f"{parameters:,}" if parameters else ""]
        names = [row.model, *[row.recipe] * len(named), row.attention, str(row.runs)]
        lines.append(f"| {' | '.join([*names, *cells, *rest])} |")
    said = dict.fromkeys([*map(caption, rows), *(f"{named_row(row)}: {note}" for row in rows for note in row.notes)])
    return "\n".join([*lines, "", LEGEND, *said])


LEGEND = (
    "Last epoch, percent, mean ± standard deviation over seeds. Bold: told apart from every other of its network and "
    "recipe, paired over seeds, by Student's t at 95 %; underlined: the best, and what is not told apart from it."
)


def named_row(row: NetworkRow) -> str:
    """Network, recipe and module."""
    return ", ".join(filter(None, (row.model, row.recipe, row.attention)))


def caption(row: NetworkRow) -> str:
    """Data, epochs and recipe of a row, as far as its runs say."""
    about = row.about
    counts = [f"{about[key]:,} {text} images" for key, text in (("train_images", "training"), ("images", "test"))
              if about[key]]  # fmt: skip
    data = ": ".join(filter(None, (about["dataset"] or "", ", ".join(counts))))
    how = f"{about['epochs']} epochs by {about['preset'] or 'no recipe of ours'}"
    return f"{row.model}: {'; '.join(filter(None, (data, how)))}."


def accuracies(row: NetworkRow, rows: Sequence[NetworkRow]) -> dict[str, tuple[str, Mark]]:
    """Each figure as text, and whether it is the best of its network and recipe, or not told apart from that.

    Args:
        row: one of the table.
        rows: the whole table.
    """
    rivals = _rivals(row, rows)
    return {name: (figure.text(), _mark(name, row, rivals)) for name, figure in row.figures.items()}


def _rivals(row: NetworkRow, rows: Sequence[NetworkRow]) -> list[NetworkRow]:
    return [r for r in rows if (r.model, r.recipe) == (row.model, row.recipe)]


def _mark(name: str, row: NetworkRow, rivals: list[NetworkRow]) -> Mark:
    compared = [rival for rival in rivals if name in rival.figures]
    if len(compared) < 2:
        return ""
    best = max(compared, key=lambda rival: rival.figures[name].mean)
    close = [r for r in compared if r is not best and not paired(best.figures[name], r.figures[name]).told_apart]
    if row is best:
        return "close" if close else "best"
    return "close" if any(row is one for one in close) else ""


def _mean_std(values: list[float]) -> tuple[float, float]:
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def _setting(config: dict[str, Any]) -> dict[str, Any]:
    recipe = {key: value for key, value in config["recipe"].items() if key not in _VARIED}
    parts = {key: config[key] for key in ("train_split", "eval_split") if key in config}
    return {**recipe, **parts, "preset": config["preset"]}
