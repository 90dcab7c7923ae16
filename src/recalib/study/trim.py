"""Gates that do not earn their milliseconds are frozen, one after the other: those that hardly look at the image."""

import copy
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn
from torch.nn import functional as F

from recalib.deploy.graph import trace
from recalib.errors import RecalibError
from recalib.ops import Affine
from recalib.study.frozen import STAND_INS, Constant, GateSums, StandIn, carrier, fold_, gates_of, takes_shift
from recalib.study.paired import Loss, loss_between
from recalib.study.times import SiteTimes, site_times
from recalib.study.walk import Walk
from recalib.surgery import inserted, remove_

BATCH, LAYOUT = 250, torch.channels_last  # of images, and of maps: a CPU takes two thirds of the time for them
LINEAR = "linear"  # what is tried of each gate besides the constants: a linear function of a quarter of its channels


@dataclass(frozen=True)
class Effect:
    """Effect of freezing on a network, on calibration images.

    Attributes:
        divergence: Kullback and Leibler's, of the classes' probabilities from those of the untrimmed network; nats an
            image.
        agreement: images on which the most probable class stays the same, in percent.
        top1: accuracy in percent, None without labels.
    """

    divergence: float
    agreement: float
    top1: float | None


@dataclass(frozen=True)
class TrimmedSite:
    """One attention module of the network that was trimmed.

    Attributes:
        name: the site's.
        frozen: stand-in for the gate, None where the gate stays.
        variation: RMS error of the best constant, relative to the standard deviation of the gated map.
        alone: the effect of freezing this site alone, by stand-in; and under ``linear`` that of a gate which looks at
            a quarter of the channels, which is measured and never taken, since it folds nowhere.
        loss: points of accuracy (without labels: of agreement) that its best constant alone costs, on the images that
            the choice was made on.
        linear: points that the gate of few channels alone costs.
        ms: time that the site takes when deployed, with its 95 % interval; None where nothing was timed.
        why_kept: why it cannot be frozen, "" where it can.
    """

    name: str
    frozen: StandIn | None
    variation: float | None
    alone: dict[str, Effect]
    loss: float | None
    linear: float | None
    ms: tuple[float, float, float] | None
    why_kept: str = ""


@dataclass(frozen=True)
class CurvePoint:
    """The network with some gates frozen.

    Attributes:
        frozen: their number.
        site: the last of them; "" for none.
        stand_in: for that one.
        adjusted: true where the norms' statistics were adjusted after it.
        chosen_on: the effect on the images that the choice was made on.
        loss: points of accuracy (without labels: of agreement) lost on images set aside.
        ms: that all frozen sites take by themselves.
    """

    frozen: int
    site: str
    stand_in: StandIn
    adjusted: bool
    chosen_on: Effect
    loss: Loss
    ms: float


@dataclass(frozen=True)
class Trimmed:
    """A trimmed network.

    Attributes:
        sites: every attention module, in the order of the network.
        curve: one gate frozen after the other, to the last.
        frozen: number of these steps that were asked for.
        labelled: true where losses are of accuracy, not of agreement.
        times: that attention takes.
        notes: remarks for the reader, one line each.
        model: the network that was asked for: frozen gates folded into the layers before them, the rest as it was.
        at: makes the network of any point of the curve.
    """

    sites: tuple[TrimmedSite, ...]
    curve: tuple[CurvePoint, ...]
    frozen: int
    labelled: bool
    times: SiteTimes
    notes: tuple[str, ...]
    model: nn.Module
    at: Callable[[int], nn.Module]


@torch.no_grad()
def trim(
    model: nn.Module,
    images: Tensor,
    labels: Tensor | None = None,
    *,
    loss: float | None = 0.1,
    keep: int | None = None,
    time: float | None = None,
    target: str = "eager",
    times: Callable[[Sequence[str]], SiteTimes] | None = None,
    journal: Path | None = None,
    say: Callable[[str], None] | None = None,
) -> Trimmed:
    """Freeze the gates that hardly look at the image: a constant folds into the layer before it, and costs nothing.

    One gate after the other, the one that changes the network's answers least for the time it takes; all is measured
    anew after each. Half of the images (every second) decide which; the other half, how many. Images that the network
    was trained on it knows by heart: what is lost on them is less than what is lost on others.

    Args:
        model: a classifier with attention; it is not changed.
        images: as the network takes them, shape (N, 3, H, W).
        labels: shape (N,); without them the loss is of agreement with the untrimmed network.
        loss: freeze as many as lose at most so many points, on the images set aside; None for no limit.
        keep: leave so many gates; instead of a loss.
        time: freeze as many as it takes for attention to cost at most this share of the plain network's time, 0.03 for
            3 %; instead of a loss.
        target: the runtime whose time counts.
        times: function that gives the times of gates by name; by default they are measured for one image.
        journal: file that steps are kept in as they are made; a call that finds some there goes on from them.
        say: is told each step.

    Returns:
        The network, with what was measured on the way.

    Raises:
        RecalibError: for a network without gates that can be frozen, and images or limits that do not fit.

    Example::

        >>> trimmed = trim(model, images, labels, loss=0.1)
        >>> save_checkpoint(trimmed.model, "trimmed.safetensors")
    """
    if len(images) < 4 or (labels is not None and len(labels) != len(images)):
        told = "no labels" if labels is None else f"{len(labels)} labels"
        raise RecalibError(f"{len(images)} images, {told}: trim takes at least 4 images, and a label for each or none")
    work = _Trimming(model, images, labels)
    if keep is not None and not 0 <= keep <= len(work.open):
        raise RecalibError(f"keep {keep}: should be from 0 to {len(work.open)}, the gates that can be frozen")
    if time is not None and not time >= 0:
        raise RecalibError(f"time {time}: should be a share of the plain network's time, such as 0.03")
    kept = _Journal(journal)
    measured = kept.times() or (times or (lambda names: site_times(model, names, images[:1], target)))(work.open)
    kept.keep(measured)
    work.run(measured.costs(), kept, say or (lambda line: None))
    frozen = _how_many(work.curve, loss, keep, time, measured.plain)
    limit = loss if keep is None and time is None else None
    return Trimmed(
        work.sites(frozen, measured), tuple(work.curve), frozen, labels is not None, measured,
        tuple(_notes(work.curve, frozen, limit)), work.network(frozen), work.network,
    )  # fmt: skip


def cheapest(added: Mapping[str, float], cost: Mapping[str, float]) -> str:
    """The gate that adds least divergence for the time it takes; one that takes some away goes before all others.

    Args:
        added: divergence that freezing a gate adds.
        cost: milliseconds that it takes.
    """
    return min(added, key=lambda name: added[name] / cost[name] if added[name] > 0 else added[name] * cost[name])


def _how_many(
    curve: Sequence[CurvePoint], loss: float | None, keep: int | None, time: float | None, plain: float
) -> int:
    if keep is not None:
        return len(curve) - 1 - keep
    if time is not None:
        whole = curve[-1].ms
        return next(point.frozen for point in curve if whole - point.ms <= time * plain + 1e-9 * whole)
    return max(point.frozen for point in curve if loss is None or point.loss.points <= loss)


def _notes(curve: Sequence[CurvePoint], frozen: int, loss: float | None) -> Iterator[str]:
    at = curve[frozen].loss
    width = (at.high - at.low) / 2
    if loss and width > loss:
        yield (
            f"{at.images} images set aside tell the loss to {width:.2f} points either way, the limit is {loss:g}: "
            f"it would take about {at.images_for(loss)}"
        )
    if loss is not None and frozen == 0:
        yield f"no gate can be frozen for {loss:g} points"


class _Journal:
    """Steps of a trimming, one JSON object a line."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        lines = path.read_text().splitlines() if path is not None and path.exists() else []
        self.steps = [json.loads(line) for line in lines if line.endswith("}")]

    def times(self) -> SiteTimes | None:
        """Those that the steps there were chosen by."""
        told = next((step["times"] for step in self.steps if "times" in step), None)
        return told and SiteTimes({name: tuple(found) for name, found in told["ranges"].items()}, **{
            key: told[key] for key in ("full", "plain")})  # fmt: skip

    def keep(self, times: SiteTimes) -> None:
        """Keep the times that steps are chosen by."""
        if self.times() is None:
            self.add({"times": asdict(times)})

    def add(self, step: Mapping[str, Any]) -> None:
        """Keep a step."""
        self.steps.append(dict(step))
        if self.path is not None:
            with self.path.open("a") as file:
                file.write(json.dumps(step) + "\n")


class _Trimming:
    """The untrimmed network's answers, the network as far as it is frozen, and the curve so far."""

    def __init__(self, model: nn.Module, images: Tensor, labels: Tensor | None) -> None:
        self.model = model
        try:
            self.graph = trace(model)
        except Exception as error:  # whatever control flow over data raises
            reason = str(error).splitlines()[0]
            raise RecalibError(f"{type(model).__name__} cannot be traced, so that no gate folds: {reason}") from None
        self.graph.requires_grad_(False).to(memory_format=LAYOUT)
        self.walk = Walk(self.graph)
        self.gates = gates_of(self.graph)
        if not self.gates:
            outside = len(inserted(model).placements)
            why = f"its {outside} attention modules are no gates on moments" if outside else "insert_ puts it in"
            raise RecalibError(f"{type(model).__name__} has no attention that can be frozen: {why}")
        carriers = {name: carrier(self.graph, node) for name, node in self.gates.items()}
        self.carriers = {name: found for name, found in carriers.items() if found is not None}
        self.shifts = {name: takes_shift(self.graph.get_submodule(layer)) for name, layer in self.carriers.items()}
        self.parts = [_Part(images[i::2], None if labels is None else labels[i::2]) for i in (0, 1)]
        for part in self.parts:
            part.reference = torch.cat([self.walk.logits(some) for some in part.batches()])
        self.first = self._sums(rows=True)
        self.open = [name for name in self.carriers if self._stand_ins(name, self.first[name])]
        if not self.open:
            raise RecalibError(f"none of the {len(self.gates)} gates follows a norm or convolution it can fold into")
        self.norms, self.original = self._statistics(), self._own_statistics()
        self.alone: dict[str, dict[str, Effect]] = {}
        self.constants: list[tuple[str, Affine]] = []
        self.statistics: list[dict[str, Tensor]] = []
        self.curve: list[CurvePoint] = []

    def run(self, cost: Mapping[str, float], journal: _Journal, say: Callable[[str], None]) -> None:
        """Freeze gates until none is left."""
        whole = Effect(0.0, 100.0, self.parts[0].top1(self.parts[0].reference))
        self.curve = [CurvePoint(0, "", "fit", False, whole, self._loss(), 0.0)]
        self.alone = self._alone(journal)
        best = {name: _best(effects) for name, effects in self.alone.items()}
        known = [step for step in journal.steps if "site" in step]
        left = list(self.open)
        while left:
            step = known[len(self.curve) - 1] if len(self.curve) <= len(known) else None
            sums = self._sums()
            if step is None:
                name = self._cheapest(left, best, sums, cost)
                effect, adjusted = self._freeze(name, best[name], sums, None)
                step = {"site": name, "stand_in": best[name], "adjusted": adjusted, "effect": asdict(effect)}
                journal.add(step)
            else:
                name = step["site"]
                self._freeze(name, step["stand_in"], sums, step["adjusted"])
            left.remove(name)
            self._record(step, cost[name])
            say(self._line())

    def _record(self, step: Mapping[str, Any], ms: float) -> None:
        before = self.curve[-1]
        effect = Effect(**step["effect"])
        self.curve.append(
            CurvePoint(before.frozen + 1, step["site"], step["stand_in"], step["adjusted"], effect, self._loss(),
                  before.ms + ms)
        )  # fmt: skip

    def _line(self) -> str:
        point, of = self.curve[-1], "accuracy" if self.parts[1].labels is not None else "agreement"
        return (
            f"{point.frozen} of {len(self.open)} frozen: {point.site} at its {point.stand_in}; "
            f"{point.loss.points:.2f} points of {of} lost on {point.loss.images} images set aside "
            f"[{point.loss.low:.2f}, {point.loss.high:.2f}]"
        )

    def _alone(self, journal: _Journal) -> dict[str, dict[str, Effect]]:
        """The effect of each gate frozen alone, in each way."""
        told = next((step["alone"] for step in journal.steps if "alone" in step), None)
        if told is None:
            tried = {name: self._all_stand_ins(name) for name in self.open}
            effects = self._effects({name: list(kinds.values()) for name, kinds in tried.items()})
            told = {
                name: {kind: asdict(effect) for kind, effect in zip(kinds, effects[name], strict=True)}
                for name, kinds in tried.items()
            }
            journal.add({"alone": told})
        for sums in self.first.values():
            sums.rows = None
        return {name: {kind: Effect(**effect) for kind, effect in kinds.items()} for name, kinds in told.items()}

    def _all_stand_ins(self, name: str) -> dict[str, nn.Module]:
        """Every constant, and the gate of few channels."""
        found: dict[str, nn.Module] = {LINEAR: self.first[name].linear(self.parts[0].images)}
        return found | {kind: self._constant(one) for kind, one in self._stand_ins(name, self.first[name]).items()}

    def _cheapest(
        self, left: Sequence[str], best: Mapping[str, StandIn], sums: Mapping[str, GateSums], cost: Mapping[str, float]
    ) -> str:
        """The gate whose freezing adds least divergence for the time it takes."""
        if len(left) == 1:
            return left[0]
        tried = {name: [self._constant(self._stand_ins(name, sums[name])[best[name]])] for name in left}
        now = self.curve[-1].chosen_on.divergence
        return cheapest({name: effects[0].divergence - now for name, effects in self._effects(tried).items()}, cost)

    def _freeze(
        self, name: str, kind: StandIn, sums: Mapping[str, GateSums], adjust: bool | None
    ) -> tuple[Effect, bool]:
        """Put a constant in a gate's place; norms are adjusted where that brings the network nearer to the first."""
        affine = self._stand_ins(name, sums[name])[kind]
        self.graph.set_submodule(name, self._constant(affine))
        self.constants.append((name, affine))
        effect = self._effect() if adjust is None else Effect(0.0, 0.0, None)
        if adjust is not False:
            before, after = self._set_statistics(self._adjusted()), self._effect() if adjust is None else effect
            if adjust is None and after.divergence >= effect.divergence:
                self._set_statistics(before)
                adjust = False
            else:
                effect, adjust = after, True
        self.statistics.append(self._own_statistics())
        return effect, adjust

    def _stand_ins(self, name: str, sums: GateSums) -> dict[StandIn, Affine]:
        found = {kind: sums.stand_in(kind, self.shifts[name]) for kind in STAND_INS}
        return {kind: affine for kind, affine in found.items() if affine is not None}

    def _constant(self, affine: Affine) -> Constant:
        return Constant(affine, self.parts[0].images)

    def _sums(self, *, rows: bool = False) -> dict[str, GateSums]:
        """Sums over every gate that is left, on the images that decide; those of each image where rows are kept."""
        sums: dict[str, GateSums] = {}

        def see(node: fx.Node, u: Tensor) -> None:
            name = str(node.target)
            if self.gates.get(name) is node and not isinstance(gate := self.graph.get_submodule(name), Constant):
                sums.setdefault(name, GateSums(rows=[] if rows else None)).add(u, gate)  # type: ignore[arg-type]

        for images in self.parts[0].batches():
            self.walk.logits(images, see)
        return sums

    def _effects(self, tried: Mapping[str, Sequence[nn.Module]]) -> dict[str, list[Effect]]:
        """The effect of each module in each gate's place, one at a time, on the images that decide."""
        part = self.parts[0]
        modules = {self.gates[name]: those for name, those in tried.items()}
        logits: dict[tuple[str, int], list[Tensor]] = {}
        for images in part.batches():
            for node, i, found in self.walk.tries(images, modules):
                logits.setdefault((str(node.target), i), []).append(found)
        return {
            name: [part.effect(torch.cat(logits[name, i])) for i in range(len(those))] for name, those in tried.items()
        }

    def _effect(self) -> Effect:
        part = self.parts[0]
        return part.effect(torch.cat([self.walk.logits(images) for images in part.batches()]))

    def _loss(self) -> Loss:
        """Loss on the images set aside."""
        part = self.parts[1]
        logits = torch.cat([self.walk.logits(images) for images in part.batches()])
        return loss_between(part.right(part.reference), part.right(logits))

    def _statistics(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Mean and variance that each norm sees on the images that decide, all norms normalising by their batch."""
        twin = copy.deepcopy(self.graph)
        norms = dict(_running_norms(twin))
        for norm in norms.values():
            norm.train()
            norm.momentum = None  # the mean over all batches
            norm.reset_running_stats()
        walk = Walk(twin)
        for images in self.parts[0].batches():
            walk.logits(images)
        return {name: (norm.running_mean, norm.running_var) for name, norm in norms.items()}

    def _adjusted(self) -> dict[str, Tensor]:
        """Running statistics, changed by what has changed on the same images since nothing was frozen.

        So that calibration images need not be distributed as the augmented training images were: where nothing has
        changed nothing is adjusted.
        """
        found = {}
        for name, (mean, variance) in self._statistics().items():
            mean_then, variance_then = self.norms[name]
            found[f"{name}.running_mean"] = self.original[f"{name}.running_mean"] + mean - mean_then
            ratio = variance.clamp(min=1e-12) / variance_then.clamp(min=1e-12)
            found[f"{name}.running_var"] = self.original[f"{name}.running_var"] * ratio
        return found

    def _own_statistics(self) -> dict[str, Tensor]:
        own: dict[str, Tensor] = {}
        for name, norm in _running_norms(self.graph):
            own |= {f"{name}.running_mean": norm.running_mean.clone(), f"{name}.running_var": norm.running_var.clone()}
        return own

    def _set_statistics(self, statistics: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Set running statistics; those before."""
        before = self._own_statistics()
        buffers = dict(self.graph.named_buffers())
        for name, value in statistics.items():
            buffers[name].copy_(value)
        return before

    def network(self, frozen: int) -> nn.Module:
        """The model with the first so many gates folded."""
        model = copy.deepcopy(self.model)
        buffers = dict(model.named_buffers())
        for name, value in (self.statistics[frozen - 1] if frozen else {}).items():
            if name in buffers:
                buffers[name].copy_(value)
        for name, affine in self.constants[:frozen]:
            fold_(model.get_submodule(self.carriers[name]), affine)
        remove_(model, [_site(name) for name, _ in self.constants[:frozen]])
        return model

    def sites(self, frozen: int, times: SiteTimes) -> tuple[TrimmedSite, ...]:
        """Measurements of every attention module."""
        done = {point.site: point.stand_in for point in self.curve[1 : frozen + 1]}
        found = []
        for placement in inserted(self.model).placements:
            gate = next((name for name in self.gates if _site(name) == placement.site.name), None)
            alone = self.alone.get(gate or "", {})
            least, linear = (alone[_best(alone)], alone.get(LINEAR)) if alone else (None, None)
            why = (
                ""
                if gate in self.open
                else ("no gate on moments" if gate is None else "what makes its map takes no constant")
            )
            found.append(
                TrimmedSite(placement.site.name, done.get(gate or ""), self.first[gate].variation if gate else None,
                            alone, self._lost(least), self._lost(linear), times.interval(gate), why)
            )  # fmt: skip
        return tuple(found)

    def _lost(self, effect: Effect | None) -> float | None:
        if effect is None:
            return None
        whole = self.curve[0].chosen_on.top1
        return 100 - effect.agreement if whole is None or effect.top1 is None else whole - effect.top1


class _Part:
    """Some of the images, and what the untrimmed network makes of them."""

    def __init__(self, images: Tensor, labels: Tensor | None) -> None:
        self.images, self.labels = images.contiguous(memory_format=LAYOUT), labels
        self.reference = images

    def batches(self) -> tuple[Tensor, ...]:
        """Images, a batch at a time."""
        return self.images.split(BATCH)

    def right(self, logits: Tensor) -> NDArray[np.bool_]:
        """On which images the most probable class is the label, or without labels the untrimmed network's."""
        wanted = self.reference.argmax(1) if self.labels is None else self.labels
        right: NDArray[np.bool_] = (logits.argmax(1) == wanted).cpu().numpy()
        return right

    def top1(self, logits: Tensor) -> float | None:
        """Accuracy in percent; None without labels."""
        return None if self.labels is None else 100 * float(self.right(logits).mean())

    def effect(self, logits: Tensor) -> Effect:
        """Effect of the change from the untrimmed network's logits."""
        p, q = (x.double().log_softmax(1) for x in (self.reference, logits))
        divergence = float(F.kl_div(q, p, log_target=True, reduction="batchmean"))
        agreement = 100 * float((logits.argmax(1) == self.reference.argmax(1)).double().mean())
        return Effect(divergence, agreement, self.top1(logits))


def _best(alone: Mapping[str, Effect]) -> StandIn:
    """The constant that changes the network's answers least."""
    return min((kind for kind in STAND_INS if kind in alone), key=lambda kind: alone[kind].divergence)


def _running_norms(module: nn.Module) -> Iterator[tuple[str, Any]]:
    for name, norm in module.named_modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm) and norm.running_mean is not None:
            yield name, norm


def _site(gate: str) -> str:
    """Name of the site whose attention module has this name."""
    return gate.removesuffix(".attention")
