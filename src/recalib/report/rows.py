"""Cells in the order people read them: one row a network, runtime, setting and module, before deploy beside after."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from recalib.attention import PAPER
from recalib.choose.advice import overhead_text
from recalib.measure.cells import BASELINE, Cell

SETTING = ("precision", "resolution", "batch", "protocol", "machine", "code")
_QUIET = ("protocol", "machine", "code")  # named only where there are several


@dataclass(frozen=True)
class Row:
    """One module in one network, runtime and setting, as inserted (`before`) and after `deploy` (`after`).

    Attributes:
        model: name of the network.
        runtime: name of the runtime.
        setting: what `SETTING` names.
        module: name of the module.
        before: the cell as inserted.
        after: the deployed cell.
    """

    model: str
    runtime: str
    setting: dict[str, str]
    module: str
    before: Cell | None
    after: Cell | None

    @property
    def network(self) -> Cell:
        """The cell whose parameters, MACs and bytes describe the row: as inserted, where that was asked for."""
        found = self.before or self.after
        assert found is not None
        return found


def rows(cells: Sequence[Cell]) -> list[Row]:
    """Pair the cells of each (model, runtime, setting, module); by model and runtime, each by setting."""
    pairs: dict[tuple[str, str, tuple[str, ...], str], dict[bool, Cell]] = {}
    for cell in cells:
        key = cell.model, cell.runtime, tuple(setting_of(cell).values()), cell.module
        pairs.setdefault(key, {})[bool(cell.deployed)] = cell
    groups = list(dict.fromkeys(key[:2] for key in pairs))
    settings = list(dict.fromkeys(key[2] for key in pairs))
    ordered = sorted(
        pairs.items(), key=lambda item: (groups.index(item[0][:2]), settings.index(item[0][2]), place_of(item[0][3]))
    )
    return [
        Row(model, runtime, dict(zip(SETTING, setting, strict=True)), module, pair.get(False), pair.get(True))
        for (model, runtime, setting, module), pair in ordered
    ]


def place_of(module: str) -> int:
    """The place of a module in every table and chart: the plain network, the paper's modules, then all others."""
    return (BASELINE, *PAPER, module).index(module)


def setting_of(cell: Cell) -> dict[str, str]:
    """Setting and place of a measurement, as people read and choose it."""
    values = cell.precision, size_text(cell), str(cell.batch), cell.protocol, cell.machine, _code(cell)
    return dict(zip(SETTING, values, strict=True))


def _code(cell: Cell) -> str:
    """The version of the code that measured it; files from before it was recorded are one version of their own."""
    return cell.code or "code not recorded"


def facets_of(cell: Cell) -> dict[str, str]:
    """Everything by which a reader can choose cells, but the module."""
    return {"network": cell.model, "runtime": cell.runtime, **setting_of(cell)}


def facets_text(facets: Mapping[str, str]) -> str:
    """Such as ``eager, fp32, 224 px, batch 1``."""
    form = {"resolution": "{} px", "batch": "batch {}", "protocol": "{} protocol"}
    return ", ".join(form.get(name, "{}").format(value) for name, value in facets.items())


def varying(cells: Sequence[Cell]) -> list[str]:
    """Parts of the setting that have several values."""
    settings = [setting_of(cell) for cell in cells]
    return [name for name in SETTING if len({setting[name] for setting in settings}) > 1]


def worth_naming(facets: Mapping[str, str], vary: Sequence[str]) -> dict[str, str]:
    """The facets without a protocol and a machine that are everywhere the same."""
    return {name: value for name, value in facets.items() if name not in _QUIET or name in vary}


def size_text(cell: Cell) -> str:
    """Such as ``224`` or ``320x192`` (height, width)."""
    return str(cell.size) if isinstance(cell.size, int) else "x".join(map(str, cell.size))


def setting_text(cell: Cell) -> str:
    """Such as ``224 px, batch 1, fp32``."""
    return f"{size_text(cell)} px, batch {cell.batch}, {cell.precision}"


def is_distinguishable(cell: Cell) -> bool:
    """True if an overhead differs from none: as the cell says, or where its interval does not hold 1."""
    return cell.overhead is not None and bool(cell.overhead.distinguishable)


def is_like_plain(cell: Cell | None) -> bool:
    """True if a cell was measured against another one and cannot be told from it."""
    return cell is not None and bool(cell.overhead) and not is_reference(cell) and not is_distinguishable(cell)


def module_title(module: str) -> str:
    """Name of a module where people read it."""
    return "plain" if module == BASELINE else module


def status_text(cell: Cell | None) -> str:
    """Reason why a cell has no time, in a word or three; nothing where it has one."""
    return "" if cell is None or cell.status == "ok" else cell.status.replace("oom", "out of memory")


def median_text(cell: Cell | None) -> str:
    """Median latency in ms to three digits or more, or nothing where it was not measured."""
    if cell is None or not cell.latency_ms:
        return ""
    value = cell.latency_ms.median
    return f"{value:.{3 if value < 1 else 2 if value < 100 else 1}f}"


def overhead_cell(cell: Cell | None) -> str:
    """Overhead and interval of a cell in percent, for a column whose heading says so."""
    if cell is None or not cell.overhead:
        return ""
    return "reference" if is_reference(cell) else overhead_text(cell.overhead).replace(" %", "")


def is_reference(cell: Cell) -> bool:
    """True if this is the plain network in its fastest form, to which overheads refer."""
    over = cell.overhead
    return cell.module == BASELINE and over is not None and over.low == over.high == 1.0


def setting(cells: Sequence[Cell]) -> str:
    """Sizes, batches and precisions of the measurements, such as `224 px, batch 1, fp32`; several protocols too."""
    values = [list(dict.fromkeys(setting_of(cell)[name] for cell in cells)) for name in SETTING]
    precisions, sizes, batches, protocols, *_ = (", ".join(found) for found in values)
    timed = f", {protocols} protocol" if "protocol" in varying(cells) else ""
    return f"{sizes} px, batch {batches}, {precisions}{timed}" if cells else "nothing measured"


def counted(cell: Cell) -> tuple[int | None, int | None, int | None]:
    """Parameters, MACs and bytes moved, where they were counted.

    Bytes of int8 are not: which layers a runtime quantises and fuses PyTorch's graph does not tell, and older files
    have float32's there.
    """
    moved = None if cell.precision == "int8" else cell.bytes_moved
    return cell.params, cell.macs, moved


def costs(row: Row) -> tuple[str, str, str]:
    """Parameters, 10^9 MACs and 10^6 bytes moved of a row's network; nothing where they were not counted."""
    params, macs, moved = counted(row.network)
    return (
        "" if params is None else f"{params:,}",
        "" if macs is None else f"{macs / 1e9:.3f}",
        "" if moved is None else f"{moved / 1e6:.1f}",
    )
