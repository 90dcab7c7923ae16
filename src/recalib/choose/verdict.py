"""The one sentence to act on: which module to use, or that the answer is open and what would settle it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from recalib.choose import published, rules
from recalib.choose.advice import join_words, overhead_text
from recalib.measure.cells import BASELINE, Cell
from recalib.measure.load import load_text
from recalib.measure.statistics import FEWEST_PROCESSES, ratio_of
from recalib.runtimes import PROTOCOLS

EQUAL_POINTS = 0.2  # of top-1: two trainings of one network differ by as much
EQUAL_TIME = 0.02  # of a latency: two networks are as fast as each other if their ratio is certainly within this of 1
LONGEST_MINUTES = 600.0
Relation = Literal["faster", "equal", "slower", "open"]


@dataclass(frozen=True)
class PlacedCell:
    """A module with its published gain in points of top-1, and its deployed cell."""

    module: str
    gain: float
    cell: Cell

    def __str__(self) -> str:
        return f"{self.module} ({self.gain:+.2f} points, {overhead_text(self.cell.over)})"


def verdicts(cells: Sequence[Cell]) -> list[str]:
    """One sentence a network that modules were measured on: what to use, or that this is open.

    In the fastest runtime, deployed. Of the modules whose published gain is within `EQUAL_POINTS` of the largest, the
    fastest one is looked for, by the ratio of each to it in the same rounds: those whose whole interval is within
    `EQUAL_TIME` are as good, certainly slower ones are behind, and where an interval is neither the answer is open. Of
    those as good the one with the largest gain is named first.

    Args:
        cells: of one setting.
    """
    models = list(dict.fromkeys(cell.model for cell in cells if cell.module != BASELINE))
    return [(f"{model}: " if len(models) > 1 else "") + _verdict(model, cells) for model in models]


def relation(one: Cell, other: Cell) -> Relation:
    """Time of a cell beside another of the same interleaved run, told by the interval of their ratio."""
    assert one.latency_ms is not None
    assert other.latency_ms is not None
    low, high = ratio_of(one.latency_ms, other.latency_ms, PROTOCOLS[one.protocol].statistic)[1:]
    if low >= 1 - EQUAL_TIME and high <= 1 + EQUAL_TIME:
        return "equal"  # even where they certainly differ: by less than anybody would choose by
    if low > 1 or high < 1:
        return "slower" if low > 1 else "faster"
    return "open"


def _verdict(model: str, cells: Sequence[Cell]) -> str:
    fastest = rules.runtimes(cells, model)
    if not fastest:
        return f"Open: the plain {model} was not measured, so that nothing can be said of modules."
    runtime = fastest[0]
    deployed = [
        cell
        for cell in cells
        if (cell.model, cell.runtime, cell.deployed) == (model, runtime, True)
        and cell.module != BASELINE
        and rules.measured(cell)
    ]
    source = published.best_source(model, [cell.module for cell in deployed])
    if source is None:
        return f"Open: no accuracy of a module in {model} is published that we know; times are in the table."
    gains = {cell.module: published.gain(model, cell.module, source) for cell in deployed}
    placed = [PlacedCell(cell.module, gain, cell) for cell in deployed if (gain := gains[cell.module]) is not None]
    most = max(one.gain for one in placed)
    if most <= 0:
        return f"Use the plain {model}: no module that was measured gains anything, by {source.label}."
    rivals = [one for one in placed if one.gain >= most - EQUAL_POINTS]
    first = min(rivals, key=lambda one: one.cell.figure_ms)
    told = [(one, relation(one.cell, first.cell)) for one in rivals if one is not first]
    unsure = [one for one, how in told if how == "open"]
    if unsure:
        return _open(first, unsure, runtime)
    good = [first, *(one for one, how in told if how != "slower")]
    return _use(good, [one for one, how in told if how == "slower"], runtime, source.label)


def _use(good: Sequence[PlacedCell], slower: Sequence[PlacedCell], runtime: str, source: str) -> str:
    best, *others = sorted(good, key=lambda one: -one.gain)
    over = best.cell.over
    cost = f"{overhead_text(over)} time"
    if over.low <= 1 <= over.high:
        cost = f"a time that cannot be told from the plain network's ({overhead_text(over)})"
    line = f"Use {best.module}, deployed in {runtime}: {best.gain:+.2f} points (published, {source}) for {cost}"
    if others:
        line += f"; {join_words(one.module for one in others)} {'is' if len(others) == 1 else 'are'} as good"
    if slower:
        worse = [f"{x.module} {overhead_text(x.cell.over)}" for x in sorted(slower, key=lambda x: x.cell.over.ratio)]
        costs = "costs" if len(slower) == 1 else "cost"
        line += f"; {join_words(worse)} {costs} more for as many points, within {EQUAL_POINTS}"
    return line + "."


def _open(first: PlacedCell, unsure: Sequence[PlacedCell], runtime: str) -> str:
    names = join_words(str(one) for one in [first, *unsure])
    line = f"Open: which is faster deployed in {runtime}, {names}, this measurement does not tell"
    loads = [one.cell.load for one in [first, *unsure] if one.cell.load is not None]
    used = load_text(max(loads, key=lambda load: load["others"] + load["stolen"], default=None))
    line += f" ({used})" if used else ""
    return f"{line}; {_settled_by(first.cell, [one.cell for one in unsure])}."


def _settled_by(first: Cell, unsure: Iterable[Cell]) -> str:
    """The work that would settle it, and its time: intervals narrow with the root of the rounds or processes."""
    factor, round_ms = 1.0, first.figure_ms
    for cell in unsure:
        assert cell.latency_ms is not None
        assert first.latency_ms is not None
        ratio, low, high = ratio_of(cell.latency_ms, first.latency_ms, PROTOCOLS[cell.protocol].statistic)
        wanted = max(abs(ratio - 1), EQUAL_TIME / 2)
        factor, round_ms = max(factor, ((high - low) / 2 / wanted) ** 2), round_ms + cell.figure_ms
    repeats = len(first.processes)
    if repeats >= FEWEST_PROCESSES:
        return f"about {int(np.ceil(factor * repeats))} processes would (--resume --processes)"
    minutes = factor * sum(first.processes) * 4 * round_ms / 6e4  # the others of the group take their turns, too
    if minutes > LONGEST_MINUTES:
        return "more rounds on this machine will not; measure on a quieter one, by recalib latency"
    return f"about {max(1, round(minutes))} min of timing more would (--minutes), sooner on a quieter machine"
