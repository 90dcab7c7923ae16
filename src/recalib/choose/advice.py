"""Three lines of advice a network, each by a stated rule from measured cells and published accuracies."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from recalib.choose import published, rules
from recalib.choose.published import Source
from recalib.measure.cells import BASELINE, Cell, Overhead
from recalib.measure.statistics import Interval


def advise(cells: Sequence[Cell]) -> list[str]:
    """Say what the measurements recommend: three lines for each network that modules were measured on.

    Everything is read off the deployed cells of the fastest runtime, the one whose plain network has the least median
    latency, except line 2, which speaks of every runtime. Accuracy gains are differences of published ImageNet top-1
    within one source, `published.best_source`; a module that it lacks is not placed.

    1. *Which modules*: the Pareto front of published gain against measured overhead. Overheads whose 95 % intervals
       overlap count as equal, so a module is off the front only if another gains at least as much and its whole
       interval lies below; where none is, no ranking is claimed.
    2. *What deploy gains*: for each runtime the median overhead of the modules before and after, over those measured
       both ways, and the largest change of one module whose two intervals do not overlap.
    3. *Or a deeper network*: points of top-1 per extra millisecond, of the next deeper ResNet (one source, baselines
       measured in the same run) against the module of the front with the most points per millisecond at the upper end
       of its interval. The verdict is open where the module's interval contains the deeper network's figure.

    Where a figure or a measurement is missing the line says which.

    Args:
        cells: what `recalib compare --json` writes; cells that did not end "ok" are passed over.

    Returns:
        Three lines, or three for each network, which then begin with its name.
    """
    models = list(dict.fromkeys(cell.model for cell in cells if cell.module != BASELINE))
    lines = []
    for model in models or list(dict.fromkeys(cell.model for cell in cells))[:1] or ["the network"]:
        prefix = f"{model}: " if len(models) > 1 else ""
        lines += [prefix + line for line in _three_lines(model, cells)]
    return lines


def overhead_text(overhead: Overhead | Interval) -> str:
    """An overhead and its 95 % interval in percent, such as `+5.1 % [4.2, 6.0]`."""
    digits = 1 if abs(overhead.ratio - 1) < 0.9995 else 0
    ratio, low, high = (round(100 * (end - 1), digits) + 0.0 for end in (overhead.ratio, overhead.low, overhead.high))
    return f"{ratio:+.{digits}f} % [{low:.{digits}f}, {high:.{digits}f}]"


@dataclass(frozen=True)
class Placed:
    """A module with its published gain, in points of top-1, and its measured overhead, both over the plain network."""

    module: str
    gain: float
    overhead: Overhead

    def behind(self, other: "Placed") -> bool:
        """True if the other gains at least as much and is certainly faster: its whole interval lies below."""
        return other.gain >= self.gain and other.overhead.high < self.overhead.low

    def per_ms(self, plain_ms: float, ratio: float) -> float:
        """Points of top-1 for each extra ms, at a ratio: the overhead's, or an end of its interval."""
        return _rate(self.gain, plain_ms * (ratio - 1))

    def __str__(self) -> str:
        return f"{self.module} ({self.gain:+.2f} points, {overhead_text(self.overhead)})"


def pareto_front(cells: Sequence[Cell], model: str, runtime: str) -> tuple[Source | None, list[Placed], list[Placed]]:
    """Deployed modules that are worth considering and those that are not, each by rising overhead.

    Returns:
        The source of the gains (None where no module has a published one), the modules on the front, those behind it.
    """
    overheads = {
        cell.module: cell.over
        for cell in _select(cells, model, runtime)
        if cell.module != BASELINE and cell.deployed and rules.measured(cell)
    }
    source = published.best_source(model, overheads)
    if source is None:
        return None, [], []
    placed = [
        Placed(module, gain, overhead)
        for module, overhead in sorted(overheads.items(), key=lambda item: item[1].ratio)
        if (gain := published.gain(model, module, source)) is not None
    ]
    behind = [one for one in placed if any(one.behind(other) for other in placed)]
    return source, [one for one in placed if one not in behind], behind


def _three_lines(model: str, cells: Sequence[Cell]) -> tuple[str, str, str]:
    deploy = _deploy_line(model, cells)
    fastest = rules.runtimes(cells, model)
    if not fastest:
        missing = f"the plain {model} was not measured" if cells else "nothing was measured"
        return f"No module can be recommended: {missing}.", deploy, f"Depth cannot be weighed: {missing}."
    return _front_line(model, fastest[0], cells), deploy, _depth_line(model, fastest[0], cells)


def _front_line(model: str, runtime: str, cells: Sequence[Cell]) -> str:
    source, front, behind = pareto_front(cells, model, runtime)
    deployed = [cell for cell in _select(cells, model, runtime) if cell.deployed and cell.module != BASELINE]
    measured = [cell.module for cell in deployed if rules.measured(cell)]
    if not measured:
        return f"No module can be recommended: none was measured deployed in {runtime}, the fastest runtime here."
    if source is None:
        names = join_words(measured)
        return f"No module can be recommended: no accuracy of {names} in {model} is published that we know."
    by = f"deployed in {runtime}, by the top-1 gains of {source.label}: {join_words(map(str, front))}"
    if behind:
        line = f"Best trade-offs {by}. Behind: {join_words(one.module for one in behind)}."
    elif len(front) > 1:
        line = f"No ranking: none is certainly behind another {by}."
    else:
        line = f"Measured {by}."
    placed = {one.module for one in front + behind}
    if unknown := [module for module in measured if module not in placed]:
        line += f" Not placed: {join_words(unknown)}, for which that source has no comparable accuracy."
    if failed := [f"{cell.module} ({cell.status})" for cell in deployed if not rules.measured(cell)]:
        line += f" Without a time: {join_words(failed)}."
    return line


def _deploy_line(model: str, cells: Sequence[Cell]) -> str:
    of_model = [cell for cell in cells if cell.model == model and cell.module != BASELINE and rules.measured(cell)]
    pairs = [
        (before, after)
        for before in of_model
        for after in of_model
        if after.deployed > before.deployed and (before.module, before.runtime) == (after.module, after.runtime)
    ]
    if not pairs:
        return "What deploy gains is unknown: no module was measured both before and after it."
    changes = []
    for runtime in dict.fromkeys(before.runtime for before, _ in pairs):
        ratios = [tuple(cell.over.ratio for cell in pair) for pair in pairs if pair[0].runtime == runtime]
        before, after = (100 * (median(side) - 1) for side in zip(*ratios, strict=True))
        changes.append(f"{before:.1f} to {after:.1f} % in {runtime}")
    return f"deploy takes the modules' median overhead from {join_words(changes)}; {_largest_change(pairs)}."


def _largest_change(pairs: Sequence[tuple[Cell, Cell]]) -> str:
    certain = [(a, b) for a, b in pairs if a.over.low > b.over.high]
    if not certain:
        return "no single module's gain exceeds its interval"
    before, after = max(certain, key=lambda pair: pair[0].over.ratio - pair[1].over.ratio)
    change = " to ".join(overhead_text(cell.over) for cell in (before, after))
    return f"most for {before.module} in {before.runtime}, {change}"


def _depth_line(model: str, runtime: str, cells: Sequence[Cell]) -> str:
    network, points = published.deeper(model), published.depth_gain(model)
    if network is None or points is None:
        return f"Depth cannot be weighed: no deeper ResNet than {model} has a published accuracy that we know."
    deeper, here = rules.deeper(cells, model, runtime), rules.plain_ms(cells, model, runtime)
    if deeper is None or here is None:
        return f"Depth cannot be weighed: the plain {network} was not measured in {runtime}."
    extra = deeper.figure_ms - here
    depth = _rate(points, extra)
    cost = f"{network} adds {points:+.2f} points ({published.ladder().label}) for {extra:+.2f} ms, {_per_ms(depth)}"
    source, front, _ = pareto_front(cells, model, runtime)
    gaining = [one for one in front if one.gain > 0]
    if source is None or not gaining:
        return f"Depth cannot be weighed against a module: none has a published gain; {cost}, in {runtime}."
    best = max(gaining, key=lambda one: (one.per_ms(here, one.overhead.high), one.gain))
    said = f"{_verdict(network, depth, best, here)}: in {runtime} {_bought(best, source, here)}; {cost}"
    return said + (". The two sources train differently." if source != published.ladder() else ".")


def _verdict(network: str, depth: float, best: Placed, plain_ms: float) -> str:
    if best.per_ms(plain_ms, best.overhead.high) > depth:
        return f"{best.module} buys more accuracy per millisecond than {network}"
    if best.per_ms(plain_ms, best.overhead.low) < depth:
        return f"{network} buys more accuracy per millisecond than {best.module}"
    return f"Whether {best.module} or {network} buys more accuracy per millisecond is open"


def _bought(one: Placed, source: Source, plain_ms: float) -> str:
    low, mid, high = (plain_ms * (end - 1) for end in (one.overhead.low, one.overhead.ratio, one.overhead.high))
    cost = f"{one.module} adds {one.gain:+.2f} points ({source.label}) for {mid:+.2f} ms [{low:.2f}, {high:.2f}]"
    if low <= 0:
        return f"{cost}, which cannot be told from no time"
    return f"{cost}, {_per_ms(one.per_ms(plain_ms, one.overhead.ratio))}"


def _rate(points: float, extra_ms: float) -> float:
    return points / extra_ms if extra_ms > 0 else math.inf


def _per_ms(rate: float) -> str:
    return "no measurable time" if math.isinf(rate) else f"{rate:.2f} points/ms"


def _select(cells: Sequence[Cell], model: str, runtime: str) -> list[Cell]:
    return [cell for cell in cells if cell.model == model and cell.runtime == runtime]


def join_words(words: Iterable[str]) -> str:
    """Such as ``a, b and c``."""
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last
