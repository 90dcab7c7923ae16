"""The operators of `recalib.ops.fold` as Triton kernels: a program owns a few channels and goes through the images."""

# ruff: noqa: ANN001, ANN202
# mypy: disallow-untyped-defs=False, check-untyped-defs=False
# (operands of kernels have Triton's types, which Python's annotations do not express)

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

_BC = 16  # channels a program: 64 bytes of float32
_OPTIONS = {"num_warps": 4, "enable_fp_fusion": True}


@triton.jit
def _normalize(
    stats, given_mean, given_variance, weight, bias, eps, scale, mean, variance, moments, N, C,
    ORDER: tl.constexpr, BN: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    c = tl.program_id(0) * BC + tl.arange(0, BC)
    ACC = scale.dtype.element_ty
    if given_mean is not None:
        mu = tl.load(given_mean + c, c < C)
        var = tl.load(given_variance + c, c < C)
    else:
        total = tl.zeros([BN, BC], ACC)
        for start in range(0, N, BN):
            at, mask = _rows(start, c, N, C, BN)
            total += tl.load(stats + at, mask, 0.0)
        mu = tl.sum(total, 0) / N
        total = tl.zeros([BN, BC], ACC)
        for start in range(0, N, BN):
            at, mask = _rows(start, c, N, C, BN)
            d = tl.load(stats + at, mask, 0.0) - mu[None, :]
            total += tl.where(mask, d * d, 0.0) + tl.load(stats + N * C + at, mask, 0.0)
        var = tl.sum(total, 0) / N
    a = 1 / tl.sqrt(var + eps)
    if weight is not None:
        a *= tl.load(weight + c, c < C)
    tl.store(scale + c, a, c < C)
    tl.store(mean + c, mu, c < C)
    tl.store(variance + c, var, c < C)
    b = tl.zeros([BC], ACC)
    if bias is not None:
        b += tl.load(bias + c, c < C)
    if ORDER > 0:
        for start in range(0, N, BN):
            at, mask = _rows(start, c, N, C, BN)
            tl.store(moments + at, (tl.load(stats + at, mask) - mu[None, :]) * a[None, :] + b[None, :], mask)
            if ORDER == 2:
                tl.store(moments + N * C + at, tl.load(stats + N * C + at, mask) * (a * a)[None, :], mask)


@triton.jit
def _normalize_backward(
    stats, mean, variance, scale, eps, d_scale, d_mean, d_moments, d_stats, d_rest, N, C,
    GIVEN: tl.constexpr, ROWS: tl.constexpr, ORDER: tl.constexpr, BN: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    c = tl.program_id(0) * BC + tl.arange(0, BC)
    ACC = scale.dtype.element_ty
    mu = tl.load(mean + c, c < C)
    a = tl.load(scale + c, c < C)
    first = tl.zeros([BN, BC], ACC)
    second = tl.zeros([BN, BC], ACC)
    if ORDER > 0:
        for start in range(0, N, BN):
            at, mask = _rows(start, c, N, C, BN)
            g = tl.load(d_moments + at, mask, 0.0)
            first += g
            second += tl.where(mask, g * (tl.load(stats + at, mask, 0.0) - mu[None, :]), 0.0)
            if ORDER == 2:
                h = tl.load(d_moments + N * C + at, mask, 0.0)
                second += h * tl.load(stats + N * C + at, mask, 0.0) * (2 * a)[None, :]
    d_b = tl.sum(first, 0)
    d_a = tl.load(d_scale + c, c < C) + tl.sum(second, 0)
    inverse = 1 / tl.sqrt(tl.load(variance + c, c < C) + eps)
    d_mu = tl.load(d_mean + c, c < C) - a * d_b
    d_var = d_a * a * inverse * inverse / -2
    tl.store(d_rest + c, d_a * inverse, c < C)
    tl.store(d_rest + C + c, d_b, c < C)
    tl.store(d_rest + 2 * C + c, d_mu, c < C)
    tl.store(d_rest + 3 * C + c, d_var, c < C)
    for start in range(0, N, BN):
        at, mask = _rows(start, c, N, C, BN)
        d_m = tl.zeros([BN, BC], ACC)
        d_v = tl.zeros([BN, BC], ACC)
        if not GIVEN:
            d_m += (d_mu[None, :] + (2 * d_var)[None, :] * (tl.load(stats + at, mask) - mu[None, :])) / N
            d_v += d_var[None, :] / N
        if ORDER > 0:
            d_m += a[None, :] * tl.load(d_moments + at, mask)
        if ORDER == 2:
            d_v += (a * a)[None, :] * tl.load(d_moments + N * C + at, mask)
        if ROWS > 0:
            tl.store(d_stats + at, d_m, mask)
        if ROWS == 2:
            tl.store(d_stats + N * C + at, d_v, mask)


@triton.jit
def _combine(scale, shift, gate, offset, out_scale, out_shift, N, C, BN: tl.constexpr, BC: tl.constexpr):
    c = tl.program_id(0) * BC + tl.arange(0, BC)
    at, mask = _rows(tl.program_id(1) * BN, c, N, C, BN)
    s = tl.zeros([BN, BC], scale.dtype.element_ty) + 1
    if gate is not None:
        s = tl.load(gate + at, mask)
    t = tl.load(shift + c, c < C)[None, :] * s
    if offset is not None:
        t += tl.load(offset + at, mask)
    tl.store(out_scale + at, tl.load(scale + c, c < C)[None, :] * s, mask)
    tl.store(out_shift + at, t, mask)


@triton.jit
def _combine_backward(
    scale, shift, gate, d_scale, d_shift, d_norm, d_gate, N, C, BN: tl.constexpr, BC: tl.constexpr
):  # fmt: skip
    c = tl.program_id(0) * BC + tl.arange(0, BC)
    a = tl.load(scale + c, c < C)
    b = tl.load(shift + c, c < C)
    first = tl.zeros([BN, BC], scale.dtype.element_ty)
    second = tl.zeros([BN, BC], scale.dtype.element_ty)
    for start in range(0, N, BN):
        at, mask = _rows(start, c, N, C, BN)
        g = tl.load(d_scale + at, mask, 0.0)
        h = tl.load(d_shift + at, mask, 0.0)
        if gate is not None:
            tl.store(d_gate + at, a[None, :] * g + b[None, :] * h, mask)
            s = tl.load(gate + at, mask, 0.0)
            g *= s
            h *= s
        first += g
        second += h
    d_b = tl.sum(second, 0)
    tl.store(d_norm + c, tl.sum(first, 0), c < C)
    tl.store(d_norm + C + c, -a * d_b, c < C)
    tl.store(d_norm + 2 * C + c, d_b, c < C)


@triton.jit
def _rows(start, c, N, C, BN: tl.constexpr):
    """Offsets and mask of BN images from `start` on."""
    n = start + tl.arange(0, BN)
    return n[:, None] * C + c[None, :], (n[:, None] < N) & (c[None, :] < C)


def normalize(
    stats: Tensor,
    mean: Tensor | None,
    variance: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    order: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """See `recalib.ops.fold.normalize`."""
    scale, centre, used = (stats.new_empty(stats.shape[2]) for _ in range(3))
    moments = torch.empty_like(stats[:order])
    operands = (stats, mean, variance, weight, bias, eps, scale, centre, used, moments)
    _launch(_normalize, stats.shape[1:], *operands, ORDER=order)
    return scale, centre, used, moments


def normalize_backward(
    stats: Tensor, mean: Tensor, variance: Tensor, scale: Tensor, eps: float, given: bool, *gradients: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of stats and of (weight, bias, mean, variance); see `recalib.ops.fold_torch`."""
    d_scale, d_mean, d_moments = (g.contiguous() for g in gradients)
    out = torch.empty_like(stats), mean.new_empty(4, len(mean))
    operands = (stats, mean, variance, scale, eps, d_scale, d_mean, d_moments, *out)
    _launch(_normalize_backward, stats.shape[1:], *operands, GIVEN=given, ROWS=len(stats), ORDER=len(d_moments))
    return out


def combine(
    scale: Tensor, shift: Tensor, gate: Tensor | None, offset: Tensor | None, images: int
) -> tuple[Tensor, Tensor]:
    """See `recalib.ops.fold.combine`."""
    out = scale.new_empty(images, len(scale)), scale.new_empty(images, len(scale))
    gate, offset = (None if t is None else t.contiguous() for t in (gate, offset))
    _launch(_combine, out[0].shape, scale, shift, gate, offset, *out, by_rows=True)
    return out


def combine_backward(
    scale: Tensor, shift: Tensor, gate: Tensor | None, d_scale: Tensor, d_shift: Tensor
) -> tuple[Tensor, Tensor]:
    """See `recalib.ops.fold`."""
    d_norm = scale.new_empty(3, len(scale))
    d_gate = scale.new_empty(0 if gate is None else gate.shape)
    operands = (scale, shift, None if gate is None else gate.contiguous(), d_scale.contiguous(), d_shift.contiguous())
    _launch(_combine_backward, d_scale.shape, *operands, d_norm, d_gate)
    return d_norm, d_gate


def _launch(kernel: Any, shape: torch.Size, *operands: Any, by_rows: bool = False, **constants: Any) -> None:
    """Run a kernel on the channels of (N, C) tensors; `by_rows` on blocks of images of their own, too."""
    n, c = shape
    bn = min(128, triton.next_power_of_2(max(n, 1)))
    grid = (triton.cdiv(c, _BC), triton.cdiv(n, bn)) if by_rows else (triton.cdiv(c, _BC),)
    with torch.cuda.device_of(operands[0]):
        kernel[grid](*operands, n, c, BN=bn, BC=_BC, **constants, **_OPTIONS)
