"""The paper's Fig. 4 for this machine: published accuracy against measured time."""

from collections.abc import Sequence

from recalib.choose import published
from recalib.choose.advice import overhead_text, pareto_front
from recalib.choose.published import Source
from recalib.choose.rules import plain_ms
from recalib.measure.cells import BASELINE, Cell
from recalib.measure.networks import DEPTHS
from recalib.report.marks import Mark
from recalib.report.scatter import Point


def module_points(cells: Sequence[Cell], model: str, runtime: str, look: dict[str, Mark]) -> list[Point]:
    """A network's deployed modules by overhead in percent, around the plain network of the same source at 0.

    Args:
        cells: what `recalib compare --json` writes.
        model: the network.
        runtime: the runtime.
        look: a mark for each module.

    Returns:
        The plain network and its modules, those behind the Pareto front faded; nothing where no accuracy is published.
    """
    source, front, behind = pareto_front(cells, model, runtime)
    plain, ms = (published.accuracy(model, BASELINE, source) if source else None), plain_ms(cells, model, runtime)
    if plain is None or source is None or ms is None:
        return []
    title = _title(f"plain {model}", ms, plain.top1, source)
    points = [Point("plain", (0.0, 0.0, 0.0), plain.top1, look[BASELINE], title)]
    for one in front + behind:
        x, y = (
            tuple(100 * (end - 1) for end in (one.overhead.ratio, one.overhead.low, one.overhead.high)),
            plain.top1 + one.gain,
        )
        title = _title(f"{one.module} in {model}", ms * one.overhead.ratio, y, source)
        title += f", {one.gain:+.2f} points for {overhead_text(one.overhead)}"
        points.append(Point(one.module, x, y, look[one.module], title, (0.0, plain.top1), faded=one in behind))
    return points


def depth_points(cells: Sequence[Cell], runtime: str, look: dict[str, Mark]) -> list[Point]:
    """Every network by latency in ms: the ladder of ResNets, and the modules around their own source's plain network.

    Modules are not labelled, as `module_points` does that; the arguments are its.

    Returns:
        The points, or nothing where only one network with a published accuracy was measured.
    """
    points = []
    for model in dict.fromkeys(cell.model for cell in cells):
        plain = plain_ms(cells, model, runtime)
        if plain is None:
            continue
        if rung := published.accuracy(model, BASELINE, published.ladder()):
            title = _title(f"plain {model}", plain, rung.top1, rung.source)
            is_rung = rung.network in DEPTHS
            points.append(Point(model, (plain,) * 3, rung.top1, look[BASELINE], title, on_ladder=is_rung))
        for point in module_points(cells, model, runtime, look):
            x = tuple(plain * (1 + percent / 100) for percent in point.x)
            origin = (plain, point.origin[1]) if point.origin else None
            points.append(Point("", x, point.y, point.mark, point.title, origin, faded=point.faded))
    return points if sum(bool(point.label) for point in points) > 1 else []


def sources(cells: Sequence[Cell], runtimes: Sequence[str]) -> list[Source]:
    """Whose accuracies these runtimes' modules show, and the ladder's."""
    models = dict.fromkeys(cell.model for cell in cells)
    fronts = [pareto_front(cells, model, runtime)[0] for model in models for runtime in runtimes]
    return list(dict.fromkeys([*filter(None, fronts), published.ladder()]))


def _title(name: str, ms: float, top1: float, source: Source) -> str:
    return f"{name}: {ms:.2f} ms, top-1 {top1:.2f} % ({source.label})"
