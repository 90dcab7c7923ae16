"""A measured cell, and the file of cells that survives a killed process."""

import dataclasses
import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from recalib.errors import RecalibError
from recalib.measure.sizes import Size
from recalib.measure.statistics import processes_of

BASELINE = "baseline"  # the module of a network without attention
Status = Literal["ok", "oom", "unsupported", "failed"]
Key = tuple[Any, ...]
_IDENTITY = ("model", "module", "runtime", "deployed", "size", "batch", "precision", "protocol", "machine")


@dataclass(kw_only=True)
class Cell:
    """One network in one runtime.

    Attributes:
        model: name of the network.
        module: name of the attention module, ``"baseline"`` for none.
        runtime: name of the runtime.
        deployed: whether the network went through `recalib.deploy`.
        size: side of the square input in pixels, or (H, W).
        batch: images in one forward pass.
        precision: a name in `recalib.runtimes.DTYPES`.
        protocol: of the timing, ``"clean"`` or ``"paper"``.
        machine: fingerprint of the machine, see `fingerprint`.
        status: ``"ok"``, ``"oom"``, ``"unsupported"`` or ``"failed"``; only the first has a latency.
        message: why not, in one line.
        params: parameters of the network in this form.
        macs: multiply-adds of one forward pass, of the whole batch.
        bytes_moved: bytes of one forward pass that its layers read and write; None for int8.
        latency_ms: ``{"median", "min", "samples", "processes"}``; one sample a round, paired with the other cells of
            the run, process after process, and how many each process gave.
            Of a runtime with several requests in flight it is the time a batch at full load, not a latency.
        in_flight: requests that were worked on at the same time.
        images_per_s: batch over the median.
        agreement: of a reduced precision with float32, see `recalib.measure.agreement.agreement`.
        enqueue_ms: median time until the work was queued on a GPU; None on a CPU.
        overhead: ``{"ratio", "low", "high"}`` of the latency to that of the same network without attention, in the
            same runtime and run, in its faster form; with ``"p"`` and ``"distinguishable"``, see
            `recalib.measure.statistics`.
        baseline: which form that was: ``"deployed"`` or ``"undeployed"``.
        setup_s: seconds the runtime took to load or compile the network and to run it once.
        warnings: what to know before trusting the latency.
        device: ``"cpu"`` or ``"cuda"``.
        layout: of the feature maps.
        complete: False if the run was interrupted before its last round.
    """

    model: str
    module: str
    runtime: str
    deployed: bool
    size: Size
    batch: int
    precision: str
    protocol: str
    machine: str
    status: Status = "ok"
    message: str = ""
    params: int | None = None
    macs: int | None = None
    bytes_moved: int | None = None
    latency_ms: dict[str, Any] | None = None
    enqueue_ms: float | None = None
    in_flight: int = 1
    images_per_s: float | None = None
    agreement: dict[str, Any] | None = None
    overhead: dict[str, Any] | None = None
    baseline: str | None = None
    setup_s: float | None = None
    warnings: list[str] = field(default_factory=list)
    device: str | None = None
    layout: str | None = None
    complete: bool = True

    @property
    def key(self) -> Key:
        """What makes two cells measurements of the same thing."""
        return tuple(getattr(self, name) for name in _IDENTITY)

    @property
    def processes(self) -> list[int]:
        """Rounds of each process that measured it; none where there is no latency."""
        return processes_of(self.latency_ms) if self.latency_ms else []

    def to_dict(self) -> dict[str, Any]:
        """The cell in JSON's types."""
        return dataclasses.asdict(self)


def fingerprint(machine: dict[str, Any]) -> str:
    """A short name for a description of a machine, the same for the same description."""
    return hashlib.sha256(json.dumps(machine, sort_keys=True).encode()).hexdigest()[:12]


class CellFile:
    """Cells as lines of JSON, below a line for each machine: ``{"machine": {...}}``.

    Lines are appended and flushed to the disk, so that a process killed at any moment leaves what it had written and
    at most one broken line.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def start(self, machine: dict[str, Any], *, keep: bool) -> None:
        """Write the machine's line, below what the file holds if it is to be kept.

        Raises:
            RecalibError: if the file cannot be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if not keep:
                self.path.unlink(missing_ok=True)
            self._append({"machine": machine})
        except OSError as error:
            raise RecalibError(f"cannot write {str(self.path)!r}: {error.strerror}") from None

    def append(self, cells: Iterable[Cell]) -> None:
        """Add cells and return when they are on the disk."""
        self._append(*(cell.to_dict() for cell in cells))

    def read(self) -> dict[Key, Cell]:
        """The last cell of every key; a broken line is named on stderr and skipped."""
        return {cell.key: cell for cell in self._cells()} if self.path.exists() else {}

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

    def _cells(self) -> Iterator[Cell]:
        for number, line in enumerate(self.path.read_bytes().splitlines(), start=1):
            try:
                value = json.loads(line)
                if "machine" in value and len(value) == 1:
                    continue
                yield _cell(value)
            except (ValueError, TypeError, KeyError) as error:
                reason = str(error).splitlines()[0]
                print(f"recalib: {self.path}:{number}: broken line skipped ({reason})", file=sys.stderr)


def _cell(value: Any) -> Cell:
    """The cell of a line, checked as far as others rely on it."""
    cell = Cell(**value)
    if isinstance(cell.size, list):
        cell.size = tuple(cell.size)
    hash(cell.key)
    if cell.status not in get_args(Status):
        raise ValueError(f"status {cell.status!r}")
    if cell.status == "ok":
        latency: Any = cell.latency_ms
        sum([latency["median"], latency["min"], *latency["samples"]])
    if cell.overhead is not None:
        sum(cell.overhead[name] for name in ("ratio", "low", "high"))
    return cell
