"""`recalib compare`: measure every module on a network and recommend one."""

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from rich.console import Console
from tyro.conf import FlagCreatePairsOff, Positional, arg

from recalib.choose.advice import advise
from recalib.cli.arguments import parse
from recalib.cli.json_file import write_json
from recalib.cli.measuring import print_notes, progress_bar, stoppable
from recalib.errors import WorkFailed
from recalib.measure.compare import MODULES, RUNTIMES, compare
from recalib.measure.runner import Comparison
from recalib.report import require_drawing, terminal_table, write_page


@dataclass
class Arguments:
    """Measure channel attention modules on a network, before and after deploy, and recommend one.

    Writes OUT/compare.jsonl (every raw sample) and OUT/report.html (one page that needs no network).

    Example: recalib compare resnet18 resnet50 --modules eca se --runtimes eager compile --resume
    """

    models: Annotated[Positional[tuple[str, ...]], arg(name="model", metavar="[MODEL ...]")] = ("resnet50",)
    """Networks: timm's names, torchvision:NAME, cifar_resnetN."""
    modules: tuple[str, ...] = MODULES
    """Attention modules (recalib modules lists them; timm:NAME for timm's layers). The plain network always runs."""
    size: int = 224
    """Side of the images in pixels."""
    batch: int = 1
    """Images in one forward pass."""
    runtimes: tuple[str, ...] = RUNTIMES
    """Names, such as eager, compile, onnxruntime, openvino; docs/latency.md has them all."""
    precision: str = "fp32"
    """fp32, tf32, bf16, fp16 or int8."""
    weights: Path | None = None
    """Checkpoint for the one network; random weights by default, which take the same time."""
    calibration: Path | None = None
    """Images (a folder, ImageNet's or CIFAR's): int8 is calibrated on half of them, the other half tells how far a
    reduced precision is from float32. Without it, noise, which tells nothing of accuracy."""
    out: Path = Path("recalib-compare")
    """Folder for the results."""
    json: Path | None = None
    """File for machine and cells as one JSON object."""
    resume: bool = False
    """Keep what an interrupted run in OUT has finished."""
    protocol: str = "clean"
    """clean: median, buffers in place, no autograd. paper: minimum of 100, autograd on, copies included."""
    rounds: int | None = None
    """Samples a cell; by default 10 to 100, as fit into a time budget."""
    threads: int | None = None
    """CPU threads; by default PyTorch's choice."""


def main(argv: list[str]) -> int:
    """Run `recalib compare`; returns the exit status."""
    args = parse(Arguments, argv, "recalib compare", config=(FlagCreatePairsOff,))
    require_drawing()
    with stoppable() as check, progress_bar(check) as progress:
        comparison = compare(
            args.models,
            args.modules,
            args.runtimes,
            out=args.out / "compare.jsonl",
            size=args.size,
            batch=args.batch,
            precision=args.precision,
            protocol=args.protocol,
            weights=args.weights,
            calibration=args.calibration,
            threads=args.threads,
            rounds=args.rounds,
            resume=args.resume,
            progress=progress,
        )
    if not comparison.cells:
        raise WorkFailed("interrupted before anything was measured")
    _show(comparison, args, shlex.join(["recalib", "compare", *argv]))
    if comparison.interrupted:
        print("recalib: interrupted; --resume continues from what was measured", file=sys.stderr)
    return int(comparison.interrupted or all(cell.status != "ok" for cell in comparison.cells))


def _show(comparison: Comparison, args: Arguments, command: str) -> None:
    results = comparison.to_dict()
    cells, machine = results["cells"], results["machine"]
    advice = advise(cells)
    write_page(args.out / "report.html", cells, machine, advice, command)
    write_json(args.json, results)
    console = Console()
    console.print(_machine_line(machine), highlight=False, soft_wrap=True)
    console.print(terminal_table(cells, machine))
    print_notes(console, comparison.cells)
    for line in advice:
        console.print(f"- {line}", highlight=False, markup=False)
    console.print(f"{args.out / 'report.html'}", highlight=False, markup=False, soft_wrap=True)


def _machine_line(machine: dict[str, Any]) -> str:
    versions = ", ".join(
        f"{name} {machine['versions'][name]}"
        for name in ("torch", "onnxruntime", "openvino")
        if name in machine["versions"]
    )
    return f"{machine['device']}, {machine['threads']} threads, {machine['precision']}, {machine['layout']}; {versions}"
