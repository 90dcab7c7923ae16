"""`recalib latency`: a grid of networks, modules, sizes, batches, precisions and runtimes."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from rich.console import Console
from tyro.conf import Positional, arg

from recalib.choose.advice import advise
from recalib.choose.verdict import verdicts
from recalib.cli.arguments import ImageSize, parse
from recalib.cli.engine import MEASURING, MeasuringEngine, measured_away
from recalib.cli.json_file import write_json
from recalib.cli.measuring import announced, measured, print_notes, seconds_of
from recalib.cost.detectors import is_detector
from recalib.errors import RecalibError
from recalib.measure.run import Measured
from recalib.measure.schedule import MODULES, grid
from recalib.measure.session import How
from recalib.measure.statistics import FEWEST_PROCESSES
from recalib.measure.store import read_results
from recalib.report import accuracy_table, require_drawing, terminal_table, write_page
from recalib.report.page import main_setting
from recalib.runs.folder import weights_of
from recalib.runtimes import RUNTIMES

FILE = "latency.jsonl"
MOST_ON_A_TERMINAL = 120  # cells; of more, those of one setting are printed, and the page has all


@dataclass
class Arguments:
    """Measure networks over a grid of settings, each group of cells in fresh processes, into OUT.

    Writes OUT/latency.jsonl (every raw sample) and OUT/report.html (one page with the paper's figures).

    Says how long it may take before it starts. Killed at any moment, --resume loses no cell and repeats none.

    Examples:
      recalib latency resnet18 --attention eca se --size 224 320x192 --batch 1 8
      recalib latency resnet50 --runtime eager openvino --precision fp32 int8
      recalib latency fasterrcnn_resnet50_fpn --attention eca --size 800x1280

    On a node of a cluster, which then does nothing else:
      recalib latency resnet18 --engine ray --on gpu:h100
    """

    models: Annotated[Positional[tuple[str, ...]], arg(name="model", metavar="MODEL [MODEL ...]")]
    """Networks: timm's names, torchvision:NAME, cifar_resnetN; or detectors such as fasterrcnn_resnet50_fpn, which are
    timed part by part and have flags of their own: recalib latency fasterrcnn_resnet50_fpn --help."""
    attention: tuple[str, ...] = MODULES
    """Attention modules; the plain network always runs."""
    size: tuple[ImageSize, ...] = (224,)
    """Sides of the images in pixels, or height and width."""
    batch: tuple[int, ...] = (1,)
    """Images in one forward pass."""
    precision: tuple[str, ...] = ("fp32",)
    """fp32, tf32 (NVIDIA GPUs), bf16, fp16, int8 (post-training quantisation)."""
    runtime: tuple[str, ...] = ("eager", "onnxruntime", "openvino")
    """Names, or all; what is not installed or has no device is recorded as unsupported, with what mends it."""
    protocol: str = "clean"
    """clean: median, buffers in place, no autograd. paper: minimum of 100, autograd on, copies included."""
    weights: Path | None = None
    """Checkpoint, run, or name of published weights for the one network; random ones by default, which take as long."""
    calibration: Path | None = None
    """Images (a folder, ImageNet's or CIFAR's): int8 is calibrated on half of them, the other half tells how far a
    reduced precision is from float32. Without it, noise, which tells nothing of accuracy."""
    deeper: bool = False
    """Time the next deeper plain network of each family along, as a reference."""
    data: Path | None = None
    """Labelled images (ImageNet's val or CIFAR): with --weights, what is timed is evaluated, too."""
    images: int = 1000
    """Images of --data at most, spread evenly."""
    within: float | None = None
    """Go on until the interval of every process is at most so many points to either side, or two minutes are over."""
    rounds: int | None = None
    """Samples a cell and process; by default 10 to 100, as fit into a time budget."""
    processes: int = FEWEST_PROCESSES
    """Fresh processes that measure each group, far apart in time, since processes differ by more than rounds do: 1 for
    a quick look, 5 for intervals half as wide as those of 3. --resume adds those that are missing."""
    threads: int | None = None
    """CPU threads; by default PyTorch's choice."""
    minutes: float | None = None
    """Start no group but the first that would end later; --resume goes on with the rest."""
    resume: bool = False
    """Keep what is in OUT already."""
    overwrite: bool = False
    """Forget what is in OUT."""
    out: Path = Path("recalib-latency")
    """Folder for the results."""
    json: Path | None = None
    """File for machine and cells as one JSON object."""
    where: MEASURING = field(default_factory=MeasuringEngine)


def main(argv: list[str]) -> int:
    """Run `recalib latency`; returns the exit status."""
    if any(map(is_detector, argv)):
        from recalib.cli import detector_latency

        return detector_latency.main(argv)
    args = parse(Arguments, argv, "recalib latency")
    if not args.models:
        raise RecalibError("which networks? Name some, such as resnet18")
    away = measured_away(args.where, "latency", argv, args.out, args.json, resumes=True)
    if away is not None:
        return away
    names = ("protocol", "threads", "rounds", "within", "calibration", "data", "images")
    schedule = grid(
        args.models, args.attention, args.size, args.batch, args.precision,
        tuple(RUNTIMES) if args.runtime == ("all",) else args.runtime, deeper=args.deeper, processes=args.processes,
        how=How(**{name: getattr(args, name) for name in names}, weights=args.weights and weights_of(args.weights)),
    )  # fmt: skip
    require_drawing()
    found = measured(
        schedule, args.out / FILE, "latency", argv, resume=args.resume, overwrite=args.overwrite, announce=announced,
        seconds=None if args.minutes is None else seconds_of(args.minutes),
    )  # fmt: skip
    write_json(args.json, found.to_dict())
    _show(found, args.out)
    if found.left:
        print("recalib: not all is measured; --resume continues", file=sys.stderr)
    return int(found.left > 0 or all(cell.status != "ok" for cell in found.cells))


def _show(found: Measured, out: Path) -> None:
    console, cells = Console(), found.cells
    everything = read_results([out / FILE])  # with what earlier pieces measured at other settings
    for line in verdicts(main_setting(everything.cells)):
        console.print(line, style="bold", highlight=False, markup=False, soft_wrap=True)
    console.print(terminal_table(cells if len(cells) <= MOST_ON_A_TERMINAL else main_setting(cells), found.machine))
    if (files := accuracy_table(cells)) is not None:
        console.print(files)
    print_notes(console, cells)
    done = sum(cell.status == "ok" for cell in cells)
    console.print(f"{done} of {len(cells)} cells measured: {out / FILE}", highlight=False, markup=False, soft_wrap=True)
    advice = advise(main_setting(everything.cells))
    write_page(out / "report.html", everything.cells, everything.machine, advice, found.run["command"])
    console.print(f"{out / 'report.html'}", highlight=False, markup=False, soft_wrap=True)
