"""``recalib sites``: where attention can go in a network, and what each place costs."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from rich import box
from rich.console import Console
from rich.table import Table
from torch import nn
from tyro.conf import Positional, arg

from recalib.attention import TYPICAL
from recalib.cli.arguments import parse
from recalib.cli.json_file import write_json
from recalib.errors import RecalibError
from recalib.models import create_model
from recalib.surgery import Site, example_input, insert_, remove_, sites


@dataclass(frozen=True)
class Arguments:
    """List the places for attention in a network: the ends of residual branches, or after blocks, stages, convolutions.

    Beside each is what the module costs there, in parameters and in multiply-adds and megabytes moved for one image.

    Examples:
      recalib sites resnet50 --attention eca
    """

    model: Annotated[Positional[str], arg(metavar="MODEL")]
    """a network's name, package.module:factory, or a yaml of ultralytics"""
    where: Literal["residual", "blocks", "stages", "convs"] | None = None
    """the kind of place; by default residual, or blocks where the network adds nothing"""
    attention: str = TYPICAL[0]
    """the module whose cost is shown"""
    json: Path | None = None
    """file for the raw numbers"""


def main(argv: list[str]) -> int:
    """Run the command."""
    args = parse(Arguments, argv, "recalib sites")
    model = create_model(args.model)
    remove_(model)  # of a network from the hub: what is shown is what could be there
    found = sites(model, args.where)
    if not found:
        raise RecalibError(f"{args.model} has no {args.where or 'residual additions or blocks'} that can be seen")
    rows = list(_rows(model, found, args.attention))
    write_json(args.json, {"model": args.model, "attention": args.attention, "sites": rows})
    table = Table(title=f"{args.model}, {len(rows)} sites", box=box.SIMPLE_HEAD)
    for heading in ("site", "kind", "stage"):
        table.add_column(heading, no_wrap=True)
    for heading in ("C", "map", "parameters", "kMACs", "MB moved"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        size = "x".join(map(str, row["size"])) if isinstance(row["size"], list) else "?"
        moved = float(str(row["bytes_moved"])) / 1e6
        kilo = float(str(row["macs"])) / 1e3
        table.add_row(
            str(row["name"]), str(row["kind"]), str(row["stage"]), str(row["channels"]), size, f"{row['params']:,}",
            f"{kilo:,.1f}", f"{moved:.2f}",
        )  # fmt: skip
    Console().print(table)
    return 0


def _rows(model: nn.Module, found: list[Site], attention: str) -> Iterator[dict[str, object]]:
    """Each site with what the module adds to one forward pass there."""
    from recalib.cost import cost

    kind = found[0].kind
    insert_(model, attention, where=None if kind == "residual" else kind)
    parts = cost(model, tuple(example_input(model).shape)).modules
    for site in found:
        name = next(n for n in _names(model, site.name) if f"{n}.attention" in parts)
        part = parts[f"{name}.attention"]
        counts = {"params": part.params, "macs": part.macs, "bytes_moved": part.bytes_moved}
        size = None if site.size is None else list(site.size)
        yield {
            "name": site.name,
            "kind": site.kind,
            "stage": site.stage,
            "channels": site.channels,
            "size": size,
        } | counts


def _names(model: nn.Module, name: str) -> Iterator[str]:
    from recalib.surgery.wrap import without_wrappers

    return (full for full, _ in model.named_modules() if without_wrappers(full) == name)
