"""Limits of a network's cost, and its measured cost beside them."""

import re
from dataclasses import dataclass
from typing import Literal

from recalib.errors import RecalibError
from recalib.measure.cells import Cell
from recalib.measure.statistics import Interval, ratio_interval

Verdict = Literal["within", "open", "over"]
_UNITS = {
    "latency": {"us": 1e-3, "ms": 1.0, "s": 1e3, "": 1.0},
    "memory": {"B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30},
    "params": {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9},
    "throughput": {"": 1.0, "k": 1e3},
}


@dataclass(frozen=True)
class Budget:
    """Limits; None where there is none.

    Attributes:
        latency: of one forward pass of the batch, in ms.
        throughput: images per second, at the least.
        memory: bytes of the weights and of what the layer that moves most reads and writes.
        params: parameters.
    """

    latency: float | None = None
    throughput: float | None = None
    memory: float | None = None
    params: float | None = None

    def latency_ms(self, batch: int) -> float:
        """The longest that a forward pass of so many images may take, by latency and throughput, in ms."""
        limits = [self.latency, 1e3 * batch / self.throughput if self.throughput else None]
        return min((limit for limit in limits if limit is not None), default=float("inf"))

    def judge(self, cell: Cell, memory: float | None) -> Verdict:
        """True if a cell is within the budget: for certain, perhaps (its 95 % interval holds the limit), or not.

        Args:
            cell: an "ok" one of `recalib compare`.
            memory: bytes, where a limit on them is set.
        """
        if self.params is not None and cell.params is not None and cell.params > self.params:
            return "over"
        if self.memory is not None and memory is not None and memory > self.memory:
            return "over"
        limit, time = self.latency_ms(cell.batch), latency_interval(cell)
        return "within" if time.high <= limit else "over" if time.low > limit else "open"

    def __str__(self) -> str:
        parts = {
            "{:g} ms": self.latency,
            "{:g} images/s": self.throughput,
            "{:g} MB of memory": self.memory and self.memory / 1e6,
            "{:g} M parameters": self.params and self.params / 1e6,
        }
        return ", ".join(form.format(value) for form, value in parts.items() if value is not None) or "no limit"


def quantity(kind: str, text: str) -> float:
    """A limit as people write it: ``5ms``, ``200MB``, ``25M``, ``300``.

    Args:
        kind: ``"latency"`` (in ms without a unit), ``"throughput"``, ``"memory"`` or ``"params"``.
        text: a positive number and a unit.

    Raises:
        RecalibError: for anything else.
    """
    units = _UNITS[kind]
    match = re.fullmatch(r"(\d*\.?\d+(?:e[+-]?\d+)?)\s*([A-Za-z]*)(?:/s)?", text.strip())
    if match is None or match[2] not in units or float(match[1]) <= 0:
        example = {"latency": "5ms", "memory": "200MB", "params": "25M", "throughput": "300"}[kind]
        named = ", ".join(filter(None, units))
        raise RecalibError(f"--{kind} {text!r}: a positive number and a unit ({named}), such as {example}")
    return float(match[1]) * units[match[2]]


def latency_interval(cell: Cell) -> Interval:
    """Median latency of a cell in ms with its 95 % interval."""
    assert cell.latency_ms is not None
    samples = cell.latency_ms.samples
    return ratio_interval(samples, [1.0] * len(samples), processes=cell.processes)
