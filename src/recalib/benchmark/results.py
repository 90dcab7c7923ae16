"""Measured cells read back from what `recalib compare` or `latency` wrote: a ``--json`` object or a file of lines."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recalib.errors import RecalibError

Cell = dict[str, Any]
FILES = ("compare.jsonl", "latency.jsonl", "networks.jsonl")  # of compare, latency and bench
_NEEDED = ("model", "module", "runtime", "deployed", "size", "batch", "precision", "status", "latency_ms", "overhead")


@dataclass(frozen=True)
class Results:
    """Cells, and the machine they were measured on (of several files, the last one's)."""

    machine: dict[str, Any]
    cells: list[Cell]


def read_results(paths: Sequence[Path]) -> Results:
    """Read files of cells, or the folders that hold them; a cell measured again counts once, the last.

    Raises:
        RecalibError: for a file that cannot be read or holds no cells.
    """
    machine: dict[str, Any] = {}
    cells: dict[tuple[Any, ...], Cell] = {}
    for path in paths:
        file = _file_in(path) if path.is_dir() else path
        for value in _objects(file):
            machine = value.get("machine", machine) if "cells" in value or len(value) == 1 else machine
            for cell in value.get("cells", [value] if "model" in value else []):
                _check(cell, file)
                cells[_identity(cell)] = cell
    if not cells:
        raise RecalibError(
            f"{', '.join(map(str, paths))}: no measured cells; give what recalib compare or latency wrote"
        )
    return Results(machine, list(cells.values()))


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
