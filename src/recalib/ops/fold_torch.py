"""The operators of `recalib.ops.fold` in plain PyTorch: any device and precision."""

import torch
from torch import Tensor


def normalize(
    stats: Tensor,
    mean: Tensor | None,
    variance: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    order: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Scale, centre and variance of a norm, and the moments of norm(x); see `recalib.ops.fold.normalize`."""
    if mean is None or variance is None:
        mean = stats[0].mean(0)
        offset = stats[0] - mean
        variance = torch.addcmul(stats[1], offset, offset).mean(0)
    else:
        mean, variance = mean.clone(), variance.clone()
        offset = stats[0] - mean if order else stats
    scale = (variance + eps).rsqrt_()
    scale = scale if weight is None else scale.mul_(weight)
    moments = torch.empty_like(stats[:order])
    if order > 0:
        torch.mul(offset, scale, out=moments[0])
        moments[0] += 0 if bias is None else bias
    if order == 2:
        torch.mul(stats[1], scale.square(), out=moments[1])
    return scale, mean, variance, moments


def normalize_backward(
    stats: Tensor, mean: Tensor, variance: Tensor, scale: Tensor, eps: float, given: bool, *gradients: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of stats and of (weight, bias, mean, variance), the latter two meaningful where they were given."""
    d_scale, d_mean, d_moments = gradients
    images = stats.shape[1]
    inverse = (variance + eps).rsqrt()
    offset = stats[0] - mean if len(stats) else stats
    d_bias = torch.zeros_like(mean)
    if len(d_moments) > 0:
        d_bias = d_moments[0].sum(0)
        d_scale = d_scale + (d_moments[0] * offset).sum(0)
    if len(d_moments) == 2:
        d_scale = d_scale + 2 * scale * (d_moments[1] * stats[1]).sum(0)
    d_mean = d_mean - scale * d_bias
    d_variance = d_scale * scale * inverse.square() * -0.5
    d_stats = torch.zeros_like(stats)
    if not given:
        torch.addcmul(d_mean / images, offset, d_variance, value=2 / images, out=d_stats[0])
        d_stats[1] = d_variance / images
    for total, gradient, factor in zip(d_stats, d_moments, (scale, scale.square()), strict=False):
        total.addcmul_(gradient, factor)
    return d_stats, torch.stack((d_scale * inverse, d_bias, d_mean, d_variance))


def combine(
    scale: Tensor, shift: Tensor, gate: Tensor | None, offset: Tensor | None, images: int
) -> tuple[Tensor, Tensor]:
    """Scale and shift (N, C) of gate after norm; see `recalib.ops.fold.combine`."""
    if gate is None:
        return scale.expand(images, -1).clone(), shift.expand(images, -1) + (0 if offset is None else offset)
    return scale * gate, shift * gate if offset is None else torch.addcmul(offset, shift, gate)


def combine_backward(
    scale: Tensor, shift: Tensor, gate: Tensor | None, d_scale: Tensor, d_shift: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of the norm's scale, centre and shift (3, C), and of the gate (N, C), empty without one."""
    d_gate = scale.new_empty(0) if gate is None else torch.addcmul(scale * d_scale, shift, d_shift)
    d_a, d_b = (d.sum(0) if gate is None else (d * gate).sum(0) for d in (d_scale, d_shift))
    return torch.stack((d_a, -scale * d_b, d_b)), d_gate
