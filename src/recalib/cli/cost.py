"""``recalib cost``: what a network costs on paper."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

from rich import box
from rich.console import Console
from rich.table import Table
from tyro.conf import Positional, arg

from recalib.cli.arguments import ImageSize, parse
from recalib.cli.json_file import write_json
from recalib.cost.count import Cost, Counts
from recalib.cost.detectors import is_detector
from recalib.cost.units import binary, si
from recalib.measure.cells import BASELINE
from recalib.measure.costs import costs_of
from recalib.measure.sizes import Size, sides


@dataclass(frozen=True)
class Arguments:
    """Count parameters, MACs, FLOPs and bytes moved, of a network alone and with attention modules.

    Nothing is run or downloaded; docs/cost.md says what each number means.

    Examples:
      recalib cost resnet50 --attention eca se --parts
      recalib cost fasterrcnn_resnet50_fpn --size 800x1280
    """

    model: Annotated[Positional[str], arg(metavar="MODEL")]
    """a timm network, torchvision:NAME, a CIFAR ResNet such as resnet20 or cifar_resnet56_bottleneck, or a detector
    such as fasterrcnn_resnet50_fpn (with COCO's 81 classes and 1000 proposals; its parts are shown)"""
    size: ImageSize | None = None
    """side of the images in pixels, or height and width; by default 224, 32 for the CIFAR ResNets, 800x1280 for
    detectors, and 512 for an SSD"""
    batch: int = 1
    """images in a batch"""
    attention: tuple[str, ...] = ()
    """modules to insert, one network for each; `recalib modules` lists them"""
    kernel_size: str | None = None
    """of eca: 3, adaptive, or a digit for each stage such as 3557"""
    parts: bool = False
    """also the cost of each part of the network and of each attention module"""
    convention: Literal["standard", "klomp"] = "standard"
    """what counts as a FLOP: klomp as in Table 2 of Klomp et al. 2023"""
    binary: bool = False
    """print powers of 1024 (Ki, Mi, Gi), rounded as in the README of ECA-Net"""
    json: Path | None = None
    """file for the raw counts"""


def main(argv: list[str]) -> int:
    """Run the command; returns its exit status."""
    args = parse(Arguments, argv, "recalib cost")
    options = {} if args.kernel_size is None else {"kernel_size": args.kernel_size}
    costs = costs_of(args.model, args.attention, options, size=args.size, batch=args.batch, convention=args.convention)
    write_json(args.json, {"cells": [_cell(args, module, size, found) for module, (size, found) in costs.items()]})
    console, text = Console(), binary if args.binary else si
    console.print(_totals(args, costs, text))
    for module, (_, found) in costs.items() if args.parts or is_detector(args.model) else ():
        console.print(_parts(f"{args.model}, {module}", found, text, args.parts))
    return 0


def _cell(args: Arguments, module: str, size: Size, found: Cost) -> dict[str, object]:
    side = size if isinstance(size, int) else list(size)
    what = {"model": args.model, "module": module, "size": side, "batch": args.batch, "convention": args.convention}
    return {**what, **asdict(found)}


def _totals(args: Arguments, costs: dict[str, tuple[Size, Cost]], text: Callable[[int], str]) -> Table:
    size, plain = costs[BASELINE]
    height, width = sides(size)
    table = _table(f"{args.model}, {args.batch} x 3 x {height} x {width}", "module")
    for module, (_, found) in costs.items():
        table.add_row(module, *map(text, _values(found)))
        if module != BASELINE:
            more = [f"{100 * (b / a - 1):+.2f} %" for a, b in zip(_values(plain), _values(found), strict=True)]
            table.add_row("", f"+{text(found.params - plain.params)}", *more[1:], style="dim")
    return table


def _parts(title: str, found: Cost, text: Callable[[int], str], modules: bool) -> Table:
    table = _table(title, "part")
    for name, part in found.modules.items():
        if name and ("." not in name or (modules and name.endswith(".attention"))):
            table.add_row(name, *map(text, _values(part)))
    return table


def _table(title: str, heading: str) -> Table:
    table = Table(heading, title=title, box=box.SIMPLE_HEAD)
    for quantity in ("parameters", "MACs", "FLOPs", "bytes moved"):
        table.add_column(quantity, justify="right", no_wrap=True)
    return table


def _values(counts: Counts) -> tuple[int, int, int, int]:
    return counts.params, counts.macs, counts.flops, counts.bytes_moved
