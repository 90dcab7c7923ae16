"""Measured cells read back from what `recalib compare` or `latency` wrote: a ``--json`` object or a file of lines."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recalib.errors import RecalibError
from recalib.measure.cells import fingerprint
from recalib.measure.machines import Machine, named, together

Cell = dict[str, Any]
FILES = ("compare.jsonl", "latency.jsonl", "networks.jsonl")  # of compare, latency and bench
_NEEDED = ("model", "module", "runtime", "deployed", "size", "batch", "precision", "status", "latency_ms", "overhead")


@dataclass(frozen=True)
class Results:
    """Cells, and the machines they were measured on.

    Attributes:
        machines: descriptions by name; a cell's ``machine`` is one of the names.
        cells: in the order they were first met.
    """

    machines: dict[str, Machine]
    cells: list[Cell]

    @property
    def machine(self) -> Machine:
        """The machine's description; of several, what they share and, by name, what is each one's own."""
        return together(self.machines)


def read_results(paths: Sequence[Path]) -> Results:
    """Read files of cells, or the folders that hold them; a cell measured again counts once, the last.

    Raises:
        RecalibError: for a file that cannot be read or holds no cells.
    """
    described: dict[str, Machine] = {}
    found: list[Cell] = []
    for path in paths:
        file = _file_in(path) if path.is_dir() else path
        here = ""  # the machine of cells that do not say theirs
        for value in _objects(file):
            described |= value.get("machines", {})
            if "machine" in value and ("cells" in value or len(value) == 1):
                here = fingerprint(value["machine"])
                described.setdefault(here, value["machine"])
            for cell in value.get("cells", [value] if "model" in value else []):
                _check(cell, file)
                found.append({"machine": here} | cell)
    if not found:
        raise RecalibError(
            f"{', '.join(map(str, paths))}: no measured cells; give what recalib compare or latency wrote"
        )
    used = dict.fromkeys(cell["machine"] for cell in found)
    names, machines = named({key: described.get(key, {}) for key in used})
    cells = [cell | {"machine": names[cell["machine"]]} for cell in found]
    return Results(machines, list({_identity(cell): cell for cell in cells}.values()))


def _file_in(folder: Path) -> Path:
    return next((file for name in FILES if (file := folder / name).exists()), folder / FILES[0])


def _objects(file: Path) -> list[dict[str, Any]]:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecalibError(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    try:
        values = [json.loads(text)]
    except ValueError:
        values = [value for line in text.splitlines() if (value := _line(line)) is not None]
    return [value for value in values if isinstance(value, dict)]


def _line(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None  # torn by a process that was killed


def _check(cell: Any, file: Path) -> None:
    missing = [name for name in _NEEDED if not isinstance(cell, dict) or name not in cell]
    if missing:
        raise RecalibError(f"{file}: a cell lacks {', '.join(missing)}; give what recalib compare or latency wrote")


def _identity(cell: Cell) -> tuple[Any, ...]:
    names = ("model", "module", "runtime", "deployed", "size", "batch", "precision", "protocol", "machine")
    return tuple(json.dumps(cell.get(name)) for name in names)
