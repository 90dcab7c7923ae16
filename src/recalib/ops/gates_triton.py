"""Triton kernels of whole tails at inference: what stands between the moments of x and the block's output.

    moments            reads x                                  (`recalib.ops.triton_kernels`)
    hidden             the first layers of a gate that has some, split over its rows
    tail               the gate of its own channels, then the last pass over x
    gate               the gate alone, where a tail has so many programs that each computing it would cost more
    whole              all of it for a gate that looks at no other channel, on small maps: one launch

A gate is a function below: from the moments of norm(x) at some channels to the scale and shift there. It may look at
other channels (ECA's neighbours, GCT's norm, SE's hidden layer): each program computes for itself what it needs, from
(N, C)-sized tensors that lie in the second-level cache. So there are no counters, no atomics and no order between
programs of a launch, results are the same bits every time, and a CUDA graph can record it.
"""

# ruff: noqa: ANN001, ANN201, ANN202, D103
# mypy: disallow-untyped-defs=False, check-untyped-defs=False
# (operands of kernels have Triton's types, which Python's annotations do not express)

import triton
import triton.language as tl

from recalib.ops.triton_kernels import combined, offsets, program, reduced


@triton.jit
def _normed(m, v, norm, eps, c, mask):
    """The norm's scale and shift at channels c, and the moments of norm(x) from those of x; 0 outside the mask."""
    mean, variance, weight, bias = norm
    a = tl.zeros_like(m) + 1
    b = tl.zeros_like(m)
    if variance is not None:
        a /= tl.sqrt(tl.load(variance + c, mask, 1.0).to(m.dtype) + eps)
    if weight is not None:
        a *= tl.load(weight + c, mask, 1.0)
    if bias is not None:
        b += tl.load(bias + c, mask, 0.0)
    if mean is not None:
        m -= tl.load(mean + c, mask, 0.0)
    return a, b, tl.where(mask, a * m + b, 0.0), v * a * a


@triton.jit
def _pooled(parts, norm, eps, n, c, mask, N, C, P, ORDER: tl.constexpr, SPLITS: tl.constexpr, BP: tl.constexpr):
    """The same from the parts of the moments, in image n."""
    m, v = combined(parts, n * C + c, mask, N * C, P, ORDER, SPLITS, BP)
    return _normed(m, v, norm, eps, c, mask)


@triton.jit
def nothing(
    m, v, parts, hidden, norm, eps, given, numbers, n, c, mask, N, C, P,
    SHAPE: tl.constexpr, ORDER: tl.constexpr, SPLITS: tl.constexpr, BP: tl.constexpr,
):  # fmt: skip
    """No gate."""
    return tl.zeros_like(m) + 1, tl.zeros_like(m)


@triton.jit
def bias(
    m, v, parts, hidden, norm, eps, given, numbers, n, c, mask, N, C, P,
    SHAPE: tl.constexpr, ORDER: tl.constexpr, SPLITS: tl.constexpr, BP: tl.constexpr,
):  # fmt: skip
    """AB; given: a factor a channel."""
    return tl.zeros_like(m) + 1, m * tl.load(given[0] + c, mask, 0.0)


@triton.jit
def style(
    m, v, parts, hidden, norm, eps, given, numbers, n, c, mask, N, C, P,
    SHAPE: tl.constexpr, ORDER: tl.constexpr, SPLITS: tl.constexpr, BP: tl.constexpr,
):  # fmt: skip
    """SRM; given: factors (C, 2) and its own norm's mean, variance, weight and bias; numbers: H*W and both epsilons."""
    factors, mean, variance, weight, shift = given
    size = tl.zeros_like(v) + P
    std = tl.sqrt(v * (size / tl.maximum(size - 1, 1)) + numbers[1])
    z = tl.load(factors + 2 * c, mask, 0.0) * m + tl.load(factors + 2 * c + 1, mask, 0.0) * std
    z = (z - tl.load(mean + c, mask, 0.0)) / tl.sqrt(tl.load(variance + c, mask, 1.0).to(m.dtype) + numbers[2])
    if weight is not None:
        z = z * tl.load(weight + c, mask, 0.0) + tl.load(shift + c, mask, 0.0)
    return tl.sigmoid(z), tl.zeros_like(m)


@triton.jit
def neighbours(
    m, v, parts, hidden, norm, eps, given, numbers, n, c, mask, N, C, P,
    SHAPE: tl.constexpr, ORDER: tl.constexpr, SPLITS: tl.constexpr, BP: tl.constexpr,
):  # fmt: skip
    """ECA; given: its taps; shape: how many, and how far those of the next channel are."""
    K: tl.constexpr = SHAPE[0]
    z = tl.zeros_like(m)
    for tap in tl.static_range(K):
        k = c + tap - K // 2
        _, _, other, _ = _pooled(parts, norm, eps, n, k, (k >= 0) & (k < C), N, C, P, ORDER, SPLITS, BP)
        z += other * tl.load(given[0] + c * SHAPE[1] + tap, mask, 0.0)
    return tl.sigmoid(z), tl.zeros_like(m)


@triton.jit
def context(
    m, v, parts, hidden, norm, eps, given, numbers, n, c, mask, N, C, P,
    SHAPE: tl.constexpr, ORDER: tl.constexpr, SPLITS: tl.constexpr, BP: tl.constexpr,
):  # fmt: skip
    """GCT; given: alpha, gamma, beta; numbers: H*W and epsilon; shape: channels that are read at once."""
    alpha, gamma, beta = given
    BK: tl.constexpr = SHAPE[0]
    total = tl.zeros([BK], m.dtype)
    for start in range(0, C, BK):
        k = start + tl.arange(0, BK)
        _, _, mean, variance = _pooled(parts, norm, eps, n, k, k < C, N, C, P, ORDER, SPLITS, BP)
        e = _embedded(mean, variance, alpha, k, k < C, P, numbers[1])
        total += e * e
    size = tl.sqrt(tl.sum(total, 0) / C + numbers[1])
    e = _embedded(m, v, alpha, c, mask, P, numbers[1])
    z = tl.load(beta + c, mask, 0.0) + e * (tl.load(gamma + c, mask, 0.0) / size)
    return 2 * tl.sigmoid(2 * z), tl.zeros_like(m)  # 1 + tanh(z)


@triton.jit
def _embedded(m, v, alpha, c, mask, P, eps):
    """GCT's global context embedding at channels c."""
    e = tl.load(alpha + c, mask, 0.0) * tl.sqrt((v + m * m) * P + eps)
    return tl.where(mask, e, 0.0)


@triton.jit
def excitation(
    m, v, parts, hidden, norm, eps, given, numbers, n, c, mask, N, C, P,
    SHAPE: tl.constexpr, ORDER: tl.constexpr, SPLITS: tl.constexpr, BP: tl.constexpr,
):  # fmt: skip
    """SE and Multi-SE behind their hidden layer.

    Given: the second layer's weight and bias; shape: hidden units, how many are read at once, branches, a power of two
    that holds these.
    """
    H: tl.constexpr = SHAPE[0]
    BH: tl.constexpr = SHAPE[1]
    BRANCHES: tl.constexpr = SHAPE[2]
    branch = tl.arange(0, SHAPE[3])
    hidden += n * (H + BRANCHES)
    z = tl.zeros_like(m)
    if BRANCHES > 0:
        share = tl.load(hidden + H + branch, branch < BRANCHES, -float("inf"))
        share = tl.exp(share - tl.max(share, 0))
        share /= tl.sum(share, 0)
    if given[1] is not None:
        if BRANCHES > 0:
            rows = (branch[None, :] < BRANCHES) & mask[:, None]
            z += tl.sum(tl.load(given[1] + branch[None, :] * C + c[:, None], rows, 0.0) * share[None, :], 1)
        else:
            z += tl.load(given[1] + c, mask, 0.0)
    for row in range(0, H, BH):
        h = row + tl.arange(0, BH)
        y = tl.load(hidden + h, h < H, 0.0)
        if BRANCHES > 0:
            own = (h // (H // BRANCHES))[:, None] == branch[None, :]
            y *= tl.sum(tl.where(own, share[None, :], 0.0), 1)
        z += _product(given[0], c, h, C, H, y)
    return tl.sigmoid(z), tl.zeros_like(m)


@triton.jit
def _product(matrix, rows, columns, ROWS, COLUMNS, vector):
    """Some rows of a matrix times a vector, over some columns."""
    mask = ((rows >= 0) & (rows < ROWS))[:, None] & (columns[None, :] < COLUMNS)
    return tl.sum(tl.load(matrix + rows[:, None] * COLUMNS + columns[None, :], mask, 0.0) * vector[None, :], 1)


@triton.jit
def hidden(
    parts, hidden, first, first_bias, assign, norm, eps, N, C, P, H: tl.constexpr, BRANCHES: tl.constexpr,
    ORDER: tl.constexpr, SPLITS: tl.constexpr, BP: tl.constexpr, BH: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """Some hidden units of SE or Multi-SE of one image, followed by what the branches are assigned by."""
    blocks = tl.cdiv(H + BRANCHES, BH)
    n = tl.program_id(0) // blocks
    h = tl.program_id(0) % blocks * BH + tl.arange(0, BH)
    y = tl.zeros([BH], hidden.dtype.element_ty)
    for start in range(0, C, BK):
        k = start + tl.arange(0, BK)
        _, _, m, _ = _pooled(parts, norm, eps, n, k, k < C, N, C, P, ORDER, SPLITS, BP)
        y += _product(first, h, k, H, C, m)
        if BRANCHES > 0:
            y += _product(assign, h - H, k, BRANCHES, C, m)
    if first_bias is not None:
        y += tl.load(first_bias + h, h < H, 0.0)
    y = tl.where((h < H) & (y <= 0), 0.0, y)  # NaN stays NaN
    tl.store(hidden + n * (H + BRANCHES) + h, y, h < H + BRANCHES)


@triton.jit
def _affine(s, t, a, b, blend, c, mask):
    """Gate after norm, ``s * (a (x - centre) + b) + t``, as scale and shift of ``x - centre``."""
    if blend[0] is not None:
        s = s * tl.load(blend[0] + c, mask, 0.0) + tl.load(blend[1] + c, mask, 0.0)
    return s * a, s * b + t


@triton.jit
def gate(
    parts, hidden, scale, shift, norm, eps, given, numbers, blend, N, C, P, GATE: tl.constexpr, SHAPE: tl.constexpr,
    ORDER: tl.constexpr, SPLITS: tl.constexpr, BP: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    n, c, _ = program(C, 1, BC)
    mask = c < C
    a, b, m, v = _pooled(parts, norm, eps, n, c, mask, N, C, P, ORDER, SPLITS, BP)
    s, t = GATE(m, v, parts, hidden, norm, eps, given, numbers, n, c, mask, N, C, P, SHAPE, ORDER, SPLITS, BP)
    s, t = _affine(s, t, a, b, blend, c, mask)
    tl.store(scale + n * C + c, s, mask)
    tl.store(shift + n * C + c, t, mask)


@triton.jit
def tail(
    x, residual, y, parts, hidden, norm, eps, given, numbers, blend, N, c_units, p_units,
    C_UNIT: tl.constexpr, P_UNIT: tl.constexpr, CHANNELS_LAST: tl.constexpr, GATE: tl.constexpr, SHAPE: tl.constexpr,
    ORDER: tl.constexpr, SPLITS: tl.constexpr, TILES, RELU: tl.constexpr, ACC: tl.constexpr, BC: tl.constexpr,
    BP: tl.constexpr,
):  # fmt: skip
    C, P = c_units * C_UNIT, p_units * P_UNIT
    n, c, part = program(C, TILES, BC)
    p = part * BP + tl.arange(0, BP)
    mask = (c[:, None] < C) & (p[None, :] < P)
    at = n.to(tl.int64) * C * P + offsets(c, p, C, P, CHANNELS_LAST)
    u = tl.load(x + at, mask, 0.0)  # on their way while the gate is computed
    if residual is not None:
        r = tl.load(residual + at, mask, 0.0)
    m, v = tl.zeros([BC], ACC), tl.zeros([BC], ACC)
    if ORDER > 0:
        m, v = combined(parts, n * C + c, c < C, N * C, P, ORDER, SPLITS, BP)
    a, b, m, v = _normed(m, v, norm, eps, c, c < C)
    s, t = GATE(m, v, parts, hidden, norm, eps, given, numbers, n, c, c < C, N, C, P, SHAPE, ORDER, SPLITS, BP)
    scale, shift = _affine(s, t, a, b, blend, c, c < C)
    z = _applied(u.to(ACC), scale, shift, norm[0], c, C)
    if residual is not None:
        z += r.to(ACC)
    if RELU:
        z = tl.where(z <= 0, 0.0, z)  # NaN stays NaN
    tl.store(y + at, z.to(y.dtype.element_ty), mask)


@triton.jit
def whole(
    x, residual, y, norm, eps, given, numbers, blend, N, c_units, p_units,
    C_UNIT: tl.constexpr, P_UNIT: tl.constexpr, CHANNELS_LAST: tl.constexpr, GATE: tl.constexpr, SHAPE: tl.constexpr,
    ORDER: tl.constexpr, RELU: tl.constexpr, ACC: tl.constexpr, BC: tl.constexpr, BP: tl.constexpr,
):  # fmt: skip
    """A program has some channels of an image at all positions: what it read for the moments it finds in its cache."""
    C, P = c_units * C_UNIT, p_units * P_UNIT
    n, c, _ = program(C, 1, BC)
    base = n.to(tl.int64) * C * P
    m, v = reduced(x + base, c, 0, P, C, P, CHANNELS_LAST, ACC, ORDER, BC, BP)
    a, b, m, v = _normed(m, v, norm, eps, c, c < C)
    s, t = GATE(m, v, None, None, norm, eps, given, numbers, n, c, c < C, N, C, P, SHAPE, ORDER, 1, BP)
    scale, shift = _affine(s, t, a, b, blend, c, c < C)
    for start in range(0, P, BP):
        p = start + tl.arange(0, BP)
        mask = (c[:, None] < C) & (p[None, :] < P)
        at = base + offsets(c, p, C, P, CHANNELS_LAST)
        z = _applied(tl.load(x + at, mask, 0.0).to(ACC), scale, shift, norm[0], c, C)
        if residual is not None:
            z += tl.load(residual + at, mask, 0.0).to(ACC)
        if RELU:
            z = tl.where(z <= 0, 0.0, z)  # NaN stays NaN
        tl.store(y + at, z.to(y.dtype.element_ty), mask)


@triton.jit
def _applied(x, scale, shift, centre, c, C):
    if centre is not None:
        x -= tl.load(centre + c, c < C, 0.0)[:, None]
    return scale[:, None] * x + shift[:, None]
