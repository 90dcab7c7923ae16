"""`recalib recommend`: the most accurate network within a budget, and why."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from recalib.choose import rules
from recalib.choose.accuracy import (
    Accuracy,
    evaluated,
    measured_accuracy,
    own_accuracies,
    published_accuracy,
    published_for,
)
from recalib.choose.advice import overhead_text
from recalib.choose.budget import Budget, Verdict, latency_interval
from recalib.cost.count import cost
from recalib.errors import RecalibError, WorkFailed
from recalib.measure import networks
from recalib.measure.cells import BASELINE, Cell, fastest, fastest_forms, fingerprint
from recalib.measure.machines import named
from recalib.measure.networks import DEPTHS
from recalib.measure.run import Measured
from recalib.measure.schedule import Schedule, comparison
from recalib.measure.session import How
from recalib.measure.sizes import Size, sides
from recalib.measure.statistics import Interval, ratio_of
from recalib.measure.store import read_results
from recalib.runtimes import DTYPES
from recalib.runtimes.machine import describe

FAMILIES = {"resnet": DEPTHS, "mobilenet": ("mobilenetv2_100",)}


@dataclass(frozen=True)
class Contender:
    """A network that was measured and whose accuracy is known.

    Attributes:
        cell: of its faster form.
        latency: median in ms with its 95 % interval.
        accuracy: its accuracy.
        verdict: against the budget.
    """

    cell: Cell
    latency: Interval
    accuracy: Accuracy
    verdict: Verdict

    @property
    def name(self) -> str:
        """Such as `resnet50 with eca`."""
        module = self.cell.module
        return f"plain {self.cell.model}" if module == BASELINE else f"{self.cell.model} with {module}"

    def __str__(self) -> str:
        time, accuracy = self.latency, self.accuracy
        error = "" if math.isinf(accuracy.error) else f" ± {accuracy.error:.2f}"
        return (
            f"{self.name}: {time.ratio:.2f} ms [{time.low:.2f}, {time.high:.2f}], "
            f"top-1 {accuracy.top1:.2f}{error} % ({accuracy.origin})"
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything in JSON's types; an uncertainty that nothing tells is None."""
        return {
            "model": self.cell.model,
            "module": self.cell.module,
            "deployed": self.cell.deployed,
            "params": self.cell.params,
            "latency_ms": self.latency._asdict(),
            "overhead": self.cell.overhead and asdict(self.cell.overhead),
            "accuracy": asdict(self.accuracy)
            | {"error": None if math.isinf(self.accuracy.error) else self.accuracy.error},
            "verdict": self.verdict,
        }


@dataclass(frozen=True)
class Recommendation:
    """The network and module to use.

    Attributes:
        lines: what is said, a sentence or two each.
        best: the most accurate network within the budget for certain.
        runner_up: the next one, or None.
        candidates: everything considered, most accurate first.
    """

    lines: list[str]
    best: Contender
    runner_up: Contender | None
    candidates: list[Contender]

    def to_dict(self) -> dict[str, Any]:
        """Everything in JSON's types."""
        return {
            "lines": self.lines,
            "best": self.best.to_dict(),
            "runner_up": self.runner_up and self.runner_up.to_dict(),
            "candidates": [one.to_dict() for one in self.candidates],
        }


@dataclass(frozen=True)
class Wish:
    """The request.

    Attributes:
        models: names of networks, or families of `FAMILIES`.
        modules: attention modules to consider; the plain network always is.
        budget: what the network may cost.
        size: of the images.
        batch: images in one forward pass.
        runtime: where it is to run.
        how: how it is measured.
        precision: of the network.
        runs: a run of the user's, or their folder, whose accuracies are taken instead of published ones.
        results: files of what was measured before.
    """

    models: Sequence[str]
    modules: Sequence[str]
    budget: Budget
    size: Size = 224
    batch: int = 1
    runtime: str = "openvino"
    precision: str = "fp32"
    how: How = field(default_factory=How)
    runs: Path | None = None
    results: Sequence[Path] = ()

    @property
    def networks(self) -> list[str]:
        """The models, families spelled out."""
        return [name for given in self.models for name in FAMILIES.get(given, (given,))]


def recommendation(wish: Wish, measure: Callable[[str, Schedule], Measured]) -> Recommendation:
    """Recommend by what was measured before and, on this machine, by measuring the rest.

    Args:
        wish: what is asked for.
        measure: runs a schedule of one model.

    Raises:
        RecalibError: for a wish that is not right, or results of several machines.
        WorkFailed: where nothing is within the budget for certain.
    """
    if wish.how.weights is not None and len(wish.networks) != 1:
        raise RecalibError(f"weights {str(wish.how.weights)!r} belong to one model, and {len(wish.networks)} are named")
    own = {} if wish.runs is None else own_accuracies(wish.runs)
    modules = wanted(wish.networks, networks.module_names(wish.modules), own, trained=wish.how.weights is not None)
    cells, where = _known(wish, modules)
    here = where == "this machine"
    missing = []
    for model, names in modules.items():
        have = {cell.module for cell in cells if cell.model == model}
        if {BASELINE, *names} <= have:
            continue
        if not here:
            missing += [f"{model} ({name})" for name in (BASELINE, *names) if name not in have]
            continue
        schedule = comparison(
            [model], names, [wish.runtime], size=wish.size, batch=wish.batch, precision=wish.precision, how=wish.how
        )
        found = measure(model, schedule)
        if found.interrupted:
            raise WorkFailed("interrupted; the same command continues from what was measured")
        cells += found.cells
    chosen = recommend(cells, wish.budget, own=own, memory=memory_bytes, among=wish.networks, where=where)
    aside = f"Not measured there, hence not considered: {', '.join(missing)}."
    return replace(chosen, lines=[*chosen.lines, aside]) if missing else chosen


def _known(wish: Wish, modules: Mapping[str, Sequence[str]]) -> tuple[list[Cell], str]:
    """Cells of this setting that were measured before, and on what machine."""
    if not wish.results:
        return [], "this machine"
    results = read_results(wish.results)
    setting = (sides(wish.size), wish.batch, wish.precision, wish.runtime, wish.how.protocol)
    asked = {*(name for names in modules.values() for name in names), BASELINE}
    known = [
        cell
        for cell in results.cells
        if (sides(cell.size), cell.batch, cell.precision, cell.runtime, cell.protocol) == setting
        and cell.module in asked
    ]
    machines = list(dict.fromkeys(cell.machine for cell in known))
    if len(machines) > 1:
        raise RecalibError(f"--results were measured on {len(machines)} machines ({'; '.join(machines)}); give one's")
    if not known:
        return [], "this machine"
    there, own = results.machines[machines[0]], describe(wish.how.settings(wish.precision))
    names, _ = named({"there": there, fingerprint(own): own})
    if there and len(set(names.values())) == 1:
        return known, "this machine"
    return known, f"another machine, {machines[0]}" if there else "a machine that the file does not describe"


def wanted(
    models: Sequence[str], modules: Sequence[str], own: Iterable[tuple[str, str]], *, trained: bool = False
) -> dict[str, list[str]]:
    """The modules worth measuring in each model: those of which an accuracy is known, or may be measured."""
    known = set(own)
    return {
        model: [
            name for name in modules if trained or published_accuracy(model, name) is not None or (model, name) in known
        ]
        for model in models
    }


def memory_bytes(cell: Cell) -> float:
    """Bytes of a network's weights and of what the layer that moves most reads and writes, as inserted."""
    network = networks.network({}, cell.model, cell.module).made()
    counted = cost(network, (cell.batch, 3, *sides(cell.size)))
    single = counted.params * 4 + max(module.own.bytes_moved for module in counted.modules.values())
    return single * DTYPES[cell.precision].itemsize / 4


def recommend(
    cells: Sequence[Cell],
    budget: Budget,
    *,
    own: Mapping[tuple[str, str], Accuracy] | None = None,
    memory: Callable[[Cell], float] | None = None,
    among: Sequence[str] | None = None,
    where: str = "this machine",
) -> Recommendation:
    """Choose from measured networks by a stated rule.

    Of the networks whose whole 95 % interval is within the budget the most accurate one is taken, the faster one of
    equals. Accuracies of one kind only are compared: those measured of the very cells, else those of the user's own
    runs, else published ones; the first kind that two of the networks have, or if none has two, that one has.

    Args:
        cells: of one setting.
        budget: what the network may cost.
        own: accuracies of the user's own runs, by (model, module).
        memory: bytes that a cell's network needs; asked only where the budget limits them.
        among: the models to choose from; others, measured along as references, are not taken. None for all.
        where: on what machine they were measured.

    Raises:
        WorkFailed: where nothing was measured, nothing has a known accuracy, or nothing is within the budget.
    """
    forms = {key: cell for key, cell in _fastest_forms(cells).items() if among is None or key[0] in among}
    axes, refused = _axes(forms, own or {})
    axis = next((one for one in axes if len(one) > 1), next((one for one in axes if one), {}))
    candidates = [
        Contender(cell, latency_interval(cell), axis[key], budget.judge(cell, _memory(cell, budget, memory)))
        for key, cell in forms.items()
        if key in axis
    ]
    candidates.sort(key=lambda one: (-one.accuracy.top1, one.latency.ratio))
    if not candidates:
        why = f": {next(iter(refused.values()))}" if refused else ""
        raise WorkFailed(f"nothing can be recommended: no network was measured whose accuracy is known{why}")
    fitting = [one for one in candidates if one.verdict == "within"]
    if not fitting:
        raise WorkFailed(f"nothing is within {budget} for certain; {_nearest(candidates, budget, memory)}")
    best, runner_up = fitting[0], fitting[1] if len(fitting) > 1 else None
    lines = [_use(best, budget), _why(best, cells, where), _next(best, runner_up), *_maybe(best, candidates)]
    lines += [_axis(best.accuracy, own or {}, forms, axis, axes[0]), *_caveats(candidates, refused)]
    lines += [f"{one}." for one in evaluated(list(forms.values()))]
    return Recommendation(lines, best, runner_up, candidates)


Key = tuple[str, str]


def _axes(forms: Mapping[Key, Cell], own: Mapping[Key, Accuracy]) -> tuple[list[dict[Key, Accuracy]], dict[Key, str]]:
    """Accuracies by kind, in the order of preference; and why a published one does not hold for some."""
    measured = {key: found for key, cell in forms.items() if (found := measured_accuracy(cell))}
    mine = {key: own[key] for key in forms if key in own}
    told = {key: published_for(cell) for key, cell in forms.items()}
    published = {key: one for key, one in told.items() if isinstance(one, Accuracy)}
    return [measured, mine, published], {key: one for key, one in told.items() if isinstance(one, str)}


def _fastest_forms(cells: Sequence[Cell]) -> dict[Key, Cell]:
    forms: dict[Key, list[Cell]] = {}
    for cell in fastest_forms(cells):
        forms.setdefault((cell.model, cell.module), []).append(cell)
    return {key: one for key, group in forms.items() if (one := fastest(group))}


def _memory(cell: Cell, budget: Budget, memory: Callable[[Cell], float] | None) -> float | None:
    return memory(cell) if memory is not None and budget.memory is not None else None


def _nearest(candidates: Sequence[Contender], budget: Budget, memory: Callable[[Cell], float] | None) -> str:
    """The candidate nearest to each limit that nothing meets."""
    said = []
    few = min(candidates, key=lambda one: one.cell.params or 0)
    if budget.params is not None and (few.cell.params or 0) > budget.params:
        said.append(f"the fewest parameters has {few.name}: {(few.cell.params or 0) / 1e6:g} M")
    if budget.memory is not None and memory is not None:
        least, one = min(((memory(one.cell), one) for one in candidates), key=lambda pair: pair[0])
        if least > budget.memory:
            said.append(f"the least memory needs {one.name}: {least / 1e6:.0f} MB")
    nearest = min(candidates, key=lambda one: one.latency.ratio)
    if not said or nearest.latency.high > budget.latency_ms(nearest.cell.batch):
        said.append(f"the fastest is {nearest}")
    return "; ".join(said)


def _use(best: Contender, budget: Budget) -> str:
    how = "deployed" if best.cell.deployed else "as inserted"
    return f"Use {best}, {how} in {best.cell.runtime}: the most accurate within {budget}."


def _why(best: Contender, cells: Sequence[Cell], where: str) -> str:
    """Costs of the module here, and of the next deeper network."""
    model, module, over = best.cell.model, best.cell.module, best.cell.overhead
    parts = []
    if module != BASELINE and over:
        plain = published_accuracy(model, BASELINE) if best.accuracy.kind == "published" else None
        gain = f" and gains {best.accuracy.top1 - plain.top1:+.2f} points" if plain else ""
        told = f"{overhead_text(over)} over the plain {model}"
        certain = not over.low <= 1 <= over.high
        costs = f"costs {told}" if certain else f"costs what cannot be told from nothing, {told},"
        parts.append(f"{module} {costs}{gain}")
    if deeper := _deeper(model, best.cell.runtime, cells):
        name, ratio = deeper
        parts.append(f"{name} would cost {overhead_text(ratio)}")
    return f"Why: on {where} {'; '.join(parts)}." if parts else "Why: nothing else that fits is as accurate."


def _deeper(model: str, runtime: str, cells: Sequence[Cell]) -> tuple[str, Interval] | None:
    """The next deeper network over the plain one; their samples are paired where both were measured in one run."""
    here, there = rules.plain(cells, model, runtime), rules.deeper(cells, model, runtime)
    if here is None or there is None or here.latency_ms is None or there.latency_ms is None:
        return None
    return networks.architecture(there.model), ratio_of(there.latency_ms, here.latency_ms)


def _next(best: Contender, runner_up: Contender | None) -> str:
    if runner_up is None:
        return "Runner-up: none; nothing else is within the budget for certain."
    faster = 100 * (runner_up.latency.ratio / best.latency.ratio - 1)
    gap = best.accuracy.top1 - runner_up.accuracy.top1
    error = math.hypot(best.accuracy.error, runner_up.accuracy.error)
    verdict = "which is within their uncertainty" if gap <= error else "which is more than their uncertainty"
    told = "whose uncertainty nothing tells" if math.isinf(error) else f"{verdict} (± {error:.2f})"
    return f"Runner-up: {runner_up}; {gap:.2f} points less, {told}, and {faster:+.1f} % in time."


def _maybe(best: Contender, candidates: Sequence[Contender]) -> list[str]:
    better = [one for one in candidates if one.verdict == "open" and one.accuracy.top1 > best.accuracy.top1]
    if not better:
        return []
    return [f"Open: {better[0]} is more accurate, but whether it is within the budget the measurement does not say."]


def _axis(
    used: Accuracy,
    own: Mapping[Key, Accuracy],
    forms: Mapping[Key, Cell],
    axis: Mapping[Key, Accuracy],
    measured: Mapping[Key, Accuracy],
) -> str:
    left = sorted(f"{model} ({module})" for model, module in forms if (model, module) not in axis)
    aside = f" Left aside for want of such a figure: {', '.join(left)}." if left else ""
    if used.kind == "measured":
        return f"Accuracies were measured of these very files; published ones are not mixed in.{aside}"
    if used.kind == "own":
        return f"Accuracies are those of your own runs; published ones are not mixed in.{aside}"
    one = " Your own run is left aside: one alone cannot be compared." if set(own) & set(forms) else ""
    one += " The one that was measured is left aside: it alone cannot be compared." if measured else ""
    return (
        "Accuracies are published, not measured: torchvision's plain networks, plus what a module gained in its "
        f"source; each is one training.{one}{aside}"
    )


def _caveats(candidates: Sequence[Contender], refused: Mapping[Key, str]) -> list[str]:
    """Facts about the accuracies of this setting."""
    lines = [f"Mind: {caveat}." for caveat in dict.fromkeys(one.accuracy.caveat for one in candidates) if caveat]
    if refused and any(one.accuracy.kind == "published" for one in candidates):
        for (model, module), why in refused.items():
            lines.append(f"No published accuracy is used for {model} ({module}): {why}.")
    return lines
