"""Which network and module to use within a budget, from measured cells and accuracies of one kind."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from recalib.benchmark import published
from recalib.benchmark.advice import overhead_text
from recalib.benchmark.published import BASELINE, Source
from recalib.benchmark.statistics import ratio_interval

Cell = dict[str, Any]
Name = tuple[str, str]  # model, module


@dataclass(frozen=True)
class Budget:
    """What a network may take; None is no limit.

    Attributes:
        latency_ms: of one forward pass, the whole batch.
        throughput: images a second, at least.
        memory_mib: that one forward pass reads and writes, weights included.
        params: parameters.
    """

    latency_ms: float | None = None
    throughput: float | None = None
    memory_mib: float | None = None
    params: float | None = None


@dataclass(frozen=True)
class Option:
    """A network that was measured, in its faster form.

    Attributes:
        model: its name.
        module: its attention, ``"baseline"`` for none.
        deployed: whether that form went through `recalib.deploy`.
        latency_ms: median of one forward pass.
        latency_interval: its 95 % interval.
        throughput: images a second.
        memory_mib: bytes moved by one forward pass, an upper bound of what it holds at a time.
        params: parameters.
        overhead: over the plain network, ``{"ratio", "low", "high"}``, or None.
        top1: in percent, or None where nobody tells.
        accuracy: where top1 comes from.
    """

    model: str
    module: str
    deployed: bool
    latency_ms: float
    latency_interval: tuple[float, float]
    throughput: float
    memory_mib: float
    params: int
    overhead: dict[str, float] | None
    top1: float | None
    accuracy: str

    def __str__(self) -> str:
        return self.model if self.module == BASELINE else f"{self.model} + {self.module}"

    def excess(self, budget: Budget) -> str | None:
        """What breaks the budget, in words; None if it fits, with the upper end of its interval."""
        most = self.latency_interval[1]
        rate = self.throughput * self.latency_ms / most
        limits = (
            (budget.latency_ms, most, "ms"),
            (budget.throughput and -budget.throughput, -rate, "images/s"),
            (budget.memory_mib, self.memory_mib, "MiB"),
            (budget.params, self.params, "parameters"),
        )
        broken = [f"{abs(value):.4g} {unit}" for limit, value, unit in limits if limit is not None and value > limit]
        return ", ".join(broken) or None


@dataclass(frozen=True)
class Recommendation:
    """What to use, and why.

    Attributes:
        best: the most accurate option within the budget, or None.
        runner_up: the next one, or None.
        unplaced: options within the budget whose accuracy nobody tells.
        lines: the sentences.
        options: all of them, the most accurate first.
    """

    best: Option | None
    runner_up: Option | None
    unplaced: tuple[Option, ...]
    lines: tuple[str, ...]
    options: tuple[Option, ...]

    def to_dict(self) -> dict[str, Any]:
        """In JSON's types."""
        return asdict(self)


def recommend(cells: Sequence[Cell], budget: Budget, own: Mapping[Name, float] | None = None) -> Recommendation:
    """The most accurate of the measured networks that fits, its runner-up, and the reason.

    A network fits if the upper end of its latency's 95 % interval does. Accuracies are of one kind: the user's own
    where there are any, and then a network without one is not placed; otherwise published ones, the plain network's
    from `published.ladder` and the module's gain within one other source, which is said. Of equal accuracies the
    faster is taken.

    Args:
        cells: of one runtime and setting, what `recalib compare` writes.
        budget: the limits.
        own: top-1 in percent of the user's own runs, by (model, module).
    """
    options = _options(cells, own or {})
    fitting = [one for one in options if one.excess(budget) is None]
    placed = sorted((one for one in fitting if one.top1 is not None), key=_rank)
    unknown = tuple(one for one in fitting if one.top1 is None)
    best, second = [*placed, None, None][:2]
    ordered = tuple(sorted(options, key=_rank))
    return Recommendation(best, second, unknown, tuple(_sentences(best, second, unknown, ordered, budget)), ordered)


def _rank(one: Option) -> tuple[float, float]:
    return (-(one.top1 if one.top1 is not None else float("-inf")), one.latency_ms)


def _options(cells: Sequence[Cell], own: Mapping[Name, float]) -> list[Option]:
    fastest: dict[Name, Cell] = {}
    for cell in cells:
        name = (cell["model"], cell["module"])
        if cell["status"] == "ok" and (name not in fastest or _median(cell) < _median(fastest[name])):
            fastest[name] = cell
    measured = [module for _, module in fastest]
    return [
        _option(cell, _accuracy(model, module, own, published.best_source(model, measured)))
        for (model, module), cell in fastest.items()
    ]


def _median(cell: Cell) -> float:
    return float(cell["latency_ms"]["median"])


def _option(cell: Cell, accuracy: tuple[float | None, str]) -> Option:
    samples, ms = cell["latency_ms"]["samples"], _median(cell)
    interval = ratio_interval(samples, [1.0] * len(samples))
    return Option(
        cell["model"], cell["module"], cell["deployed"], ms, (interval.low, interval.high),
        cell["batch"] / ms * 1000, (cell["bytes_moved"] or 0) / 2**20, cell["params"] or 0, cell["overhead"],
        *accuracy,
    )  # fmt: skip


def _accuracy(model: str, module: str, own: Mapping[Name, float], source: Source | None) -> tuple[float | None, str]:
    if own:
        top1 = own.get((model, module))
        return top1, "your run" if top1 is not None else "no run of yours"
    ladder = published.ladder()
    plain = published.accuracy(model, BASELINE, ladder)
    if plain is None:
        return None, "no published accuracy that we know"
    if module == BASELINE:
        return plain.top1, ladder.label
    gain = published.gain(model, module, source) if source else None
    if source is None or gain is None:
        return None, "no published gain that we know"
    return plain.top1 + gain, f"{ladder.label}'s plain network {plain.top1:.2f}, and {gain:+.2f} of {source.label}"


def _sentences(
    best: Option | None, second: Option | None, unknown: tuple[Option, ...], options: tuple[Option, ...], budget: Budget
) -> list[str]:
    if not options:
        return ["Nothing was measured."]
    lines = [_verdict(best, options, budget)]
    if best is not None:
        lines.append(_why(best, options))
    if best is not None and second is not None:
        assert best.top1 is not None
        assert second.top1 is not None
        lines.append(f"Runner-up: {_figures(second)}; {best.top1 - second.top1:.2f} points less.")
        if (
            best.latency_interval[0] <= second.latency_interval[1]
            and second.latency_interval[0] <= best.latency_interval[1]
        ):
            lines.append("The two are not told apart in time: their 95 % intervals overlap.")
    if unknown:
        names = ", ".join(f"{one} ({one.latency_ms:.2f} ms)" for one in unknown)
        lines.append(f"Within the budget but not placed, for want of an accuracy: {names}.")
    return lines


def _verdict(best: Option | None, options: tuple[Option, ...], budget: Budget) -> str:
    if best is not None:
        return f"Use {_figures(best)}."
    if any(one.excess(budget) is None for one in options):
        return "No recommendation: what fits the budget has no known accuracy."
    nearest = min(options, key=lambda one: one.latency_ms)
    return f"Nothing fits the budget: the fastest, {nearest}, takes {nearest.excess(budget)}."


def _figures(one: Option) -> str:
    low, high = one.latency_interval
    form = "deployed" if one.deployed else "as inserted"
    return (
        f"{one}, {form}: top-1 {one.top1:.2f} % ({one.accuracy}), {one.latency_ms:.2f} ms [{low:.2f}, {high:.2f}], "
        f"{one.throughput:.0f} images/s, {one.params / 1e6:.2f} M parameters"
    )


def _why(best: Option, options: tuple[Option, ...]) -> str:
    costs = f"{best.module} costs {overhead_text(best.overhead)}" if best.overhead and best.module != BASELINE else ""
    plain = next((one for one in options if (one.model, one.module) == (best.model, BASELINE)), None)
    deeper = published.deeper(best.model)
    there = next(
        (one for one in options if deeper == published.network_name(one.model) and one.module == BASELINE), None
    )
    depth = ""
    if plain is not None and there is not None:
        depth = f"{there.model} would cost {100 * (there.latency_ms / plain.latency_ms - 1):.0f} %"
    said = "; ".join(filter(None, (costs, depth)))
    return f"On this machine {said}." if said else "No deeper network of the family was measured beside it."


def limits(budget: Budget) -> dict[str, float]:
    """The limits that are set."""
    return {f.name: value for f in fields(budget) if (value := getattr(budget, f.name)) is not None}
