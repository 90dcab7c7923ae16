"""Cells as the curves of the paper's Figs. 2, 3, 5 and 6: a value of every module along depth, resolution or batch."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from recalib.choose.advice import overhead_text
from recalib.choose.rules import deeper, plain
from recalib.measure.cells import BASELINE, Cell
from recalib.measure.statistics import ratio_of
from recalib.report.rows import is_distinguishable, median_text, module_title, setting_text


@dataclass(frozen=True)
class Spot:
    """A point of a curve.

    Attributes:
        curve: the module, or the deeper network that modules are compared with.
        x: where it stands: a network's name, pixels, or images.
        y: its value.
        low: lower end of the 95 % interval; `y` where there is none.
        high: upper end.
        title: what a pointer over it says.
        distinguishable: False where an overhead cannot be told from none.
        reference: whether the curve is drawn dashed, for comparison.
        family: networks of one family are joined by a line, those of different ones are not.
    """

    curve: str
    x: Any
    y: float
    low: float
    high: float
    title: str
    distinguishable: bool = True
    reference: bool = False
    family: str = ""


def by_depth(cells: Sequence[Cell], value: Callable[[Cell], float | None], unit: str) -> list[Spot]:
    """A value of every network, one curve a module; networks stand in the order of their plain form's MACs."""
    order = sorted(cells, key=lambda cell: (cell.macs or 0, cell.model))
    spots = []
    for cell in order:
        if (y := value(cell)) is not None:
            title = f"{_name(cell)}: {y:.4g} {unit}"
            family = re.split(r"\d", cell.model.rpartition(":")[2])[0]  # resnet, mobilenetv
            spots.append(Spot(module_title(cell.module), cell.model, y, y, y, title, family=family))
    return spots


def overheads(cells: Sequence[Cell], model: str, along: Callable[[Cell], float]) -> list[Spot]:
    """Overheads of a network's modules in percent along one setting, and the next deeper network's, plain.

    Args:
        cells: of one runtime and precision, everything but the one setting being equal.
        model: the network.
        along: the setting: `side` or `images`.
    """
    spots = []
    for cell in sorted(cells, key=along):
        if cell.model == model and cell.module != BASELINE and cell.overhead:
            ratio, low, high = (100 * (end - 1) for end in (cell.overhead.ratio, cell.overhead.low, cell.overhead.high))
            certain = is_distinguishable(cell)
            title = f"{_name(cell)}, {setting_text(cell)}: {overhead_text(cell.overhead)}, {median_text(cell)} ms"
            title += "" if certain else ", not distinguishable from none"
            spots.append(Spot(cell.module, along(cell), ratio, low, high, title, certain))
    return spots + _deeper(cells, model, along)


def side(cell: Cell) -> float:
    """Side in pixels of a square image, or of a square of the same area."""
    size = cell.size
    return float(size if isinstance(size, int) else (size[0] * size[1]) ** 0.5)


def images(cell: Cell) -> float:
    """Images in one forward pass."""
    return float(cell.batch)


def _deeper(cells: Sequence[Cell], model: str, along: Callable[[Cell], float]) -> list[Spot]:
    spots = []
    for x in sorted({along(cell) for cell in cells}):
        there = [cell for cell in cells if along(cell) == x]
        for runtime in dict.fromkeys(cell.runtime for cell in there):
            here, next_one = plain(there, model, runtime), deeper(there, model, runtime)
            if here is None or next_one is None or here.latency_ms is None or next_one.latency_ms is None:
                continue
            interval = ratio_of(next_one.latency_ms, here.latency_ms)
            y, low, high = (100 * (end - 1) for end in interval)
            name = f"plain {next_one.model}"
            title = f"{name}, {setting_text(next_one)}: {overhead_text(interval)} over plain {model}"
            spots.append(Spot(name, x, y, low, high, title, reference=True))
    return spots


def _name(cell: Cell) -> str:
    return f"{module_title(cell.module)} {cell.model}" if cell.module == BASELINE else (
        f"{cell.module} in {cell.model}"
    )  # fmt: skip
