"""The file of cells, written so that it survives a killed process, and read back: the one reader and writer.

A line of JSON for each machine, ``{"machine": {...}}``, one for each run, ``{"run": {"command", "code", "started"}}``,
and one for each cell. What ``--json`` wrote, one object with ``machine`` and ``cells``, is read as well.
"""

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from recalib.errors import RecalibError
from recalib.measure.cells import Cell, Key, fingerprint
from recalib.measure.machines import Machine, named, together

FILES = ("compare.jsonl", "latency.jsonl", "networks.jsonl")  # of compare, latency and bench


class Store:
    """Cells as lines of JSON.

    Lines are appended and flushed to the disk, so that a process killed at any moment leaves what it had written and
    at most one broken line.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def start(
        self, machines: Iterable[Machine], run: Mapping[str, Any], *, resume: bool = False, overwrite: bool = False
    ) -> dict[Key, Cell]:
        """Begin a run: write a line for it and for each machine, and give the cells that are kept.

        Args:
            machines: descriptions of what is measured on.
            run: its command and code version.
            resume: keep what the file holds.
            overwrite: forget what the file holds.

        Raises:
            RecalibError: if the file cannot be written, or holds cells that are neither to be kept nor forgotten.
        """
        known = {} if overwrite else self.read()
        if known and not resume:
            held = f"{self.path} holds {len(known)} measured cells"
            raise RecalibError(f"{held}; --resume keeps them and goes on, --overwrite forgets them")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if overwrite:
                self.path.unlink(missing_ok=True)
            self._append({"run": dict(run)}, *({"machine": machine} for machine in machines))
        except OSError as error:
            raise RecalibError(f"cannot write {str(self.path)!r}: {error.strerror}") from None
        return known

    def append(self, cells: Iterable[Cell]) -> None:
        """Add cells and return when they are on the disk."""
        self._append(*(cell.to_dict() for cell in cells))

    def read(self) -> dict[Key, Cell]:
        """The last cell of every key; a broken line is named on stderr and skipped."""
        return {cell.key: cell for kind, cell in _entries(self.path) if kind == "cell"} if self.path.exists() else {}

    def _append(self, *values: dict[str, Any]) -> None:
        with self.path.open("ab+") as file:
            if file.tell() and not self._ends_a_line():
                file.write(b"\n")
            file.write("".join(json.dumps(value, allow_nan=False) + "\n" for value in values).encode())
            file.flush()
            os.fsync(file.fileno())

    def _ends_a_line(self) -> bool:
        with self.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"


@dataclass(frozen=True)
class Results:
    """Cells, and the machines they were measured on.

    Attributes:
        machines: descriptions by name; a cell's ``machine`` is one of the names.
        cells: in the order they were first met.
        runs: what is known of the runs that measured them: command, code version and start of each.
    """

    machines: dict[str, Machine]
    cells: list[Cell]
    runs: list[dict[str, Any]]

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
    runs: list[dict[str, Any]] = []
    for path in paths:
        here = ""  # the machine of cells that do not say theirs
        for kind, value in _entries(_file_in(path) if path.is_dir() else path):
            if kind == "machine":
                here = fingerprint(value)
                described.setdefault(here, value)
            elif kind == "machines":  # of several files that were put together
                described |= value
            elif kind == "run":
                runs.append(value)
            else:
                found.append(value if value.machine else replace(value, machine=here))
    if not found:
        raise RecalibError(
            f"{', '.join(map(str, paths))}: no measured cells; give what recalib compare or latency wrote"
        )
    used = dict.fromkeys(cell.machine for cell in found)
    names, machines = named({key: described.get(key, {}) for key in used})
    cells = [replace(cell, machine=names[cell.machine]) for cell in found]
    return Results(machines, list({cell.key: cell for cell in cells}.values()), runs)


def _file_in(folder: Path) -> Path:
    return next((file for name in FILES if (file := folder / name).exists()), folder / FILES[0])


def _entries(file: Path) -> Iterator[tuple[str, Any]]:
    """Machines, runs and cells of a file, in their order; what is broken is named on stderr and skipped."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise RecalibError(f"{file} cannot be read: {error.strerror}") from None
    whole = _whole(content)
    if whole is not None:
        for name in ("machine", "machines", "run"):
            if name in whole:
                yield name, whole[name]
        values = [(f"cell {number}", value) for number, value in enumerate(whole["cells"], start=1)]
    else:
        values = [(str(number), line) for number, line in enumerate(content.splitlines(), start=1)]
    for place, value in values:
        try:
            yield _entry(json.loads(value) if isinstance(value, bytes) else value)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            reason = (str(error).splitlines() or [""])[0]
            print(f"recalib: {file}:{place}: broken line skipped ({reason})", file=sys.stderr)


def _whole(content: bytes) -> dict[str, Any] | None:
    """Content that ``--json`` wrote, or None for a file of lines."""
    try:
        value = json.loads(content)
    except ValueError:
        return None
    return value if isinstance(value, dict) and isinstance(value.get("cells"), list) else None


def _entry(value: Any) -> tuple[str, Any]:
    for name in ("machine", "run"):
        if isinstance(value, dict) and len(value) == 1 and isinstance(value.get(name), dict):
            return name, value[name]
    return "cell", Cell.of(value)
