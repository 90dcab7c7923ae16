"""Triton kernels of whole gates at inference: norm, gate and blend, from the moments of x to its scale and shift.

One launch a tail where operators take 3 to 15. Programs work on BC channels of one image; what a gate wants of other
channels (ECA's neighbours, GCT's norm, SE's layers) each program computes for itself, from (N, C)-sized tensors that
lie in the second-level cache.
"""

# ruff: noqa: ANN001, ANN202
# mypy: disallow-untyped-defs=False, check-untyped-defs=False
# (operands of kernels have Triton's types, which Python's annotations do not express)

from collections.abc import Callable, Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from recalib.errors import RecalibError

_OPTIONS = {"num_warps": 4, "enable_fp_fusion": True}


@triton.jit
def _place(C, BC: tl.constexpr):
    """Image and channels of this program."""
    blocks = tl.cdiv(C, BC)
    c = tl.program_id(0) % blocks * BC + tl.arange(0, BC)
    return tl.program_id(0) // blocks, c, c < C


@triton.jit
def _normed(stats, mean, variance, weight, bias, eps, n, c, mask, N, C, ORDER: tl.constexpr):
    """The norm's scale and shift at channels c, and the moments of norm(x) there in image n, 0 outside the mask."""
    ACC = stats.dtype.element_ty
    m = tl.load(stats + n * C + c, mask, 0.0)
    v = m
    if ORDER == 2:
        v = tl.load(stats + (N + n) * C + c, mask, 0.0)
    a = tl.zeros_like(m) + 1
    b = tl.zeros_like(m)
    if mean is not None:
        a /= tl.sqrt(tl.load(variance + c, mask, 1.0).to(ACC) + eps)
        if weight is not None:
            a *= tl.load(weight + c, mask, 1.0)
        if bias is not None:
            b += tl.load(bias + c, mask, 0.0)
        m = tl.where(mask, a * (m - tl.load(mean + c, mask, 0.0)) + b, 0.0)
        v *= a * a
    return a, b, m, v


@triton.jit
def _store(out, a, b, s, t, blend_weight, blend_bias, n, c, mask, N, C):
    """Gate after norm: ``s * (a (x - centre) + b) + t``."""
    if blend_weight is not None:
        s = s * tl.load(blend_weight + c, mask) + tl.load(blend_bias + c, mask)
    tl.store(out + n * C + c, s * a, mask)
    tl.store(out + (N + n) * C + c, s * b + t, mask)


@triton.jit
def _bias(
    stats, mean, variance, weight, bias, eps, factor, blend_weight, blend_bias, out, N, C, BC: tl.constexpr
):  # fmt: skip
    n, c, mask = _place(C, BC)
    a, b, m, _ = _normed(stats, mean, variance, weight, bias, eps, n, c, mask, N, C, 1)
    _store(out, a, b, 1.0, m * tl.load(factor + c, mask), None, None, n, c, mask, N, C)


@triton.jit
def _neighbours(
    stats, mean, variance, weight, bias, eps, taps, blend_weight, blend_bias, out, N, C, BC: tl.constexpr,
    K: tl.constexpr, STRIDE: tl.constexpr,
):  # fmt: skip
    n, c, mask = _place(C, BC)
    z = tl.zeros([BC], stats.dtype.element_ty)
    for tap in range(K):
        k = c + tap - K // 2
        _, _, m, _ = _normed(stats, mean, variance, weight, bias, eps, n, k, (k >= 0) & (k < C), N, C, 1)
        z += m * tl.load(taps + c * STRIDE + tap, mask, 0.0)
    a, b, _, _ = _normed(stats, mean, variance, weight, bias, eps, n, c, mask, N, C, 1)
    _store(out, a, b, tl.sigmoid(z), 0.0, blend_weight, blend_bias, n, c, mask, N, C)


@triton.jit
def _style(
    stats, mean, variance, weight, bias, eps, factors, z_mean, z_variance, z_weight, z_bias, blend_weight, blend_bias,
    out, N, C, P, root_eps, z_eps, BC: tl.constexpr,
):  # fmt: skip
    n, c, mask = _place(C, BC)
    ACC = stats.dtype.element_ty
    a, b, m, v = _normed(stats, mean, variance, weight, bias, eps, n, c, mask, N, C, 2)
    size = tl.zeros_like(v) + P
    std = tl.sqrt(v * (size / tl.maximum(size - 1, 1)) + root_eps)
    z = tl.load(factors + 2 * c, mask, 0.0) * m + tl.load(factors + 2 * c + 1, mask, 0.0) * std
    z = (z - tl.load(z_mean + c, mask, 0.0)) / tl.sqrt(tl.load(z_variance + c, mask, 1.0).to(ACC) + z_eps)
    if z_weight is not None:
        z = z * tl.load(z_weight + c, mask, 0.0) + tl.load(z_bias + c, mask, 0.0)
    _store(out, a, b, tl.sigmoid(z), 0.0, blend_weight, blend_bias, n, c, mask, N, C)


@triton.jit
def _context(
    stats, mean, variance, weight, bias, eps, alpha, gamma, beta, blend_weight, blend_bias, out, N, C, P, root_eps,
    BC: tl.constexpr,
):  # fmt: skip
    n, c, mask = _place(C, BC)
    total = tl.zeros([BC], stats.dtype.element_ty)
    for start in range(0, C, BC):
        k = start + tl.arange(0, BC)
        _, _, _, e = _embedded(stats, mean, variance, weight, bias, eps, alpha, n, k, k < C, N, C, P, root_eps)
        total += e * e
    norm = tl.sqrt(tl.sum(total, 0) / C + root_eps)
    a, b, _, e = _embedded(stats, mean, variance, weight, bias, eps, alpha, n, c, mask, N, C, P, root_eps)
    z = tl.load(beta + c, mask, 0.0) + e * (tl.load(gamma + c, mask, 0.0) / norm)
    _store(out, a, b, 2 * tl.sigmoid(2 * z), 0.0, blend_weight, blend_bias, n, c, mask, N, C)  # 1 + tanh(z)


@triton.jit
def _embedded(stats, mean, variance, weight, bias, eps, alpha, n, c, mask, N, C, P, root_eps):
    """GCT's global context embedding at channels c, behind the norm's scale and shift and the mean."""
    a, b, m, v = _normed(stats, mean, variance, weight, bias, eps, n, c, mask, N, C, 2)
    e = tl.load(alpha + c, mask, 0.0) * tl.sqrt((v + m * m) * P + root_eps)
    return a, b, m, tl.where(mask, e, 0.0)


@triton.jit
def _excitation(
    stats, mean, variance, weight, bias, eps, first, first_bias, second, second_bias, assign, blend_weight, blend_bias,
    out, N, C, H, BRANCHES: tl.constexpr, BB: tl.constexpr, BH: tl.constexpr, BK: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    n, c, mask = _place(C, BC)
    ACC = stats.dtype.element_ty
    branch = tl.arange(0, BB)
    share = tl.zeros([BB], ACC)
    if assign is not None:
        for start in range(0, C, BK):
            k = start + tl.arange(0, BK)
            _, _, m, _ = _normed(stats, mean, variance, weight, bias, eps, n, k, k < C, N, C, 1)
            share += _product(assign, branch, k, BRANCHES, C, m)
        share = tl.where(branch < BRANCHES, share, -float("inf"))
        share = tl.exp(share - tl.max(share, 0))
        share /= tl.sum(share, 0)
    z = tl.zeros([BC], ACC)
    if second_bias is not None and assign is None:
        z += tl.load(second_bias + c, mask, 0.0)
    elif second_bias is not None:
        rows = (branch[None, :] < BRANCHES) & mask[:, None]
        z += tl.sum(tl.load(second_bias + branch[None, :] * C + c[:, None], rows, 0.0) * share[None, :], 1)
    for row in range(0, H, BH):
        h = row + tl.arange(0, BH)
        y = tl.zeros([BH], ACC)
        if first_bias is not None:
            y += tl.load(first_bias + h, h < H, 0.0)
        for start in range(0, C, BK):
            k = start + tl.arange(0, BK)
            _, _, m, _ = _normed(stats, mean, variance, weight, bias, eps, n, k, k < C, N, C, 1)
            y += _product(first, h, k, H, C, m)
        y = tl.where(y <= 0, 0.0, y)  # NaN stays NaN
        if assign is not None:
            own = (h // (H // BRANCHES))[:, None] == branch[None, :]
            y *= tl.sum(tl.where(own, share[None, :], 0.0), 1)
        z += _product(second, c, h, C, H, tl.where(h < H, y, 0.0))
    a, b, _, _ = _normed(stats, mean, variance, weight, bias, eps, n, c, mask, N, C, 1)
    _store(out, a, b, tl.sigmoid(z), 0.0, blend_weight, blend_bias, n, c, mask, N, C)


@triton.jit
def _product(matrix, rows, columns, ROWS, COLUMNS, vector):
    """Some rows of a matrix times a vector, over some columns."""
    mask = (rows[:, None] < ROWS) & (columns[None, :] < COLUMNS)
    return tl.sum(tl.load(matrix + rows[:, None] * COLUMNS + columns[None, :], mask, 0.0) * vector[None, :], 1)


def launch(
    name: str,
    stats: Tensor,
    norm: Sequence[Tensor | None],
    eps: float,
    parameters: Sequence[Tensor | None],
    blend: Sequence[Tensor],
    numbers: Sequence[float],
) -> Tensor:
    """Run a kernel of this file.

    Args:
        name: ``"bias"`` (AB), ``"neighbours"`` (ECA), ``"style"`` (SRM), ``"context"`` (GCT) or ``"excitation"`` (SE,
            Multi-SE).
        stats: moments of x, shape (order, N, C).
        norm: running mean, running variance, weight, bias, each (C,), the last two possibly None; or nothing.
        eps: the norm's.
        parameters: the gate's, in the order in which its kernel names them.
        blend: weight and bias of an identity start, each (C,); or nothing.
        numbers: what the kernel's operands end in.

    Returns:
        Scale and shift of ``x - centre``, shape (2, N, C).
    """
    _, n, c = stats.shape
    out = stats.new_empty(2, n, c)
    block = min(128, triton.next_power_of_2(c))
    given = [None if t is None else t.contiguous() for t in parameters]
    none: list[Tensor | None] = [None] * 4
    operands = (stats, *(norm or none), eps, *given, *(blend or none[:2]), out, n, c, *numbers)
    constants = _CONSTANTS[name](*parameters) if name in _CONSTANTS else {}
    if n > 0:
        with torch.cuda.device_of(stats):
            _KERNELS[name][(n * triton.cdiv(c, block),)](*operands, BC=block, **constants, **_OPTIONS)
    return out


def _neighbours_of(taps: Any) -> dict[str, int]:
    """One kernel (1, 1, k) for all channels, or (C, 1, k)."""
    return {"K": taps.shape[2], "STRIDE": 0 if len(taps) == 1 else taps.shape[2]}


def _excitation_of(first: Any, _first: Any, second: Any, _second: Any, assign: Any) -> dict[str, int]:
    if first.shape != second.shape[::-1]:  # a kernel would read past their ends
        raise RecalibError(f"layers of shape {tuple(first.shape)} and {tuple(second.shape)} do not follow each other")
    branches, hidden = 1 if assign is None else len(assign), len(first)
    return {
        "H": hidden,
        "BRANCHES": branches,
        "BB": triton.next_power_of_2(branches),
        "BH": min(32, triton.next_power_of_2(hidden)),
        "BK": 128,
    }


_KERNELS: dict[str, Any] = {
    "bias": _bias,
    "neighbours": _neighbours,
    "style": _style,
    "context": _context,
    "excitation": _excitation,
}
_CONSTANTS: dict[str, Callable[..., dict[str, int]]] = {"neighbours": _neighbours_of, "excitation": _excitation_of}
