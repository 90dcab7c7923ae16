"""The table on the terminal."""

from collections.abc import Mapping, Sequence
from itertools import chain, groupby, repeat
from typing import Any

from rich import box, get_console
from rich.table import Table
from rich.text import Text

from recalib.measure.cells import Cell
from recalib.report.rows import (
    Row,
    costs,
    facets_text,
    is_like_plain,
    median_text,
    module_title,
    overhead_cell,
    rows,
    setting,
    status_text,
    varying,
)

FULL_WIDTH = 96  # below it the network's costs are left out: the times matter more
_CAPTION = (
    "overhead: over the plain network's fastest form in the same runtime, with its 95 % interval; "
    "~ and dim: cannot be told from none"
)


def terminal_table(cells: Sequence[Cell], machine: Mapping[str, Any], width: int | None = None) -> Table:
    """Lay the measurements out for a terminal: one row a module, as inserted and after `deploy` side by side.

    Args:
        cells: what `recalib compare --json` writes.
        machine: its machine; `device`, where given, is named in the title.
        width: columns there are, by default the terminal's. On fewer than 96 parameters, MACs and bytes are left out.

    Returns:
        A table of network and runtime, module, parameters, MACs, bytes moved, and twice (as inserted, deployed) the
        median latency in ms and the overhead over the plain network with its 95 % interval. A cell without a time
        shows its status.
    """
    full = (width or get_console().width) >= FULL_WIDTH
    table = Table(
        title=Text(f"{setting(cells)} on {machine.get('device', 'this machine')}"),
        caption=_CAPTION if full else f"{_CAPTION}; costs are shown from {FULL_WIDTH} columns on",
        box=box.SIMPLE_HEAD,
        padding=0,
        show_edge=False,
    )
    table.add_column("network\nruntime", overflow="fold")
    table.add_column("module", overflow="fold")
    for heading in ("\nparameters", "\nGMACs", "MB\nmoved") if full else ():
        table.add_column(heading, justify="right")
    for heading in ("as inserted", "deployed"):
        table.add_column("\nms", justify="right", no_wrap=True)
        table.add_column(f"{heading}\noverhead, %", justify="right")
    vary = [
        name for name in varying(cells) if name != "machine"
    ]  # there is one, whose fingerprint tells precisions too
    for _, group in groupby(rows(cells), key=lambda row: (row.model, row.runtime, row.setting)):
        _add_group(table, list(group), vary, full)
    return table


def _add_group(table: Table, group: Sequence[Row], vary: Sequence[str], full: bool) -> None:
    names = [group[0].model, group[0].runtime, *_settings(group[0], vary)]
    names = [*names[: len(group) - 1], "\n".join(names[len(group) - 1 :])]
    for row, name in zip(group, chain(names, repeat("")), strict=False):
        counted = map(Text, costs(row)) if full else ()
        texts = (Text(name, "bold"), Text(module_title(row.module)), *counted, *_times(row))
        table.add_row(*texts, end_section=row is group[-1])


def _settings(row: Row, vary: Sequence[str]) -> list[str]:
    """The part of a row's setting that differs from row to row, in a line."""
    return [facets_text({name: row.setting[name] for name in vary})] if vary else []


def _times(row: Row) -> list[Text]:
    texts = []
    for cell in (row.before, row.after):
        texts += [Text(median_text(cell)), Text(status_text(cell), "yellow") or _overhead(cell)]
    return texts


def _overhead(cell: Cell | None) -> Text:
    return Text(f"~{overhead_cell(cell)}", "dim") if is_like_plain(cell) else Text(overhead_cell(cell))
