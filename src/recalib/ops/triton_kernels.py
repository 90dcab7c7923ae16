"""Triton kernels of the passes over the activation; `recalib.ops.passes_triton` launches them.

One kernel a pass serves both layouts: a program works on tiles of BC channels x BP positions of one image, and what
differs is which of the two is contiguous. Sizes come as multiples (``c_units * C_UNIT``), which shows the compiler how
rows are aligned. Sums are taken in float32 (float64 for double precision) and in a fixed order, without atomics.
"""

# ruff: noqa: ANN001, ANN201, D103
# mypy: disallow-untyped-defs=False, check-untyped-defs=False
# (operands have Triton's types, which Python's annotations do not express)

import triton
import triton.language as tl


@triton.jit
def program(C, SPLITS, BC: tl.constexpr):
    """Image, channels and part of the positions that this program works on; channels vary fastest."""
    pid = tl.program_id(0)
    blocks = tl.cdiv(C, BC)
    return pid // blocks // SPLITS, pid % blocks * BC + tl.arange(0, BC), pid // blocks % SPLITS


@triton.jit
def span(P, part, SPLITS: tl.constexpr, BP: tl.constexpr):
    """Whole tiles of positions, as evenly as they go."""
    tiles = tl.cdiv(tl.cdiv(P, BP), SPLITS)
    start = part * tiles * BP
    return start, tl.minimum(start + tiles * BP, P)


@triton.jit
def offsets(c, p, C, P, CHANNELS_LAST: tl.constexpr):
    if CHANNELS_LAST:
        return c[:, None] + p[None, :] * C
    return c[:, None] * P + p[None, :]


@triton.jit
def reduced(x, c, start, stop, C, P, CHANNELS_LAST: tl.constexpr, ACC: tl.constexpr, ORDER: tl.constexpr,
            BC: tl.constexpr, BP: tl.constexpr):  # fmt: skip
    """Mean and, for order 2, centred variance of one image x at channels c, over positions from start to stop."""
    pivot = tl.zeros([BC], ACC)
    if ORDER == 2:  # squares are summed around the mean of the first tile: a pivot among the values cancels little
        p = start + tl.arange(0, BP)
        mask = (c[:, None] < C) & (p[None, :] < stop)
        first = tl.load(x + offsets(c, p, C, P, CHANNELS_LAST), mask, 0.0).to(ACC)
        pivot = tl.sum(first, 1) / tl.maximum(tl.minimum(stop - start, BP), 1)
        pivot = tl.where(tl.abs(pivot) < float("inf"), pivot, 0.0)  # an infinite mean stays infinite, not NaN
    sums = tl.zeros([BC, BP], ACC)
    squares = tl.zeros([BC, BP], ACC)
    for tile in range(start, stop, BP):
        p = tile + tl.arange(0, BP)
        mask = (c[:, None] < C) & (p[None, :] < stop)
        v = tl.load(x + offsets(c, p, C, P, CHANNELS_LAST), mask, 0.0).to(ACC)
        v = tl.where(mask, v - pivot[:, None], 0.0)
        sums += v
        if ORDER == 2:
            squares += v * v
    count = tl.maximum(stop - start, 1).to(ACC)
    offset = tl.sum(sums, 1) / count
    variance = offset
    if ORDER == 2:
        variance = tl.sum(squares, 1) / count - offset * offset
        variance = tl.where(variance < 0, 0.0, variance)
    return pivot + offset, variance


@triton.jit
def moments(
    x, parts, N, c_units, p_units, C_UNIT: tl.constexpr, P_UNIT: tl.constexpr, CHANNELS_LAST: tl.constexpr,
    ORDER: tl.constexpr, SPLITS: tl.constexpr, BC: tl.constexpr, BP: tl.constexpr,
):  # fmt: skip
    C, P = c_units * C_UNIT, p_units * P_UNIT
    n, c, part = program(C, SPLITS, BC)
    start, stop = span(P, part, SPLITS, BP)
    x += n.to(tl.int64) * C * P
    mean, variance = reduced(x, c, start, stop, C, P, CHANNELS_LAST, parts.dtype.element_ty, ORDER, BC, BP)
    at = (part.to(tl.int64) * ORDER * N + n) * C + c
    tl.store(parts + at, mean, c < C)
    if ORDER == 2:
        tl.store(parts + at + N * C, variance, c < C)


@triton.jit
def combined(parts, at, mask, NC, P, ORDER: tl.constexpr, SPLITS: tl.constexpr, BP: tl.constexpr):
    """Moments of all positions from those of each part (Chan et al. 1979), as one tile without a loop.

    SPLITS is a power of two; `at` is the place in (N, C). The second moment is the first again where there is none.
    """
    if SPLITS == 1:
        mean = tl.load(parts + at, mask, 0.0)
        variance = mean
        if ORDER == 2:
            variance = tl.load(parts + NC + at, mask, 0.0)
    else:
        part = tl.arange(0, SPLITS)
        start, stop = span(P, part, SPLITS, BP)
        share = (tl.maximum(stop - start, 0).to(parts.dtype.element_ty) / P)[:, None]
        there = (share > 0) & mask[None, :]
        places = part[:, None] * (ORDER * NC) + at[None, :]
        means = tl.load(parts + places, there, 0.0)
        mean = tl.sum(share * means, 0)
        variance = mean
        if ORDER == 2:
            d = tl.where(there, means - mean[None, :], 0.0)
            variance = tl.sum(share * (tl.load(parts + NC + places, there, 0.0) + d * d), 0)
    return mean, variance


@triton.jit
def combine(parts, out, NC, P, SPLITS: tl.constexpr, BP: tl.constexpr, ORDER: tl.constexpr, B: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B)
    mean, variance = combined(parts, at, at < NC, NC, P, ORDER, SPLITS, BP)
    tl.store(out + at, mean, at < NC)
    if ORDER == 2:
        tl.store(out + NC + at, variance, at < NC)


@triton.jit
def integrate(
    x, centre, scale, shift, residual, y, c_units, p_units, C_UNIT: tl.constexpr, P_UNIT: tl.constexpr,
    CHANNELS_LAST: tl.constexpr, ACC: tl.constexpr, RELU: tl.constexpr, SPLITS, BC: tl.constexpr, BP: tl.constexpr,
):  # fmt: skip
    C, P = c_units * C_UNIT, p_units * P_UNIT
    n, c, part = program(C, SPLITS, BC)
    p = part * BP + tl.arange(0, BP)
    mask = (c[:, None] < C) & (p[None, :] < P)
    base = n.to(tl.int64) * C * P
    at = offsets(c, p, C, P, CHANNELS_LAST)
    nc = n.to(tl.int64) * C + c
    v = tl.load(x + base + at, mask).to(ACC)
    if centre is not None:
        v -= tl.load(centre + c, c < C)[:, None]
    if scale is not None:
        v *= tl.load(scale + nc, c < C)[:, None]
    if shift is not None:
        v += tl.load(shift + nc, c < C)[:, None]
    if residual is not None:
        v += tl.load(residual + base + at, mask).to(ACC)
    if RELU:
        v = tl.where(v <= 0, 0.0, v)  # NaN stays NaN
    tl.store(y + base + at, v.to(y.dtype.element_ty), mask)


@triton.jit
def mask_and_reduce(
    dy, y, x, centre, dm, out, N, c_units, p_units, C_UNIT: tl.constexpr, P_UNIT: tl.constexpr,
    CHANNELS_LAST: tl.constexpr, ORDER: tl.constexpr, SPLITS: tl.constexpr, BC: tl.constexpr, BP: tl.constexpr,
):  # fmt: skip
    C, P = c_units * C_UNIT, p_units * P_UNIT
    n, c, part = program(C, SPLITS, BC)
    start, stop = span(P, part, SPLITS, BP)
    base = n.to(tl.int64) * C * P
    dy += base
    if y is not None:
        y += base
        dm += base
    if ORDER == 2:
        x += base
    ACC = out.dtype.element_ty
    sums = tl.zeros([BC, BP], ACC)
    products = tl.zeros([BC, BP], ACC)
    middle = tl.zeros([BC], ACC)
    if centre is not None:
        middle = tl.load(centre + c, c < C)
    for tile in range(start, stop, BP):
        p = tile + tl.arange(0, BP)
        mask = (c[:, None] < C) & (p[None, :] < stop)
        at = offsets(c, p, C, P, CHANNELS_LAST)
        g = tl.load(dy + at, mask, 0.0)
        if y is not None:
            g = tl.where(tl.load(y + at, mask, 0.0) <= 0, 0.0, g)  # as torch: the gradient passes where y is NaN
            tl.store(dm + at, g, mask)
        if ORDER > 0:
            g = g.to(ACC)
            sums += g
        if ORDER == 2:
            v = tl.load(x + at, mask, 0.0).to(ACC) - middle[:, None]
            products += tl.where(mask, v * g, 0.0)
    at = (part.to(tl.int64) * ORDER * N + n) * C + c
    if ORDER > 0:
        tl.store(out + at, tl.sum(sums, 1), c < C)
    if ORDER == 2:
        tl.store(out + at + N * C, tl.sum(products, 1), c < C)


@triton.jit
def differentiate(
    dm, scale, x, stats, d_stats, dx, N, c_units, p_units, C_UNIT: tl.constexpr, P_UNIT: tl.constexpr,
    CHANNELS_LAST: tl.constexpr, ACC: tl.constexpr, ORDER: tl.constexpr, SPLITS, BC: tl.constexpr, BP: tl.constexpr,
):  # fmt: skip
    C, P = c_units * C_UNIT, p_units * P_UNIT
    n, c, part = program(C, SPLITS, BC)
    p = part * BP + tl.arange(0, BP)
    mask = (c[:, None] < C) & (p[None, :] < P)
    base = n.to(tl.int64) * C * P
    at = offsets(c, p, C, P, CHANNELS_LAST)
    nc = n.to(tl.int64) * C + c
    v = tl.load(dm + base + at, mask).to(ACC) * tl.load(scale + nc, c < C)[:, None]
    if ORDER > 0:
        v += (tl.load(d_stats + nc, c < C) / P)[:, None]
    if ORDER == 2:
        slope = tl.load(d_stats + N * C + nc, c < C) * 2 / P
        v += slope[:, None] * (tl.load(x + base + at, mask).to(ACC) - tl.load(stats + nc, c < C)[:, None])
    tl.store(dx + base + at, v.to(dx.dtype.element_ty), mask)
