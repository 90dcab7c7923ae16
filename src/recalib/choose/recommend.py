"""`recalib recommend`: the most accurate network within a budget, and why."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from recalib.choose import published
from recalib.choose.advice import overhead_text
from recalib.choose.budget import Budget, Verdict, latency_interval
from recalib.errors import WorkFailed
from recalib.measure.cells import BASELINE
from recalib.measure.networks import DEPTHS
from recalib.measure.statistics import Interval, ratio_of

Cell = dict[str, Any]
FAMILIES = {"resnet": DEPTHS, "mobilenet": ("mobilenetv2_100",)}
VALIDATION_IMAGES = 50_000  # of ImageNet, on which every published accuracy here was measured


@dataclass(frozen=True)
class Accuracy:
    """Top-1 of a network in percent.

    Attributes:
        top1: the figure.
        error: half of its 95 % interval, in points.
        origin: whose it is, and how it came about.
        own: whether the user trained it; published and own figures are never compared with each other.
    """

    top1: float
    error: float
    origin: str
    own: bool = False


@dataclass(frozen=True)
class Candidate:
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
        module = self.cell["module"]
        return f"plain {self.cell['model']}" if module == BASELINE else f"{self.cell['model']} with {module}"

    def __str__(self) -> str:
        time, accuracy = self.latency, self.accuracy
        return (
            f"{self.name}: {time.ratio:.2f} ms [{time.low:.2f}, {time.high:.2f}], "
            f"top-1 {accuracy.top1:.2f} ± {accuracy.error:.2f} % ({accuracy.origin})"
        )


@dataclass(frozen=True)
class Recommendation:
    """What to use.

    Attributes:
        lines: what is said, a sentence or two each.
        best: the most accurate network within the budget for certain.
        runner_up: the next one, or None.
        candidates: everything considered, most accurate first.
    """

    lines: list[str]
    best: Candidate
    runner_up: Candidate | None
    candidates: list[Candidate]


def wanted(models: Sequence[str], modules: Sequence[str], own: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """The modules worth measuring in each model: those of which an accuracy, published or own, is known."""
    known = set(own)
    return {
        model: [
            name for name in modules if published_accuracy(model, name) is not None or (model, name) in known
        ]
        for model in models
    }  # fmt: skip


def published_accuracy(model: str, module: str) -> Accuracy | None:
    """A network's published top-1 on one axis for all: torchvision's plain network, plus the module's gain.

    Recipes move accuracy by more than modules do, so figures of several sources are not comparable; gains within a
    source are. The source of the gain is `published.best_source` of the model and module.
    """
    plain = published.accuracy(model, BASELINE, published.ladder())
    if plain is None:
        return None
    error = sampling_error(plain.top1, VALIDATION_IMAGES)
    if module == BASELINE:
        return Accuracy(plain.top1, error, f"published, {plain.source.label}")
    source = published.best_source(model, [module])
    gain = published.gain(model, module, source) if source else None
    if source is None or gain is None:
        return None
    return Accuracy(plain.top1 + gain, error, f"published, {plain.source.label} {gain:+.2f} of {source.label}")


def sampling_error(percent: float, images: int) -> float:
    """Half of the 95 % interval of an accuracy measured on so many images (normal approximation), in points."""
    share = percent / 100
    return 100 * 1.96 * math.sqrt(share * (1 - share) / images)


def recommend(
    cells: Sequence[Cell],
    budget: Budget,
    *,
    own: dict[tuple[str, str], Accuracy] | None = None,
    memory: Callable[[Cell], float] | None = None,
    among: Sequence[str] | None = None,
) -> Recommendation:
    """Choose from measured networks by a stated rule.

    Of the networks whose whole 95 % interval is within the budget the most accurate one is taken, the faster one of
    equals. Where the user's own runs cover two of the measured networks only those are compared, by their own
    accuracy; otherwise all are, by `published_accuracy`. The two kinds are never compared with each other.

    Args:
        cells: what `recalib compare --json` writes, all of one setting.
        budget: what the network may cost.
        own: accuracies of the user's own runs, by (model, module).
        memory: bytes that a cell's network needs; asked only where the budget limits them.
        among: the models to choose from; others, measured along as references, are not taken. None for all.

    Raises:
        WorkFailed: where nothing was measured, nothing has a known accuracy, or nothing is within the budget.
    """
    fastest = {key: cell for key, cell in _fastest_forms(cells).items() if among is None or key[0] in among}
    mine = {key: accuracy for key, accuracy in (own or {}).items() if key in fastest}
    axis = mine if len(mine) > 1 else {key: known for key in fastest if (known := published_accuracy(*key))}
    candidates = [
        Candidate(cell, latency_interval(cell), axis[key], budget.judge(cell, _memory(cell, budget, memory)))
        for key, cell in fastest.items()
        if key in axis
    ]
    candidates.sort(key=lambda one: (-one.accuracy.top1, one.latency.ratio))
    if not candidates:
        raise WorkFailed("nothing can be recommended: no network was measured whose accuracy is known")
    fitting = [one for one in candidates if one.verdict == "within"]
    if not fitting:
        nearest = min(candidates, key=lambda one: one.latency.ratio)
        raise WorkFailed(f"nothing is within {budget} for certain; the fastest is {nearest}")
    best, runner_up = fitting[0], fitting[1] if len(fitting) > 1 else None
    lines = [_use(best, budget), _why(best, cells), _next(best, runner_up), *_maybe(best, candidates)]
    lines.append(_axis(axis is mine, mine, fastest, axis))
    return Recommendation(lines, best, runner_up, candidates)


def _fastest_forms(cells: Sequence[Cell]) -> dict[tuple[str, str], Cell]:
    fastest: dict[tuple[str, str], Cell] = {}
    for cell in sorted((c for c in cells if c["status"] == "ok"), key=lambda c: c["latency_ms"]["median"]):
        fastest.setdefault((cell["model"], cell["module"]), cell)
    return fastest


def _memory(cell: Cell, budget: Budget, memory: Callable[[Cell], float] | None) -> float | None:
    return memory(cell) if memory is not None and budget.memory is not None else None


def _use(best: Candidate, budget: Budget) -> str:
    how = "deployed" if best.cell["deployed"] else "as inserted"
    return f"Use {best}, {how} in {best.cell['runtime']}: the most accurate within {budget}."


def _why(best: Candidate, cells: Sequence[Cell]) -> str:
    """What the module costs here, and what the next deeper network would."""
    model, module = best.cell["model"], best.cell["module"]
    overhead = best.cell["overhead"]
    parts = []
    if module != BASELINE and overhead:
        plain = _plain_top1(best)
        gain = "" if plain is None else f" and gains {best.accuracy.top1 - plain:+.2f} points"
        parts.append(f"{module} costs {overhead_text(overhead)} over the plain {model}{gain}")
    if deeper := _deeper(model, best.cell["runtime"], cells):
        name, ratio = deeper
        parts.append(f"{name} would cost {overhead_text(ratio._asdict())}")
    return f"Why: on this machine {'; '.join(parts)}." if parts else "Why: nothing else that fits is as accurate."


def _plain_top1(best: Candidate) -> float | None:
    known = published_accuracy(best.cell["model"], BASELINE)
    return known.top1 if known and not best.accuracy.own else None


def _deeper(model: str, runtime: str, cells: Sequence[Cell]) -> tuple[str, Interval] | None:
    """The next deeper network over the plain one; their samples are paired where both were measured in one run."""
    name = published.deeper(model)
    plain = _fastest_forms([c for c in cells if c["runtime"] == runtime and c["module"] == BASELINE])
    here = plain.get((model, BASELINE))
    there = next((cell for (other, _), cell in plain.items() if published.network_name(other) == name), None)
    if name is None or here is None or there is None:
        return None
    return name, ratio_of(there["latency_ms"], here["latency_ms"])


def _next(best: Candidate, runner_up: Candidate | None) -> str:
    if runner_up is None:
        return "Runner-up: none; nothing else is within the budget for certain."
    faster = 100 * (runner_up.latency.ratio / best.latency.ratio - 1)
    gap = best.accuracy.top1 - runner_up.accuracy.top1
    error = math.hypot(best.accuracy.error, runner_up.accuracy.error)
    verdict = "which is within their uncertainty" if gap <= error else "which is more than their uncertainty"
    return f"Runner-up: {runner_up}; {gap:.2f} points less, {verdict} (± {error:.2f}), and {faster:+.1f} % in time."


def _maybe(best: Candidate, candidates: Sequence[Candidate]) -> list[str]:
    better = [one for one in candidates if one.verdict == "open" and one.accuracy.top1 > best.accuracy.top1]
    if not better:
        return []
    return [f"Open: {better[0]} is more accurate, but whether it is within the budget the measurement does not say."]


def _axis(own: bool, mine: dict[Any, Accuracy], fastest: dict[Any, Cell], axis: dict[Any, Accuracy]) -> str:
    left = sorted(f"{model} ({module})" for model, module in fastest if (model, module) not in axis)
    aside = f" Left aside for want of such a figure: {', '.join(left)}." if left else ""
    if own:
        return f"Accuracies are those of your own runs; published ones are not mixed in.{aside}"
    one = " Your own run is left aside: one alone cannot be compared." if mine else ""
    return (
        "Accuracies are published, not measured: torchvision's plain networks, plus what a module gained in its "
        f"source; each is one training.{one}{aside}"
    )
