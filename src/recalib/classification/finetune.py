"""Attention put into a trained network and fine-tuned: Klomp et al.'s Table 3."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from recalib.attention.catalogue import CATALOGUE, canonical_name
from recalib.classification.job import ClassificationJob
from recalib.errors import RecalibError
from recalib.runs import read_config, read_metrics

BASELINE = "baseline"


@dataclass(frozen=True)
class Row:
    """One network; test accuracies in percent.

    Attributes:
        module: attention that was inserted, "baseline" for none.
        start: "identity", or "default" for the module's own initial weights.
        initialized: after insertion, before any training.
        epochs: after each epoch.
    """

    module: str
    start: str
    initialized: float
    epochs: tuple[float, ...]


def variants(job: ClassificationJob, modules: Sequence[str], starts: Sequence[str]) -> list[ClassificationJob]:
    """The jobs of a table: the network as it is, and with each module, started in each way.

    Modules that are the identity at the start anyway come once.

    Raises:
        RecalibError: where there are no weights to start from, or nothing to insert.
    """
    if job.recipe.weights is None:
        raise RecalibError("which network? Give --weights FILE, a checkpoint or a run")
    if not modules or not starts:
        raise RecalibError("what should be inserted? Name one of --modules and of --starts at least")
    jobs = []
    for module in modules:
        once = module == BASELINE or identity_anyway(module)
        for identity in [False] if once else [start == "identity" for start in starts]:
            attention = None if module == BASELINE else module
            jobs.append(replace(job, recipe=replace(job.recipe, attention=attention, identity=identity)))
    return jobs


def identity_anyway(module: str) -> bool:
    """Whether a module is the identity at the start by itself."""
    return not module.startswith("timm:") and CATALOGUE[canonical_name(module)].classes[0].identity_at_start


def table(folders: Iterable[Path]) -> list[Row]:
    """A row for each run folder."""
    return [_row(folder) for folder in folders]


def _row(folder: Path) -> Row:
    recipe = read_config(folder)["recipe"]
    rows = read_metrics(folder)
    initialized = next(row["initialized_top1"] for row in rows if "initialized_top1" in row)
    module = recipe["attention"] or BASELINE
    identity = recipe["identity"] or (module != BASELINE and identity_anyway(module))
    start = "" if module == BASELINE else "identity" if identity else "default"
    return Row(module, start, initialized, tuple(row["top1"] for row in rows if "top1" in row))


def as_json(rows: list[Row]) -> list[dict[str, Any]]:
    """Rows for a results file."""
    return [asdict(row) for row in rows]


def markdown(rows: list[Row]) -> str:
    """Table 3's form: initialized, after two epochs, after all; the best of each column bold."""
    count = min(len(row.epochs) for row in rows)
    marks = sorted({min(2, count), count})
    names = ["Initialized", *(f"{mark} epoch{'s' * (mark > 1)}" for mark in marks)]
    columns = [[row.initialized for row in rows], *([row.epochs[mark - 1] for row in rows] for mark in marks)]
    lines = ["| Model | Start | " + " | ".join(names) + " |", "|---" * (len(names) + 2) + "|"]
    for row, values in zip(rows, zip(*columns, strict=True), strict=True):
        cells = [_cell(value, max(column)) for value, column in zip(values, columns, strict=True)]
        lines.append(f"| {row.module} | {row.start} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(value: float, best: float) -> str:
    return f"**{value:.2f}**" if value == best else f"{value:.2f}"
