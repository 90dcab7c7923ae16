"""The wider law: gates that are broadcast over the map, one a channel, a row, a column or a pixel.

``y = x * (w * G + b) + shift`` with G the product or the mean of small gates, each computed from statistics of the map.
A step reads the map once; most mechanisms have one step, and those whose second gate looks at the map that the first
has scaled have two. Here is the plain composition, which `recalib.ops.broadcast_passes` is held to.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from recalib.errors import RecalibError
from recalib.ops.contract import wide
from recalib.ops.reference import moments

Statistic = Literal[
    "mean", "variance", "maximum", "row_mean", "row_maximum", "column_mean", "column_maximum", "pixel_mean",
    "pixel_maximum",
]  # fmt: skip


class Statistics(NamedTuple):
    """What one read of a map x (N, C, H, W) gives, in at least float32; None where it was not asked for.

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
    """What a step does to a map.

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
    """

    reads: tuple[Statistic, ...]
    gates: Callable[[Statistics], Gates]


def broadcast(x: Tensor, steps: Sequence[Step], blend: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """A map behind its gates: ``x * (w * G + b)``, G the product over the steps.

    Args:
        x: map (N, C, H, W).
        steps: in order; each sees the map as the steps before have scaled it.
        blend: w and b, each (C,), of an identity start.
    """
    gated, total = x, None
    for step in steps:
        gate = combine(gated, _answer(step, observe(gated, step.reads)))
        total = gate if total is None or blend is None else total * gate
        gated = gated * gate.to(x.dtype)
    if blend is None or total is None:
        return gated
    weight, bias = (t.to(total.dtype)[:, None, None] for t in blend)
    return x * torch.addcmul(bias, total, weight).to(x.dtype)


def observe(x: Tensor, reads: Sequence[Statistic]) -> Statistics:
    """Statistics of a map x (N, C, H, W), as many passes as they are; in at least float32."""
    mean, variance = None, None
    if "mean" in reads or "variance" in reads:
        mean, variance, _ = moments(x, "variance" in reads)
    x = x.to(wide(x.dtype))
    found = {name: _REDUCTIONS[name](x) for name in reads if name in _REDUCTIONS}
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
    if not isinstance(gates, Gates) or bool(gates.factors) == (gates.own is not None):
        raise RecalibError(
            f"a step returned {type(gates).__name__}; it returns Gates with factors, or with an own gate"
        )
    return gates
