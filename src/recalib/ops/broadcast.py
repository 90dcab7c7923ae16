"""The wider law: gates that are broadcast over the map, one a channel, a row, a column or a pixel.

``y = x * (w * G + b) + shift`` with G the product or the mean of small gates, each computed from statistics of the map.
A step reads the map once; most mechanisms have one step, and those whose second gate looks at the map that the first
has scaled have two. Here are the plain composition, and the few passes of `recalib.ops.broadcast_passes`, which are
held to it.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from recalib.errors import RecalibError
from recalib.ops import broadcast_torch, passes
from recalib.ops.broadcast_law import Law, Maximum, Read
from recalib.ops.broadcast_passes import Passes, backend_of
from recalib.ops.capture import is_captured
from recalib.ops.contract import wide
from recalib.ops.reference import moments

Statistic = Literal[
    "mean", "variance", "maximum", "row_mean", "row_maximum", "column_mean", "column_maximum", "pixel_mean",
    "pixel_maximum", "weighted_sum",
]  # fmt: skip


class Statistics(NamedTuple):
    """Statistics from one read of a map x (N, C, H, W), in at least float32; None where not asked for.

    Attributes:
        size: (H, W).
        mean: over H and W, shape (N, C).
        variance: centred, divided by H*W, shape (N, C).
        maximum: over H and W, shape (N, C).
        row_mean: over W, shape (N, C, H).
        row_maximum: over W, shape (N, C, H).
        column_mean: over H, shape (N, C, W).
        column_maximum: over H, shape (N, C, W).
        pixel_mean: over C, shape (N, H, W).
        pixel_maximum: over C, shape (N, H, W).
        weighted_sum: over H and W, with the step's weights, shape (N, C).
    """

    size: tuple[int, int]
    mean: Tensor | None = None
    variance: Tensor | None = None
    maximum: Tensor | None = None
    row_mean: Tensor | None = None
    row_maximum: Tensor | None = None
    column_mean: Tensor | None = None
    column_maximum: Tensor | None = None
    pixel_mean: Tensor | None = None
    pixel_maximum: Tensor | None = None
    weighted_sum: Tensor | None = None


class Own(NamedTuple):
    """A gate that each pixel has of its own: ``sigmoid(slope * (x - centre)^2 + offset)``.

    Attributes:
        slope: shape (N, C).
        centre: shape (N, C).
        offset: one number.
    """

    slope: Tensor
    centre: Tensor
    offset: float


class Gates(NamedTuple):
    """Effect of a step on a map.

    Attributes:
        factors: each of shape (N, C, 1, 1), (N, C, H, 1), (N, C, 1, W) or (N, 1, H, W).
        combined: how they make G.
        own: in place of factors.
    """

    factors: tuple[Tensor, ...] = ()
    combined: Literal["product", "mean"] = "product"
    own: Own | None = None


class Step(NamedTuple):
    """One read of the map, and the gates that follow from it.

    Attributes:
        reads: the statistics wanted.
        gates: from those.
        of_channels: whether the gates are one factor (N, C, 1, 1); then a next step may read the scaled map without
            that being written.
        weights: of the weighted sum: from (H, W) to constants (C, H, W).
    """

    reads: tuple[Statistic, ...]
    gates: Callable[[Statistics], Gates]
    of_channels: bool = False
    weights: Callable[[tuple[int, int]], Tensor] | None = None


def broadcast(
    x: Tensor,
    steps: Sequence[Step],
    blend: tuple[Tensor, Tensor] | None = None,
    parameters: Sequence[Tensor] = (),
) -> Tensor:
    """A map behind its gates: ``x * (w * G + b)``, G the product over the steps.

    Args:
        x: map (N, C, H, W).
        steps: in order; each sees the map as the steps before have scaled it.
        blend: w and b, each (C,), of an identity start.
        parameters: all that the steps and the blend learn.

    Raises:
        RecalibError: for a step whose answer is no `Gates`.
    """
    if _pays(x) and _fits(steps):
        y: Tensor = Passes.apply(x, _Plan(steps, blend), *parameters)
        return y
    return composed(x, steps, blend)


def composed(x: Tensor, steps: Sequence[Step], blend: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """The plain composition, operator after operator: any device, any precision, and every captured graph."""
    gated, total = x, None
    for step in steps:
        weights = None if step.weights is None else step.weights((x.shape[2], x.shape[3]))
        gate = combine(gated, _answer(step, observe(gated, step.reads, weights)))
        if blend is not None:
            total = gate if total is None else total * gate
        gated = gated * gate.to(x.dtype)
    if blend is None or total is None:
        return gated
    weight, bias = (t.to(total.dtype)[:, None, None] for t in blend)
    return x * torch.addcmul(bias, total, weight).to(x.dtype)


def _pays(x: Tensor) -> bool:
    """True if few passes are faster than operator after operator: in eager training, for all but small maps.

    Measured on a busy CPU, see ``docs/mechanisms.md``: SimAM gains, the others lose nothing that can be told. On a GPU
    nobody has measured; the size is that from which a tail's operators pay there. Graphs hold plain operators.
    """
    if not torch.is_grad_enabled() or is_captured(x):
        return False
    if passes.has_kernels(x):
        return x.numel() >= WORTHWHILE_ON_GPU and backend_of(x) is not broadcast_torch
    cpu = x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64)
    return cpu and x.numel() >= WORTHWHILE * torch.get_num_threads()


def _fits(steps: Sequence[Step]) -> bool:
    """One step, or a second one that reads pixels behind gates of channels."""
    first, *others = steps
    pixels = all(name.startswith("pixel_") for step in others for name in step.reads)
    return not others or (len(others) == 1 and first.of_channels and pixels)


WORTHWHILE_ON_GPU = 2**25
WORTHWHILE = 2**20
"""Values a thread from which on the passes win on a CPU."""


class _Inner(NamedTuple):
    """A step's own graph of autograd: from what was read to its gates."""

    scale: Tensor | None
    weights: Tensor | None
    found: dict[str, Tensor | Maximum]
    leaves: dict[str, Tensor]
    gates: tuple[Tensor, ...]


class _Plan:
    """The steps that `Passes` runs forward, and their graphs backward."""

    def __init__(self, steps: Sequence[Step], blend: tuple[Tensor, Tensor] | None) -> None:
        self.steps = steps
        self.blend = blend

    def forward(self, x: Tensor) -> tuple[Law, list[_Inner]]:
        """The gates of the map x, and what it takes to differentiate them."""
        factors: list[Tensor] = []
        inner: list[_Inner] = []
        law = Law(())
        for step in self.steps:
            scale = factors[0].flatten(1) if factors else None
            weights = None if step.weights is None else step.weights((x.shape[2], x.shape[3])).to(wide(x.dtype))
            found = backend_of(x).observe(x, scale, step.reads, weights)
            values = {name: t.values if isinstance(t, Maximum) else t for name, t in found.items()}
            leaves = {name: t.detach().requires_grad_() for name, t in values.items()}
            with torch.enable_grad():
                gates = _answer(step, Statistics((x.shape[2], x.shape[3]), **leaves))
                if gates.own is not None:
                    small: tuple[Tensor, ...] = gates.own.slope, gates.own.centre
                else:
                    small = gates.factors
            inner.append(_Inner(scale, weights, found, leaves, small))
            if gates.own is not None:
                law = Law((), False, small[0].detach(), small[1].detach(), gates.own.offset)
            else:
                factors += [factor.detach() for factor in small]
                law = Law(tuple(factors), gates.combined == "mean")
        if self.blend is None:
            return law, inner
        weight, bias = (t.detach().to(inner[0].gates[0].dtype) for t in self.blend)
        return law._replace(weight=weight, bias=bias), inner

    def backward(
        self, dy: Tensor, x: Tensor, law: Law, inner: list[_Inner], parameters: Sequence[Tensor]
    ) -> tuple[Tensor, list[Tensor | None]]:
        """Gradients of the map and of the parameters."""
        backend = backend_of(x, law)
        gradients, d_weight, d_bias = backend.reduce(dy, x, law)
        learned = [p for p in parameters if p.requires_grad]
        total: dict[int, Tensor] = {}
        for t, gradient in zip(self.blend or (), (d_weight, d_bias), strict=False):
            assert gradient is not None
            total[id(t)] = gradient.to(t.dtype)
        reads: list[Read] = []
        for step in reversed(inner):
            own = gradients[len(gradients) - len(step.gates) :]
            del gradients[len(gradients) - len(step.gates) :]
            wanted = [*step.leaves.values(), *learned]
            answers = torch.autograd.grad(step.gates, wanted, own, retain_graph=True, allow_unused=True)
            back = dict(zip(step.leaves, answers, strict=False))
            known = {name: d for name, d in back.items() if d is not None}
            reads.append(Read(step.scale, step.found, known, step.weights))
            for p, d in zip(learned, answers[len(back) :], strict=True):
                if d is not None:
                    total[id(p)] = total[id(p)] + d if id(p) in total else d
            if step.scale is not None:
                gradients[0] += backend.unscale(x, reads[-1])[:, :, None, None]
        return backend.differentiate(dy, x, law, reads), [total.get(id(p)) for p in parameters]


def observe(x: Tensor, reads: Sequence[Statistic], weights: Tensor | None = None) -> Statistics:
    """Statistics of a map x (N, C, H, W), as many passes as they are; in at least float32."""
    mean, variance = None, None
    if "mean" in reads or "variance" in reads:
        mean, variance, _ = moments(x, "variance" in reads)
    x = x.to(wide(x.dtype))
    found = {name: _REDUCTIONS[name](x) for name in reads if name in _REDUCTIONS}
    if weights is not None:
        found["weighted_sum"] = (x * weights.to(x.dtype)).sum((2, 3))
    return Statistics((x.shape[2], x.shape[3]), mean, variance, **found)


_REDUCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "maximum": lambda x: x.flatten(2).max(2).values,  # one of several equal ones, as in a backward of pooling
    "row_mean": lambda x: x.mean(3),
    "row_maximum": lambda x: x.max(3).values,
    "column_mean": lambda x: x.mean(2),
    "column_maximum": lambda x: x.max(2).values,
    "pixel_mean": lambda x: x.mean(1),
    "pixel_maximum": lambda x: x.max(1).values,
}


def combine(x: Tensor, gates: Gates) -> Tensor:
    """G as a tensor that can be multiplied with the map x (N, C, H, W); in the precision of the gates."""
    if gates.own is not None:
        slope, centre = gates.own.slope[:, :, None, None], gates.own.centre[:, :, None, None]
        return torch.sigmoid(slope * (x.to(centre.dtype) - centre).square() + gates.own.offset)
    whole, *others = gates.factors
    for factor in others:
        whole = whole * factor if gates.combined == "product" else whole + factor
    return whole if gates.combined == "product" else whole / len(gates.factors)


def _answer(step: Step, statistics: Statistics) -> Gates:
    gates = step.gates(statistics)
    if step.of_channels and isinstance(gates, Gates) and not (len(gates.factors) == 1 and _one_a_channel(gates)):
        raise RecalibError("a step of channels returns one factor of shape (N, C, 1, 1)")
    if not isinstance(gates, Gates) or bool(gates.factors) == (gates.own is not None):
        raise RecalibError(
            f"a step returned {type(gates).__name__}; it returns Gates with factors, or with an own gate"
        )
    return gates


def _one_a_channel(gates: Gates) -> bool:
    (factor,) = gates.factors
    return factor.ndim == 4 and factor.shape[2:] == (1, 1)
