"""The tail of a residual block in two passes over the activation, forward and backward."""

import torch
from torch import Tensor, nn

from recalib.ops import passes
from recalib.ops.contract import Affine, GateOnMoments, Moments, ask
from recalib.ops.fold import combine
from recalib.ops.norm import normalized, uses_batch_statistics


def tail(x: Tensor, norm: nn.Module | None, gate: GateOnMoments | None, residual: Tensor | None, relu: bool) -> Tensor:
    """``act(gate(norm(x)) + residual)``, where the norm is affine and the gate wants moments only.

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
    order = 0 if gate is None else 1 + gate.needs_variance
    stats, link = passes.moments(x, 2 if uses_batch_statistics(norm) else order)
    with torch.autocast(x.device.type, enabled=False):
        if norm is None:
            scale, shift = _answer(gate, stats, size)
            return passes.integrate(x, link, None, scale, shift, residual, relu)
        a, centre, b, moments = normalized(norm, stats, size, order)
        scale, shift = combine(a, centre, b, *_answer(gate, moments, size), len(x))
    return passes.integrate(x, link, centre.detach(), scale, shift, residual, relu)


def _is_row_major(x: Tensor) -> bool:
    return x.is_contiguous() or not x.is_contiguous(memory_format=torch.channels_last)


def _answer(gate: GateOnMoments | None, moments: Tensor, size: int) -> Affine:
    if gate is None:
        return Affine()
    mean, *variance = moments.unbind(0)
    return ask(gate, Moments(mean, variance[0] if gate.needs_variance else None, size))
