"""The tail of a residual block in two passes over the activation, forward and backward."""

import torch
from torch import Tensor, nn

from recalib.ops import passes
from recalib.ops.contract import Affine, GateOnMoments, Moments, ask
from recalib.ops.norm import Normalization, normalization, uses_batch_statistics


def tail(x: Tensor, norm: nn.Module | None, gate: GateOnMoments | None, residual: Tensor | None, relu: bool) -> Tensor:
    """``act(gate(norm(x)) + residual)``, where the norm is affine and the gate wants moments only.

    The moments of norm(x) follow from those of x: with ``norm(x) = a (x - c) + b`` they are ``a (m - c) + b`` and
    ``a^2 v``. So what a gate wants to know costs nothing beyond what the norm's own statistics cost.

    Args:
        x: map (N, C, H, W), not empty.
        norm: see `recalib.ops.norm.is_affine`; or None.
        gate: a gate on moments, or None.
        residual: the shortcut, shape and type of x; or None.
        relu: whether to end in a ReLU.
    """
    layout = torch.contiguous_format if _is_row_major(x) else torch.channels_last
    x = x.contiguous(memory_format=layout)
    residual = None if residual is None else residual.contiguous(memory_format=layout)
    size = x.shape[2] * x.shape[3]
    stats, link = passes.moments(x, _order(norm, gate))
    with torch.autocast(x.device.type, enabled=False):
        normal = None if norm is None else normalization(norm, stats, size)
        affine = Affine() if gate is None else ask(gate, _moments(stats, normal, size))
        scale, shift = _combine(affine, normal, x.shape[:2])
    return passes.integrate(x, link, None if normal is None else normal.centre, scale, shift, residual, relu)


def _is_row_major(x: Tensor) -> bool:
    return x.is_contiguous() or not x.is_contiguous(memory_format=torch.channels_last)


def _order(norm: nn.Module | None, gate: GateOnMoments | None) -> int:
    if uses_batch_statistics(norm) or (gate is not None and gate.needs_variance):
        return 2
    return 0 if gate is None else 1


def _moments(stats: Tensor, normal: Normalization | None, size: int) -> Moments:
    """Moments of norm(x)."""
    mean, variance = stats[0], stats[1] if len(stats) == 2 else None
    if normal is None:
        return Moments(mean, variance, size)
    mean = torch.addcmul(normal.shift, normal.scale, mean - normal.centre)
    return Moments(mean, None if variance is None else normal.scale.square() * variance, size)


def _combine(affine: Affine, normal: Normalization | None, shape: torch.Size) -> Affine:
    """Gate after norm as one affine map of ``x - centre``."""
    scale, shift = affine
    if normal is None:
        return affine
    a, _, b = normal
    if scale is None:
        return Affine(a.expand(shape), b.expand(shape) if shift is None else shift + b)
    return Affine(scale * a, scale * b if shift is None else torch.addcmul(shift, scale, b))
