"""Cells in the order people read them: one row a network, runtime and module, before deploy beside after it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from recalib.benchmark.advice import overhead_text
from recalib.benchmark.published import BASELINE

Cell = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """One module in one network and runtime, as inserted (`before`) and after `deploy` (`after`)."""

    model: str
    runtime: str
    module: str
    before: Cell | None
    after: Cell | None

    @property
    def network(self) -> Cell:
        """The cell whose parameters, MACs and bytes describe the row: as inserted, where that was asked for."""
        return self.before or self.after or {}


def rows(cells: Sequence[Cell]) -> list[Row]:
    """Pair the cells of each (model, runtime, module), in the order they came."""
    pairs: dict[tuple[str, str, str], dict[bool, Cell]] = {}
    for cell in cells:
        pairs.setdefault((cell["model"], cell["runtime"], cell["module"]), {})[bool(cell["deployed"])] = cell
    groups = list(dict.fromkeys(key[:2] for key in pairs))
    ordered = sorted(pairs.items(), key=lambda item: groups.index(item[0][:2]))
    return [Row(*key, pair.get(False), pair.get(True)) for key, pair in ordered]


def module_title(module: str) -> str:
    """What a module is called where people read it."""
    return "plain" if module == BASELINE else module


def status_text(cell: Cell | None) -> str:
    """Why a cell has no time, in a word or three; nothing where it has one."""
    return "" if cell is None or cell["status"] == "ok" else cell["status"].replace("oom", "out of memory")


def median_text(cell: Cell | None) -> str:
    """Median latency in ms to three digits or more, or nothing where it was not measured."""
    if cell is None or not cell["latency_ms"]:
        return ""
    value = cell["latency_ms"]["median"]
    return f"{value:.{3 if value < 1 else 2 if value < 100 else 1}f}"


def overhead_cell(cell: Cell | None) -> str:
    """Overhead and interval of a cell in percent, for a column whose heading says so."""
    if cell is None or not cell["overhead"]:
        return ""
    return "reference" if is_reference(cell) else overhead_text(cell["overhead"]).replace(" %", "")


def is_reference(cell: Cell) -> bool:
    """Whether this is the plain network in its fastest form, to which overheads refer."""
    return (
        cell["module"] == BASELINE
        and cell["overhead"] is not None
        and cell["overhead"]["low"] == cell["overhead"]["high"] == 1.0
    )


def setting(cells: Sequence[Cell]) -> str:
    """Size, batch and precision of the measurements, such as `224 px, batch 1, fp32`."""
    settings = dict.fromkeys(f"{cell['size']} px, batch {cell['batch']}, {cell['precision']}" for cell in cells)
    return "; ".join(settings) or "nothing measured"


def costs(row: Row) -> tuple[str, str, str]:
    """Parameters, 10^9 MACs and 10^6 bytes moved of a row's network; nothing where they were not counted."""
    params, macs, moved = (row.network.get(name) for name in ("params", "macs", "bytes_moved"))
    return (
        "" if params is None else f"{params:,}",
        "" if macs is None else f"{macs / 1e9:.3f}",
        "" if moved is None else f"{moved / 1e6:.1f}",
    )
