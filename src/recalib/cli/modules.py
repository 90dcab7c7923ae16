"""``recalib modules``: the catalogue."""

from dataclasses import asdict, dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from recalib.attention.listing import Entry, entries
from recalib.cli.arguments import parse
from recalib.cli.json_file import write_json
from recalib.errors import RecalibError


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


def main(argv: list[str]) -> int:
    """Run the command; returns its exit status."""
    args = parse(Arguments, argv, "recalib modules")
    if args.channels < 1:
        raise RecalibError(f"--channels {args.channels}: a map has at least one channel")
    listed = entries(args.channels)
    write_json(args.json, {"channels": args.channels, "modules": [asdict(entry) for entry in listed]})
    console = Console()
    console.print(_numbers(listed, args.channels), _formulas(listed), highlight=False)
    console.print("All start as the identity with identity=True.", highlight=False)
    console.print("Passes are over the map, forward, and as many backward; plain: operator after operator.")
    return 0


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
