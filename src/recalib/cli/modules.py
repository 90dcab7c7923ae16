"""``recalib modules``: the catalogue."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table
from torch import nn

from recalib.attention import CATALOGUE, BroadcastAttention, create_attention
from recalib.cli.arguments import parse
from recalib.cli.json_file import write_json
from recalib.errors import RecalibError
from recalib.ops import GateOnMoments


@dataclass(frozen=True)
class Arguments:
    """List the channel attention modules: formula, parameters, what they read of a map, and where they come from.

    Examples:
      recalib modules --channels 512
    """

    channels: int = 256
    """channels that the parameters are counted for"""
    json: Path | None = None
    """file for the catalogue"""


@dataclass(frozen=True)
class Entry:
    """One form of a mechanism.

    Attributes:
        name: what `create_attention` and `insert_` take.
        aliases: other names for it.
        options: that choose this form.
        title: the name in its paper.
        formula: y as a function of x.
        params: parameters at the given number of channels.
        moments: what it reads of a map: ``"mean"``, ``"mean, variance"``, other statistics, or ``"map"``.
        identity_at_start: whether it starts as the identity without being asked to.
        fused: whether `recalib.ops.recalibrate` can fuse it with norm, shortcut and ReLU.
        passes: over the map, forward, and as many backward; None where it runs as plain operators.
        authors: where its authors put it, by the modules of such a name; None for the end of a residual branch.
        paper: first author, year, arXiv number.
    """

    name: str
    aliases: tuple[str, ...]
    options: dict[str, Any]
    title: str
    formula: str
    params: int
    moments: str
    identity_at_start: bool
    fused: bool
    passes: int | None
    authors: str | None
    paper: str


def main(argv: list[str]) -> int:
    """Run the command; returns its exit status."""
    args = parse(Arguments, argv, "recalib modules")
    if args.channels < 1:
        raise RecalibError(f"--channels {args.channels}: a map has at least one channel")
    entries = list(_entries(args.channels))
    write_json(args.json, {"channels": args.channels, "modules": [asdict(entry) for entry in entries]})
    console = Console()
    console.print(_numbers(entries, args.channels), _formulas(entries), highlight=False)
    console.print("All start as the identity with identity=True.", highlight=False)
    console.print("Passes are over the map, forward, and as many backward; plain: operator after operator.")
    return 0


def _entries(channels: int) -> Iterator[Entry]:
    for name, mechanism in CATALOGUE.items():
        for form in mechanism.classes:
            options = dict(form.chosen_by)
            module = create_attention(name, channels, **options)
            yield Entry(
                name=name,
                aliases=mechanism.aliases,
                options=options,
                title=form.title,
                formula=form.formula,
                params=sum(p.numel() for p in module.parameters()),
                moments=_moments(module),
                identity_at_start=form.identity_at_start,
                fused=isinstance(module, GateOnMoments),
                passes=_passes(module),
                authors=f"{form.authors.position} {form.authors.names}" if form.authors else None,
                paper=form.paper,
            )


def _passes(module: nn.Module) -> int | None:
    """One read a step, and one to apply the gates."""
    if isinstance(module, GateOnMoments):
        return 2
    return 1 + len(module.steps()) if isinstance(module, BroadcastAttention) else None


def _moments(module: nn.Module) -> str:
    if isinstance(module, BroadcastAttention):
        return ", ".join(name.replace("_", " ") for step in module.steps() for name in step.reads)
    if not isinstance(module, GateOnMoments):
        return "map"
    return "mean, variance" if module.needs_variance else "mean"


def _numbers(entries: list[Entry], channels: int) -> Table:
    table = Table(Column("name", no_wrap=True), box=box.SIMPLE_HEAD)
    table.add_column(f"parameters\n(C = {channels})", justify="right")
    for heading in ("\nreads", "identity\nat start", "\npasses", "also\ncalled"):
        table.add_column(heading)
    for entry in entries:
        start, passes = "yes" if entry.identity_at_start else "no", str(entry.passes or "plain")
        table.add_row(_name(entry), f"{entry.params:,}", entry.moments, start, passes, ", ".join(entry.aliases))
    return table


def _formulas(entries: list[Entry]) -> Table:
    table = Table("name", "formula, with m and v the mean and variance over H and W", box=box.SIMPLE_HEAD)
    for entry in entries:
        table.add_row(_name(entry), escape(f"{entry.title} ({entry.paper})\n{entry.formula}"))
    return table


def _name(entry: Entry) -> str:
    return "\n".join((entry.name, *(f"  {key}={value}" for key, value in entry.options.items())))
