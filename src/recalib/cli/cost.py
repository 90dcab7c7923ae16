"""``recalib cost``: what a network costs on paper."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from rich import box
from rich.console import Console
from rich.table import Table
from torch import nn
from tyro.conf import FlagCreatePairsOff, Positional, arg

from recalib.benchmark.cost import Cost, Counts, cost
from recalib.benchmark.units import binary, si
from recalib.cli.arguments import parse
from recalib.cli.json_file import write_json
from recalib.models import CifarResNet, create_model
from recalib.surgery import insert_

BASELINE = "baseline"


@dataclass(frozen=True)
class Arguments:
    """Count parameters, MACs, FLOPs and bytes moved, of a network alone and with attention modules.

    Nothing is run or downloaded; docs/cost.md says what each number means.

    Example: recalib cost resnet50 --attention eca se --modules
    """

    model: Annotated[Positional[str], arg(metavar="MODEL")]
    """a timm network, torchvision:NAME, or a CIFAR ResNet such as resnet20 or cifar_resnet56_bottleneck"""
    size: int | None = None
    """side of the images in pixels; by default 224, and 32 for the CIFAR ResNets"""
    batch: int = 1
    """images in a batch"""
    attention: tuple[str, ...] = ()
    """modules to insert, one network for each; `recalib modules` lists them"""
    kernel_size: str | None = None
    """of eca: 3, adaptive, or a digit for each stage such as 3557"""
    modules: bool = False
    """also the cost of each part of the network and of each attention module"""
    convention: Literal["standard", "klomp"] = "standard"
    """what counts as a FLOP: klomp as in Table 2 of Klomp et al. 2023"""
    binary: bool = False
    """print powers of 1024 (Ki, Mi, Gi), rounded as in the README of ECA-Net"""
    json: Path | None = None
    """file for the raw counts"""


def main(argv: list[str]) -> int:
    """Run the command; returns its exit status."""
    args = parse(Arguments, argv, "recalib cost", config=(FlagCreatePairsOff,))
    costs = dict(_costs(args))
    write_json(args.json, {"cells": [_cell(args, module, size, found) for module, (size, found) in costs.items()]})
    console, text = Console(), binary if args.binary else si
    console.print(_totals(args, costs, text))
    for module, (_, found) in costs.items() if args.modules else ():
        console.print(_parts(f"{args.model}, {module}", found, text))
    return 0


def _costs(args: Arguments) -> Iterator[tuple[str, tuple[int, Cost]]]:
    options: dict[str, Any] = {} if args.kernel_size is None else {"kernel_size": args.kernel_size}
    for module in dict.fromkeys((BASELINE, *args.attention)):
        network = create_model(args.model)
        if module != BASELINE:
            insert_(network, module, **options)
        size = _usual_size(network) if args.size is None else args.size
        yield module, (size, cost(network, (args.batch, 3, size, size), convention=args.convention))


def _usual_size(network: nn.Module) -> int:
    return 32 if isinstance(network, CifarResNet) else 224


def _cell(args: Arguments, module: str, size: int, found: Cost) -> dict[str, object]:
    what = {"model": args.model, "module": module, "size": size, "batch": args.batch, "convention": args.convention}
    return {**what, **asdict(found)}


def _totals(args: Arguments, costs: dict[str, tuple[int, Cost]], text: Callable[[int], str]) -> Table:
    size, plain = costs[BASELINE]
    table = _table(f"{args.model}, {args.batch} x 3 x {size} x {size}", "module")
    for module, (_, found) in costs.items():
        table.add_row(module, *map(text, _values(found)))
        if module != BASELINE:
            more = [f"{100 * (b / a - 1):+.2f} %" for a, b in zip(_values(plain), _values(found), strict=True)]
            table.add_row("", f"+{text(found.params - plain.params)}", *more[1:], style="dim")
    return table


def _parts(title: str, found: Cost, text: Callable[[int], str]) -> Table:
    table = _table(title, "part")
    for name, part in found.modules.items():
        if name and ("." not in name or name.endswith(".attention")):
            table.add_row(name, *map(text, _values(part)))
    return table


def _table(title: str, heading: str) -> Table:
    table = Table(heading, title=title, box=box.SIMPLE_HEAD)
    for quantity in ("parameters", "MACs", "FLOPs", "bytes moved"):
        table.add_column(quantity, justify="right", no_wrap=True)
    return table


def _values(counts: Counts) -> tuple[int, int, int, int]:
    return counts.params, counts.macs, counts.flops, counts.bytes_moved
