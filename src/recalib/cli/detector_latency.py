"""`recalib latency` of a detector: backbone, neck and heads, with and without attention."""

from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Annotated

from rich import box
from rich.console import Console
from rich.table import Table
from tyro.conf import Positional, arg

from recalib.choose.advice import overhead_text
from recalib.cli.arguments import ImageSize, parse
from recalib.cli.json_file import write_json
from recalib.cli.measuring import announced, measured, print_notes
from recalib.measure.cells import Cell
from recalib.measure.detectors import detectors
from recalib.measure.schedule import MODULES
from recalib.measure.session import How
from recalib.measure.sizes import sides


@dataclass(frozen=True)
class Arguments:
    """Measure detectors: backbone, neck and heads, plain and with each module, as inserted and deployed.

    Weights are random; every image gets as many proposals (1000) and masks (100) as `recalib cost` counts.

    Examples:
      recalib latency fasterrcnn_resnet50_fpn --attention eca se --size 800x1280
    """

    models: Annotated[Positional[tuple[str, ...]], arg(name="model", metavar="MODEL [MODEL ...]")]
    """Detectors: fasterrcnn_resnetD_fpn, maskrcnn_resnetD_fpn, retinanet_resnetD_fpn, ssd512_resnet34."""
    attention: tuple[str, ...] = MODULES
    """Attention modules; the plain detector always runs."""
    size: tuple[ImageSize, ...] = ((800, 1280),)
    """HEIGHTxWIDTH of the images, or the side of square ones; an SSD resizes them to 512."""
    batch: tuple[int, ...] = (1,)
    """Images in one forward pass."""
    rounds: int = 10
    """Samples of each detector and process."""
    processes: int = 1
    """Fresh processes that measure each detector, far apart in time: 3 or more for intervals that hold what differs
    from one to the next."""
    threads: int | None = None
    """CPU threads; by default PyTorch's choice."""
    resume: bool = False
    """Keep what is in OUT already."""
    overwrite: bool = False
    """Forget what is in OUT."""
    out: Path = Path("recalib-latency")
    """Folder for the results."""
    json: Path | None = None
    """File for machine and cells, with every sample of every part."""


def main(argv: list[str]) -> int:
    """Run the command; returns its exit status."""
    args = parse(Arguments, argv, "recalib latency")
    schedule = detectors(
        args.models, args.attention, args.size, args.batch,
        how=How(threads=args.threads, rounds=args.rounds), processes=args.processes,
    )  # fmt: skip
    found = measured(
        schedule, args.out / "latency.jsonl", "latency", argv, resume=args.resume, overwrite=args.overwrite,
        announce=announced,
    )  # fmt: skip
    write_json(args.json, found.to_dict())
    console = Console()
    for (model, size, batch), cells in groupby(
        found.cells, key=lambda cell: (cell.model, sides(cell.size), cell.batch)
    ):
        console.print(_table(f"{model}, {batch} x 3 x {size[0]} x {size[1]}, ms", list(cells)))
    print_notes(console, found.cells)
    return int(found.left > 0 or all(cell.status != "ok" for cell in found.cells))


def _table(title: str, cells: list[Cell]) -> Table:
    timed = [(cell, cell.parts_ms, cell.latency_ms) for cell in cells if cell.parts_ms and cell.latency_ms]
    table = Table("module", title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    shown = (
        [part for part in timed[0][1] if part not in ("transform", "rest")] if timed else []
    )  # small: in --json only
    for heading in (*shown, "total", "overhead"):
        table.add_column(heading.replace("_", " "), justify="right")
    for cell, parts, latency in timed:
        texts = [_short(ms) for ms in (*(parts[part]["median"] for part in shown), latency.median)]
        over = overhead_text(cell.over) if cell.overhead else ""
        style = None if cell.overhead and cell.overhead.distinguishable else "dim"
        table.add_row(cell.module + ", deployed" * cell.deployed, *texts, over, style=style)
    return table


def _short(milliseconds: float) -> str:
    return f"{milliseconds:.0f}" if milliseconds >= 100 else f"{milliseconds:.1f}"
