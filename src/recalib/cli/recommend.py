"""``recalib recommend``: which network and module to use within a budget."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Annotated, Any

import tyro
from tyro.conf import FlagCreatePairsOff, Positional, arg

from recalib.attention.catalogue import canonical_name
from recalib.benchmark.cells import CellFile
from recalib.benchmark.compare import MODULES, compare
from recalib.benchmark.published import BASELINE, DEPTHS
from recalib.benchmark.recommend import Budget, Name, limits, recommend
from recalib.cli.json_file import write_json
from recalib.errors import RecalibError
from recalib.runs import read_config, read_metrics

FAMILIES = {"resnet": DEPTHS}
UNITS = {"": 1.0, "ms": 1.0, "s": 1000.0, "us": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "MiB": 1.0, "GiB": 1024.0}


@dataclass
class Arguments:
    """Say which network and attention module to use within a budget, from times on this machine.

    Accuracies are published ImageNet figures, or, with --runs, your own runs' alone.

    Example: recalib recommend resnet --latency 20ms --runtime openvino --results recalib-compare/compare.jsonl
    """

    family: Annotated[Positional[tuple[str, ...]], arg(metavar="[resnet | MODEL ...]")] = ("resnet",)
    """A family (resnet: 18 to 152 layers), or networks by name."""
    latency: str | None = None
    """Most time for one forward pass, such as 5ms."""
    throughput: str | None = None
    """Fewest images a second."""
    memory: str | None = None
    """Most bytes that one forward pass reads and writes, such as 200MiB."""
    params: str | None = None
    """Most parameters, such as 12M."""
    size: int = 224
    """Side of the images in pixels."""
    batch: int = 1
    """Images in one forward pass."""
    runtime: str = "openvino"
    """eager, compile, onnxruntime, openvino."""
    precision: str = "fp32"
    """fp32, bf16 or fp16."""
    modules: tuple[str, ...] = MODULES
    """Attention modules to consider; the plain networks always are."""
    results: Path | None = None
    """Times of recalib compare (compare.jsonl); without it, what is missing is measured."""
    runs: Path | None = None
    """Folder of your own runs, whose accuracies are then the only ones."""
    out: Path = Path("recalib-compare")
    """Folder for measurements, which are kept and continued."""
    json: Path | None = None
    """Write the options and the recommendation here, for machines."""


def main(argv: list[str]) -> int:
    """Run the command; 1 if nothing can be recommended."""
    given = tyro.cli(Arguments, prog="recalib recommend", args=argv, config=(FlagCreatePairsOff,))
    budget = Budget(
        quantity(given.latency, ("ms", "s", "us")), quantity(given.throughput, ()),
        quantity(given.memory, ("MiB", "GiB")), quantity(given.params, ("k", "M", "G")),
    )  # fmt: skip
    if not limits(budget):
        raise RecalibError("which budget? Give --latency, --throughput, --memory or --params")
    models = [name for entry in given.family for name in FAMILIES.get(entry, (entry,))]
    cells = _cells(given, models)
    own = own_accuracies(given.runs) if given.runs else {}
    found = recommend(cells, budget, own)
    for line in found.lines:
        print(line)
    write_json(given.json, {"budget": limits(budget), **found.to_dict()})
    return int(found.best is None)


def _cells(given: Arguments, models: Sequence[str]) -> list[dict[str, Any]]:
    """Cells of the setting, from the file that was given, or measured."""
    if given.results is not None:
        if not given.results.is_file():
            raise RecalibError(f"--results {given.results}: there is no such file")
        cells = list(CellFile(given.results).read().values())
    else:
        cells = compare(
            models, given.modules, (given.runtime,), out=given.out / "compare.jsonl", size=given.size,
            batch=given.batch, precision=given.precision, resume=True,
        ).cells  # fmt: skip
    modules = {BASELINE, *(name if ":" in name else canonical_name(name) for name in given.modules)}
    setting = (given.runtime, given.size, given.batch, given.precision)
    wanted = [
        cell.to_dict()
        for cell in cells
        if cell.model in models and cell.module in modules
        and (cell.runtime, cell.size, cell.batch, cell.precision) == setting
    ]  # fmt: skip
    if not wanted:
        raise RecalibError(
            f"no cell of {', '.join(models)} in {given.runtime} at {given.size} px, batch {given.batch}, "
            f"{given.precision} was measured in {given.results or given.out}"
        )
    if len({cell["machine"] for cell in wanted}) > 1:
        raise RecalibError(f"{given.results or given.out} holds times of several machines, which do not compare")
    return wanted


def own_accuracies(folder: Path) -> dict[Name, float]:
    """Top-1 that the runs in a folder ended with, by model and module; the mean where several runs are alike.

    Raises:
        RecalibError: where the folder holds no run that has been evaluated, or runs on several data sets.
    """
    found: dict[Name, list[float]] = defaultdict(list)
    datasets: set[str] = set()
    for config in sorted(folder.rglob("config.json")):
        recipe = read_config(config).get("recipe", {})
        top1 = [row["top1"] for row in read_metrics(config.parent) if "top1" in row]
        if top1 and recipe.get("model"):
            found[recipe["model"], recipe.get("attention") or BASELINE].append(top1[-1])
            datasets.add(str(recipe.get("dataset")))
    if not found:
        raise RecalibError(f"--runs {folder}: holds no run that has been evaluated")
    if len(datasets) > 1:
        raise RecalibError(f"--runs {folder}: accuracies on {' and '.join(sorted(datasets))} do not compare")
    return {name: mean(values) for name, values in found.items()}


def quantity(text: str | None, units: Sequence[str]) -> float | None:
    """A number with a unit: ``"5ms"``; the first unit may be left out.

    Raises:
        RecalibError: for anything else.
    """
    if text is None:
        return None
    match = re.fullmatch(r"([0-9.]+)\s*([A-Za-z]*)", text)
    try:
        if match is None or match[2] not in ("", *units) or not float(match[1]) > 0:
            raise ValueError
        return float(match[1]) * UNITS[match[2]]
    except ValueError:
        known = f" with {' or '.join(units)}" if units else ""
        raise RecalibError(f"{text!r} is no limit: write a positive number{known}") from None
