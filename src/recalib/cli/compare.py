"""`recalib compare`: measure every module on a network and recommend one."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from rich.console import Console
from tyro.conf import Positional, arg

from recalib.choose.advice import advise
from recalib.choose.verdict import verdicts
from recalib.cli.arguments import ImageSize, parse
from recalib.cli.json_file import write_json
from recalib.cli.measuring import measured, print_notes, seconds_of
from recalib.measure.run import Measured
from recalib.measure.schedule import MODULES, RUNTIMES, WITHIN, comparison
from recalib.measure.session import How
from recalib.report import accuracy_table, require_drawing, terminal_table, write_page
from recalib.runs.folder import weights_of

PAGE_S = 12.0  # to start, and to draw the page, out of --minutes


@dataclass
class Arguments:
    """Measure channel attention modules on a network, before and after deploy, and recommend one.

    Writes OUT/compare.jsonl (every raw sample) and OUT/report.html (one page that needs no network).

    Examples:
      recalib compare
      recalib compare resnet18 resnet50 --attention eca se --runtime eager compile
      recalib compare --resume
    """

    models: Annotated[Positional[tuple[str, ...]], arg(name="model", metavar="[MODEL ...]")] = ("resnet50",)
    """Networks: timm's names, torchvision:NAME, cifar_resnetN, hf-hub:OWNER/NAME, yolo11n.yaml, package.module:factory.
    Of one that gives several tensors, the first is what counts."""
    attention: tuple[str, ...] = MODULES
    """Attention modules (recalib modules lists them; timm:NAME for timm's layers, package.module:Class for your own).
    The plain network always runs."""
    size: ImageSize = 224
    """Side of the images in pixels, or height and width."""
    batch: int = 1
    """Images in one forward pass."""
    runtime: tuple[str, ...] = RUNTIMES
    """Names, such as eager, compile, onnxruntime, openvino; docs/latency.md has them all."""
    precision: str = "fp32"
    """fp32, tf32, bf16, fp16 or int8."""
    weights: Path | None = None
    """Checkpoint, run, or name of published weights for the one network; random ones by default, which take as long."""
    calibration: Path | None = None
    """Images (a folder, ImageNet's or CIFAR's): int8 is calibrated on half of them, the other half tells how far a
    reduced precision is from float32. Without it, noise, which tells nothing of accuracy."""
    data: Path | None = None
    """Labelled images (ImageNet's val or CIFAR): with --weights, what is timed is evaluated, too."""
    images: int = 1000
    """Images of --data at most, spread evenly."""
    out: Path = Path("recalib-compare")
    """Folder for the results."""
    json: Path | None = None
    """File for machine and cells as one JSON object."""
    resume: bool = False
    """Keep what an interrupted run in OUT has finished."""
    overwrite: bool = False
    """Forget what is in OUT."""
    protocol: str = "clean"
    """clean: median, buffers in place, no autograd. paper: minimum of 100, autograd on, copies included."""
    within: float = WITHIN
    """Measure until the interval of every overhead that decides is at most so many points to either side."""
    minutes: float = 3.0
    """All the time there is, preparation included; what decides the advice is measured first."""
    rounds: int | None = None
    """Samples a cell, in place of --within and --minutes."""
    threads: int | None = None
    """CPU threads; by default PyTorch's choice."""


def main(argv: list[str]) -> int:
    """Run `recalib compare`; returns the exit status."""
    args = parse(Arguments, argv, "recalib compare")
    require_drawing()
    names = ("protocol", "threads", "rounds", "calibration", "data", "images")
    how = How(
        **{name: getattr(args, name) for name in names}, weights=args.weights and weights_of(args.weights),
        within=None if args.rounds else args.within,
    )  # fmt: skip
    schedule = comparison(
        args.models, args.attention, args.runtime, size=args.size, batch=args.batch, precision=args.precision, how=how,
        seconds=None if args.rounds else seconds_of(args.minutes) - PAGE_S,
    )  # fmt: skip
    found = measured(
        schedule, args.out / "compare.jsonl", "compare", argv, resume=args.resume, overwrite=args.overwrite
    )
    _show(found, args)
    if found.interrupted:
        print("recalib: interrupted; --resume continues from what was measured", file=sys.stderr)
    return int(found.interrupted or all(cell.status != "ok" for cell in found.cells))


def _show(found: Measured, args: Arguments) -> None:
    advice = advise(found.cells)
    write_page(args.out / "report.html", found.cells, found.machine, advice, found.run["command"])
    write_json(args.json, found.to_dict())
    console = Console()
    for line in verdicts(found.cells):
        console.print(line, style="bold", highlight=False, markup=False, soft_wrap=True)
    console.print(_machine_line(found.machine), highlight=False, soft_wrap=True)
    console.print(terminal_table(found.cells, found.machine))
    if (files := accuracy_table(found.cells)) is not None:
        console.print(files)
    print_notes(console, found.cells)
    if found.peak is not None:
        console.print(str(found.peak), highlight=False)
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
