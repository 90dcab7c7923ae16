"""Operators between the passes and the gate, (N, C)-sized: four kernels where autograd takes forty.

    normalize    moments of x, the norm's parameters  ->  norm(x) = scale * (x - centre) + shift, and its moments
    combine      that, and the gate's scale and shift ->  gate(norm(x)) = scale' * (x - centre) + shift'

Each is one kernel on a GPU, forward and backward, and a few plain operators elsewhere.
"""

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from recalib.ops import fold_torch, passes


def normalize(
    stats: Tensor,
    given: tuple[Tensor, Tensor] | None,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    order: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A batch norm as an affine map per channel, and what it makes of the moments.

    With ``norm(x) = a (x - c) + b`` the moments of norm(x) are ``a (m - c) + b`` and ``a^2 v``. So what a gate wants to
    know costs nothing beyond what the norm's own statistics cost.

    Args:
        stats: moments of x, shape (at least order, N, C); (2, N, C) where no statistics are given.
        given: mean and variance of the norm, shape (C,); None for those of the batch.
        weight: of the norm, shape (C,); None for 1.
        bias: of the norm, shape (C,); None for 0.
        eps: of the norm.
        order: how many moments of norm(x) are wanted: 0, 1 or 2.

    Returns:
        The norm's scale a and centre c, the (biased) variance, all of shape (C,), and the moments of norm(x), shape
        (order, N, C). The variance has no gradient.
    """
    scale, centre, variance, moments = _normalize(stats, *(given or (None, None)), weight, bias, eps, order)
    return scale, centre, variance.detach(), moments


def combine(
    scale: Tensor, centre: Tensor, shift: Tensor, gate: Tensor | None, offset: Tensor | None, images: int
) -> tuple[Tensor, Tensor]:
    """Gate after norm: ``gate * (scale * (x - centre) + shift) + offset`` as scale and shift of ``x - k``.

    k is the centre's value: it has no gradient where the map is integrated; the shift, which is k's only partner here,
    carries the centre's gradient.

    Args:
        scale: the norm's, shape (C,).
        centre: the norm's, shape (C,).
        shift: the norm's, shape (C,).
        gate: the gate's scale, shape (N, C); None for 1.
        offset: the gate's shift, shape (N, C); None for 0.
        images: N.
    """
    return _combine(scale, centre, shift, gate, offset, images)


@torch.library.custom_op("recalib::normalize", mutates_args=())
def _normalize(
    stats: Tensor,
    mean: Tensor | None,
    variance: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    order: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return _backend(stats).normalize(stats, mean, variance, weight, bias, eps, order)


@torch.library.custom_op("recalib::normalize_backward", mutates_args=())
def _normalize_backward(
    stats: Tensor,
    mean: Tensor,
    variance: Tensor,
    scale: Tensor,
    eps: float,
    given: bool,
    d_scale: Tensor,
    d_mean: Tensor,
    d_moments: Tensor,
) -> tuple[Tensor, Tensor]:
    """Gradients of stats and of (weight, bias, mean, variance), shape (4, C)."""
    return _backend(stats).normalize_backward(stats, mean, variance, scale, eps, given, d_scale, d_mean, d_moments)


@torch.library.custom_op("recalib::combine", mutates_args=())
def _combine(
    scale: Tensor, centre: Tensor, shift: Tensor, gate: Tensor | None, offset: Tensor | None, images: int
) -> tuple[Tensor, Tensor]:
    return _backend(scale).combine(scale, shift, gate, offset, images)


@torch.library.custom_op("recalib::combine_backward", mutates_args=())
def _combine_backward(
    scale: Tensor, shift: Tensor, gate: Tensor | None, d_scale: Tensor, d_shift: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of the norm's scale, centre and shift (3, C), and of the gate (N, C), empty without one."""
    return _backend(scale).combine_backward(scale, shift, gate, d_scale, d_shift)


def _backend(t: Tensor) -> ModuleType:
    if not passes.has_kernels(t):
        return fold_torch
    from recalib.ops import fold_triton

    return fold_triton


@_normalize.register_fake
def _(stats: Tensor, mean: Any, variance: Any, weight: Any, bias: Any, eps: float, order: int) -> tuple[Tensor, ...]:
    return *(stats.new_empty(stats.shape[2]) for _ in range(3)), torch.empty_like(stats[:order])


@_normalize_backward.register_fake
def _(stats: Tensor, mean: Tensor, *_: Any) -> tuple[Tensor, ...]:
    return torch.empty_like(stats), mean.new_empty(4, len(mean))


@_combine.register_fake
def _(scale: Tensor, centre: Any, shift: Any, gate: Any, offset: Any, images: int) -> tuple[Tensor, Tensor]:
    return scale.new_empty(images, len(scale)), scale.new_empty(images, len(scale))


@_combine_backward.register_fake
def _(scale: Tensor, shift: Tensor, gate: Tensor | None, *_: Any) -> tuple[Tensor, Tensor]:
    return scale.new_empty(3, len(scale)), scale.new_empty(0) if gate is None else torch.empty_like(gate)


def _normalize_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    stats, given, _, weight, bias, ctx.eps, _ = inputs
    ctx.present = [t is not None for t in (given, given, weight, bias)]
    scale, mean, variance, _ = output
    ctx.save_for_backward(stats, mean, variance, scale)


def _on_normalize(ctx: Any, d_scale: Tensor, d_mean: Tensor, _: Any, d_moments: Tensor) -> tuple[Tensor | None, ...]:
    stats, mean, variance, scale = ctx.saved_tensors
    given = ctx.present[0]
    d_stats, rest = _normalize_backward(stats, mean, variance, scale, ctx.eps, given, d_scale, d_mean, d_moments)
    weight, bias, mean, variance = rest.unbind(0)
    rest = (d if is_there else None for d, is_there in zip((mean, variance, weight, bias), ctx.present, strict=True))
    return d_stats, *rest, None, None


def _combine_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    scale, _, shift, gate, offset, _ = inputs
    ctx.offset = offset is not None
    ctx.save_for_backward(scale, shift, gate)


def _on_combine(ctx: Any, d_scale: Tensor, d_shift: Tensor) -> tuple[Tensor | None, ...]:
    scale, shift, gate = ctx.saved_tensors
    d_norm, d_gate = _combine_backward(scale, shift, gate, d_scale, d_shift)
    return *d_norm.unbind(0), None if gate is None else d_gate, d_shift if ctx.offset else None, None


_normalize.register_autograd(_on_normalize, setup_context=_normalize_context)
_combine.register_autograd(_on_combine, setup_context=_combine_context)
