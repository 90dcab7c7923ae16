"""A measured cell: one network in one runtime, in one form, at one setting."""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from recalib.measure.sizes import Size
from recalib.runtimes.protocol import PROTOCOLS

BASELINE = "baseline"  # the module of a network without attention
Status = Literal["ok", "oom", "unsupported", "failed"]
Key = tuple[Any, ...]


@dataclass(frozen=True)
class Latency:
    """Milliseconds of a forward pass.

    Attributes:
        median: of all samples.
        min: of all samples.
        samples: one a round, paired with those of the other cells of the run, process after process.
        processes: rounds of each process that measured it, in the order of the samples.
    """

    median: float
    min: float
    samples: list[float]
    processes: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.processes:  # of files from before there were several
            object.__setattr__(self, "processes", [len(self.samples)])


@dataclass(frozen=True)
class Overhead:
    """Ratio of a latency to that of the same network without attention, with its 95 % interval.

    Attributes:
        ratio: over the plain network in its fastest form, in the same runtime and run.
        low: lower end of the interval.
        high: upper end.
        p: of the test that the two differ, corrected over the group; None in old files.
        distinguishable: whether they do; in old files, whether the interval leaves out 1.
    """

    ratio: float
    low: float
    high: float
    p: float | None = None
    distinguishable: bool | None = None

    def __post_init__(self) -> None:
        if self.distinguishable is None:
            object.__setattr__(self, "distinguishable", not self.low <= 1 <= self.high)


@dataclass(kw_only=True)
class Cell:
    """One network in one runtime.

    Attributes:
        model: name of the network.
        module: name of the attention module, `BASELINE` for none.
        runtime: name of the runtime.
        deployed: whether the network went through `recalib.deploy`.
        size: side of the square input in pixels, or (H, W).
        batch: images in one forward pass.
        precision: a name in `recalib.runtimes.DTYPES`.
        protocol: of the timing, ``"clean"`` or ``"paper"``.
        machine: fingerprint of the machine, see `fingerprint`; a name where several files were read.
        code: version of the code that made and ran the network, see `recalib.version.code_digest`; empty in old files.
        form: fingerprint of the network that ran, see `recalib.measure.networks.form_of`; empty in old files.
        status: ``"ok"``, ``"oom"``, ``"unsupported"`` or ``"failed"``; only the first has a latency.
        message: why not, in one line.
        params: parameters of the network in this form.
        macs: multiply-adds of one forward pass, of the whole batch.
        bytes_moved: bytes of one forward pass that its layers read and write; None for int8.
        latency_ms: its samples. Of a runtime with several requests in flight it is the time a batch at full load, not a
            latency.
        parts_ms: of a detector, median and samples of each part; None for other networks.
        in_flight: requests that were worked on at the same time.
        images_per_s: batch over the median.
        agreement: of a reduced precision with float32, see `recalib.measure.agreement.agreement`.
        accuracy: top-1 of this very network in this runtime, see `recalib.measure.agreement.accuracy`; None where no
            data were given.
        enqueue_ms: median time until the work was queued on a GPU; None on a CPU.
        overhead: its latency over the plain network's.
        baseline: which form of the plain network that was: ``"deployed"`` or ``"undeployed"``.
        setup_s: seconds the runtime took to load or compile the network and to run it once.
        warnings: what to know before trusting the latency.
        load: shares of this machine that other processes (``"others"``) and other guests of its host (``"stolen"``)
            used meanwhile; None where the system does not tell.
        device: ``"cpu"`` or ``"cuda"``.
        layout: of the feature maps.
        complete: False if the run was interrupted before its last round.
    """

    model: str
    module: str
    runtime: str
    deployed: bool
    size: Size = 224
    batch: int = 1
    precision: str = "fp32"
    protocol: str = "clean"
    machine: str = ""
    code: str = ""
    form: str = ""
    status: Status = "ok"
    message: str = ""
    params: int | None = None
    macs: int | None = None
    bytes_moved: int | None = None
    latency_ms: Latency | None = None
    parts_ms: dict[str, Any] | None = None
    enqueue_ms: float | None = None
    in_flight: int = 1
    images_per_s: float | None = None
    agreement: dict[str, Any] | None = None
    accuracy: dict[str, Any] | None = None
    overhead: Overhead | None = None
    baseline: str | None = None
    setup_s: float | None = None
    warnings: list[str] = field(default_factory=list)
    load: dict[str, float] | None = None
    device: str | None = None
    layout: str | None = None
    complete: bool = True

    @property
    def key(self) -> Key:
        """The key that two measurements of the same thing share."""
        return tuple(getattr(self, name) for name in _IDENTITY)

    @property
    def figure_ms(self) -> float:
        """The statistic of its samples that is compared: the median, or by the paper's protocol the minimum.

        Raises:
            ValueError: for a cell without a latency.
        """
        if self.latency_ms is None:
            raise ValueError(f"{self.module} in {self.model} was not measured")
        minimum = self.protocol in PROTOCOLS and PROTOCOLS[self.protocol].compares == "min"
        return self.latency_ms.min if minimum else self.latency_ms.median

    @property
    def over(self) -> Overhead:
        """Its overhead.

        Raises:
            ValueError: for a cell without one.
        """
        if self.overhead is None:
            raise ValueError(f"{self.module} in {self.model} has no overhead")
        return self.overhead

    @property
    def processes(self) -> list[int]:
        """Rounds of each process that measured it; none where there is no latency."""
        return self.latency_ms.processes if self.latency_ms else []

    def to_dict(self) -> dict[str, Any]:
        """The cell in JSON's types."""
        return dataclasses.asdict(self)

    @staticmethod
    def of(value: Mapping[str, Any]) -> "Cell":
        """The cell that `to_dict` or an older version wrote, checked as far as others rely on it.

        Raises:
            ValueError, TypeError or KeyError: for what is none.
        """
        known: dict[str, Any] = {name: value[name] for name in value if name in _FIELDS}
        cell = Cell(**known)
        if isinstance(cell.size, list):
            cell.size = tuple(cell.size)
        cell.latency_ms, cell.overhead = _of(Latency, value.get("latency_ms")), _of(Overhead, value.get("overhead"))
        cell.warnings = list(cell.warnings or ())
        hash(cell.key)
        if cell.status not in get_args(Status):
            raise ValueError(f"status {cell.status!r}")
        if cell.status == "ok" and (cell.latency_ms is None or not cell.latency_ms.samples):
            raise ValueError("no latency")
        sum([cell.latency_ms.median, cell.latency_ms.min, *cell.latency_ms.samples] if cell.latency_ms else [])
        sum([cell.overhead.ratio, cell.overhead.low, cell.overhead.high] if cell.overhead else [])
        return cell


_IDENTITY = ("model", "module", "runtime", "deployed", "size", "batch", "precision", "protocol", "machine", "code")
_FIELDS = {one.name for one in dataclasses.fields(Cell)}


def _of(kind: Any, value: Mapping[str, Any] | None) -> Any:
    if value is None:
        return None
    names = {one.name for one in dataclasses.fields(kind)}
    return kind(**{name: one for name, one in value.items() if name in names})


def fastest(cells: Iterable[Cell]) -> Cell | None:
    """The fastest of these cells by what their protocol compares; None where none was measured.

    This is the one rule for *the plain network in its fastest form*: of the forms of a network that were timed in a
    runtime, as inserted and deployed, the one whose `Cell.figure_ms` is least.
    """
    return min((cell for cell in cells if cell.status == "ok"), key=lambda cell: cell.figure_ms, default=None)


def fastest_forms(cells: Sequence[Cell]) -> list[Cell]:
    """Of each network, module, runtime and setting the fastest form, in the order they were first met."""
    names = [name for name in _IDENTITY if name != "deployed"]
    forms: dict[Key, list[Cell]] = {}
    for cell in cells:
        forms.setdefault(tuple(getattr(cell, name) for name in names), []).append(cell)
    return [one for group in forms.values() if (one := fastest(group)) is not None]


def fingerprint(machine: Mapping[str, Any]) -> str:
    """A short name for a description of a machine, the same for the same description."""
    return hashlib.sha256(json.dumps(machine, sort_keys=True).encode()).hexdigest()[:12]
