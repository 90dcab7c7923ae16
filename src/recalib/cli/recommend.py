"""`recalib recommend`: the most accurate network within a budget on this machine."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from rich.console import Console
from tyro.conf import FlagCreatePairsOff, Positional, arg

from recalib.choose.budget import Budget, quantity
from recalib.choose.recommend import (
    FAMILIES,
    Accuracy,
    Candidate,
    Recommendation,
    recommend,
    sampling_error,
    wanted,
)
from recalib.cli.arguments import parse
from recalib.cli.json_file import write_json
from recalib.cli.measuring import progress_bar, stoppable
from recalib.cost.count import cost
from recalib.errors import RecalibError, WorkFailed
from recalib.measure import networks
from recalib.measure.compare import MODULES, compare
from recalib.measure.results import read_results
from recalib.runs import read_config
from recalib.runtimes import DTYPES
from recalib.training.table import finished_runs, table

TEST_IMAGES = {"cifar10": 10_000, "cifar100": 10_000, "imagenet": 50_000}


@dataclass
class Arguments:
    """Recommend a network and module within a budget, from times measured here and known accuracies.

    What --results holds for this setting is not measured again; the rest is, into OUT, where the next call finds it.

    Example: recalib recommend resnet --latency 40ms --runtime openvino
    """

    models: Annotated[Positional[tuple[str, ...]], arg(name="model", metavar="[FAMILY_OR_MODEL ...]")] = ("resnet",)
    """a family (resnet, mobilenet) or names of networks"""
    latency: str | None = None
    """longest time for a batch, such as 5ms"""
    throughput: str | None = None
    """fewest images per second"""
    memory: str | None = None
    """most bytes of weights and of the largest layer's maps, such as 200MB"""
    params: str | None = None
    """most parameters, such as 25M"""
    resolution: int = 224
    """side of the images in pixels"""
    batch: int = 1
    """images in one forward pass"""
    runtime: str = "openvino"
    """eager, compile, onnxruntime, openvino"""
    precision: str = "fp32"
    """fp32, bf16, fp16 or int8"""
    modules: tuple[str, ...] = MODULES
    """attention modules to consider; the plain network always is"""
    weights: Path | None = None
    """checkpoint for the one network; random weights by default, which take the same time"""
    rounds: int | None = None
    """samples a network; by default 10 to 100, as fit into a time budget"""
    runs: Path | None = None
    """a run of yours: it and its siblings of the same recipe give the accuracies instead of published ones"""
    results: tuple[Path, ...] = ()
    """files of recalib compare or latency with what was measured before"""
    out: Path = Path("recalib-recommend")
    """folder for what is measured"""
    json: Path | None = None
    """file for the recommendation and everything considered"""


def main(argv: list[str]) -> int:
    """Run the command; returns its exit status."""
    args = parse(Arguments, argv, "recalib recommend", config=(FlagCreatePairsOff,))
    budget = Budget(**{name: _limit(args, name) for name in ("latency", "throughput", "memory", "params")})
    models = [name for given in args.models for name in FAMILIES.get(given, (given,))]
    own = {} if args.runs is None else own_accuracies(args.runs)
    if args.weights is not None and len(models) != 1:
        raise RecalibError(f"weights {str(args.weights)!r} belong to one model, and {len(models)} are named")
    cells = _cells(args, wanted(models, networks.module_names(args.modules), own))
    chosen = recommend(cells, budget, own=own, memory=memory_bytes, among=models)
    for line in chosen.lines:
        Console().print(f"- {line}", highlight=False, markup=False, soft_wrap=True)
    write_json(args.json, _as_json(chosen, args, budget))
    return 0


def own_accuracies(run: Path) -> dict[tuple[str, str], Accuracy]:
    """Top-1 of the finished runs beside one that differ from it only in model, attention and seed.

    Raises:
        RecalibError: where there is no finished run.
    """
    folders = finished_runs(run.parent, run)
    if not folders:
        raise RecalibError(f"{run}: neither it nor a run beside it with the same recipe is finished")
    images = TEST_IMAGES[read_config(run)["recipe"]["dataset"]]
    rows = table(folders)
    return {
        (row.model, row.attention): Accuracy(
            row.top1, _error(row.top1, row.top1_std, row.runs, images), f"your runs, {row.runs}", own=True
        )
        for row in rows
    }


def memory_bytes(cell: dict[str, Any]) -> float:
    """Bytes of a network's weights and of what the layer that moves most reads and writes, as inserted."""
    height, width = cell["size"] if isinstance(cell["size"], list) else (cell["size"],) * 2
    network = networks.network({}, cell["model"], cell["module"]).made()
    counted = cost(network, (cell["batch"], 3, height, width))
    single = counted.params * 4 + max(module.own.bytes_moved for module in counted.modules.values())
    return single * DTYPES[cell["precision"]].itemsize / 4


def _error(top1: float, deviation: float, runs: int, images: int) -> float:
    return max(sampling_error(top1, images), 1.96 * deviation / runs**0.5)


def _limit(args: Arguments, name: str) -> float | None:
    text = getattr(args, name)
    return None if text is None else quantity(name, text)


def _cells(args: Arguments, modules: dict[str, list[str]]) -> list[dict[str, Any]]:
    """Cells of this setting: those that are there, and those measured now."""
    known = read_results(args.results).cells if args.results else []
    setting = {"size": args.resolution, "batch": args.batch, "precision": args.precision, "runtime": args.runtime}
    known = [cell for cell in known if all(cell[name] == value for name, value in setting.items())]
    known = [cell for cell in known if cell.get("protocol", "clean") == "clean"]  # as what is measured now
    if len(machines := dict.fromkeys(cell["machine"] for cell in known)) > 1:
        raise RecalibError(f"--results were measured on {len(machines)} machines ({'; '.join(machines)}); give one's")
    have = {(cell["model"], cell["module"]) for cell in known}
    cells = list(known)
    for model, names in modules.items():
        if not {(model, name) for name in ("baseline", *names)} <= have:
            cells += _measure(args, model, names)
    return cells


def _measure(args: Arguments, model: str, modules: Sequence[str]) -> list[dict[str, Any]]:
    with stoppable() as check, progress_bar(check) as progress:
        comparison = compare(
            [model],
            modules,
            [args.runtime],
            out=args.out / f"{model.replace(':', '_')}.jsonl",
            size=args.resolution,
            batch=args.batch,
            precision=args.precision,
            weights=args.weights,
            rounds=args.rounds,
            resume=True,
            progress=progress,
        )
    if comparison.interrupted:
        raise WorkFailed("interrupted; the same command continues from what was measured")
    cells: list[dict[str, Any]] = comparison.to_dict()["cells"]
    return cells


def _as_json(chosen: Recommendation, args: Arguments, budget: Budget) -> dict[str, Any]:
    setting = {name: getattr(args, name) for name in ("resolution", "batch", "runtime", "precision")}
    return {
        "budget": asdict(budget),
        "setting": setting,
        "lines": chosen.lines,
        "best": _plain(chosen.best),
        "runner_up": chosen.runner_up and _plain(chosen.runner_up),
        "candidates": [_plain(one) for one in chosen.candidates],
    }


def _plain(one: Candidate) -> dict[str, Any]:
    return {
        "model": one.cell["model"],
        "module": one.cell["module"],
        "deployed": one.cell["deployed"],
        "params": one.cell["params"],
        "latency_ms": one.latency._asdict(),
        "overhead": one.cell["overhead"],
        "accuracy": asdict(one.accuracy),
        "verdict": one.verdict,
    }
