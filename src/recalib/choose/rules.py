"""Relations of cells, each by one rule that advice, recommendations, tables and figures share."""

from collections.abc import Sequence

from recalib.choose import published
from recalib.measure.cells import BASELINE, Cell, fastest


def plain(cells: Sequence[Cell], model: str, runtime: str) -> Cell | None:
    """The plain network in its fastest form, see `recalib.measure.cells.fastest`; None where it was not measured."""
    return fastest(one for one in cells if (one.model, one.runtime, one.module) == (model, runtime, BASELINE))


def plain_ms(cells: Sequence[Cell], model: str, runtime: str) -> float | None:
    """The latency of `plain` in ms, by what its protocol compares; None where it was not measured."""
    cell = plain(cells, model, runtime)
    return None if cell is None else cell.figure_ms


def deeper(cells: Sequence[Cell], model: str, runtime: str) -> Cell | None:
    """The next deeper network of a model, plain and in its fastest form; None where it was not measured.

    It is that of `published.deeper`, under whatever name it was measured; of several names the first.
    """
    wanted = published.deeper(model)
    named = (one.model for one in cells if one.module == BASELINE and published.network_name(one.model) == wanted)
    name = next(named, None) if wanted else None
    return None if name is None else plain(cells, name, runtime)


def runtimes(cells: Sequence[Cell], model: str) -> list[str]:
    """Runtimes in which the plain network was measured, the fastest first; at full load a time a batch is no latency.

    Those that work on several requests at once hence come last.
    """
    own = [cell for cell in cells if cell.model == model]
    times = {name: plain_ms(own, model, name) for name in dict.fromkeys(cell.runtime for cell in own)}
    full = {cell.runtime for cell in own if cell.in_flight > 1}
    measured = {name: time for name, time in times.items() if time is not None}
    return sorted(measured, key=lambda name: (name in full, measured[name]))


def measured(cell: Cell) -> bool:
    """True if a cell has an overhead to speak of."""
    return cell.status == "ok" and cell.overhead is not None
