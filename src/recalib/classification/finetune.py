"""Attention put into a trained network and fine-tuned: Klomp et al.'s Table 3."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from recalib.classification.job import ClassificationJob
from recalib.errors import RecalibError
from recalib.runs import read_config, read_metrics
from recalib.surgery.build import described, found
from recalib.training.table import LEGEND, OverSeeds, paired

BASELINE = "baseline"


@dataclass(frozen=True)
class TunedRow:
    """One network, fine-tuned with one or more seeds; test accuracies in percent.

    Attributes:
        module: attention that was inserted, "baseline" for none.
        start: "identity", or "default" for the module's own initial weights.
        initialized: after insertion, before any training.
        epochs: after each epoch.
    """

    module: str
    start: str
    initialized: OverSeeds
    epochs: tuple[OverSeeds, ...]


def variants(job: ClassificationJob, modules: Sequence[str], starts: Sequence[str]) -> list[ClassificationJob]:
    """The jobs of a table: the network as it is, and with each module, started in each way.

    Modules that are the identity at the start anyway come once.

    Raises:
        RecalibError: where there are no weights to start from, or nothing to insert.
    """
    if job.recipe.weights is None:
        raise RecalibError("which network? Give --weights FILE, a checkpoint or a run")
    if not modules or not starts:
        raise RecalibError("what should be inserted? Name one of --attention and of --starts at least")
    jobs = []
    for module in modules:
        once = module == BASELINE or identity_anyway(module)
        for identity in [False] if once else [start == "identity" for start in starts]:
            attention = None if module == BASELINE else module
            jobs.append(replace(job, recipe=replace(job.recipe, attention=attention, identity=identity)))
    return jobs


def identity_anyway(module: str) -> bool:
    """True for a module that starts as the identity by itself."""
    return described(found(module)).identity_at_start


def table(folders: Iterable[Path]) -> list[TunedRow]:
    """A row for all runs that differ in their seed alone."""
    groups: dict[tuple[str, str], dict[int, list[dict[str, Any]]]] = {}
    for folder in folders:
        recipe = read_config(folder)["recipe"]
        module = recipe["attention"] or BASELINE
        identity = recipe["identity"] or (module != BASELINE and identity_anyway(module))
        start = "" if module == BASELINE else "identity" if identity else "default"
        groups.setdefault((module, start), {})[recipe["seed"]] = read_metrics(folder)
    return [_row(*names, runs) for names, runs in groups.items()]


def _row(module: str, start: str, runs: Mapping[int, list[dict[str, Any]]]) -> TunedRow:
    first = {
        seed: next(row["initialized_top1"] for row in rows if "initialized_top1" in row) for seed, rows in runs.items()
    }
    epochs = zip(*([row["top1"] for row in rows if "top1" in row] for rows in runs.values()), strict=False)
    return TunedRow(
        module, start, OverSeeds(first), tuple(OverSeeds(dict(zip(runs, each, strict=True))) for each in epochs)
    )


def as_json(rows: list[TunedRow]) -> list[dict[str, Any]]:
    """Rows for a results file."""
    return [
        {
            "module": row.module, "start": row.start, "runs": len(row.initialized.by_seed),
            "initialized": row.initialized.mean, "initialized_std": row.initialized.std,
            "epochs": [figure.mean for figure in row.epochs], "epochs_std": [figure.std for figure in row.epochs],
        }
        for row in rows
    ]  # fmt: skip


def markdown(rows: list[TunedRow]) -> str:
    """Table 3's form: initialized, after two epochs, after all; bold what is told apart from every other."""
    count = min(len(row.epochs) for row in rows)
    marks = sorted({min(2, count), count})
    names = ["Initialized", *(f"{mark} epoch{'s' * (mark > 1)}" for mark in marks)]
    columns = [[row.initialized for row in rows], *([row.epochs[mark - 1] for row in rows] for mark in marks)]
    lines = ["| Model | Start | " + " | ".join(names) + " |", "|---" * (len(names) + 2) + "|"]
    for row, figures in zip(rows, zip(*columns, strict=True), strict=True):
        cells = [_cell(figure, column) for figure, column in zip(figures, columns, strict=True)]
        lines.append(f"| {row.module} | {row.start} | {' | '.join(cells)} |")
    seeds = len(rows[0].initialized.by_seed)
    said = "One seed: what differs by less than another seed would is not known." if seeds == 1 else LEGEND
    return "\n".join([*lines, "", said])


def _cell(figure: OverSeeds, column: list[OverSeeds]) -> str:
    others = [other for other in column if other is not figure]
    best = bool(others) and all(figure.mean > other.mean and paired(figure, other).told_apart for other in others)
    return f"**{figure.text()}**" if best else figure.text()
