"""Triton kernels of the wider law; `recalib.ops.broadcast_triton` launches them.

A program works on tiles of BC channels x BH rows x BW columns of one image. Where no line has a statistic or a gate of
its own, the map is one row of all positions; otherwise a tile has whole rows. Sums over what a program sees whole are
written once, others as parts, without atomics. A maximum and its place are one integer of 64 bits, so that the first of
equal values wins whatever the order, and parts are combined by one more maximum.
"""

# ruff: noqa: ANN001, ANN201, D103
# mypy: disallow-untyped-defs=False, check-untyped-defs=False
# (operands have Triton's types, which Python's annotations do not express)

import triton
import triton.language as tl


@triton.jit
def program(C, SPLITS, BC: tl.constexpr):
    """Image, block of channels and part of the tiles that this program works on; channels vary fastest."""
    pid = tl.program_id(0)
    blocks = tl.cdiv(C, BC)
    return (pid // blocks // SPLITS).to(tl.int64), pid % blocks, pid // blocks % SPLITS


@triton.jit
def tile(t, H, W, BH: tl.constexpr, BW: tl.constexpr):
    across = tl.cdiv(W, BW)
    h = t // across * BH + tl.arange(0, BH)
    w = t % across * BW + tl.arange(0, BW)
    return h[None, :, None], w[None, None, :]


@triton.jit
def span(H, W, part, SPLITS, BH: tl.constexpr, BW: tl.constexpr):
    """Tiles of a part, as evenly as they go."""
    tiles = tl.cdiv(H, BH) * tl.cdiv(W, BW)
    each = tl.cdiv(tiles, SPLITS)
    return part * each, tl.minimum((part + 1) * each, tiles)


@triton.jit
def offsets(c, h, w, C, H, W, CHANNELS_LAST: tl.constexpr):
    if CHANNELS_LAST:
        return (h * W + w) * C + c
    return (c * H + h) * W + w


@triton.jit
def keyed(v, mask, place):
    """Values in an order of integers, NaN above all, and behind them their places, the first greatest."""
    bits = tl.where(v == v, v.to(tl.int32, bitcast=True), 0x7FC00000)
    bits = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return tl.where(mask, (bits.to(tl.int64) << 32) | (0x7FFFFFFF - place).to(tl.int64), -(2**63))


@triton.jit
def observe(
    x, sums, peak, row, row_peak, column, column_peak, pixel, pixel_peak, weights, weighted, N, c_units, H, w_units,
    C_UNIT: tl.constexpr, W_UNIT: tl.constexpr, CHANNELS_LAST: tl.constexpr, SQUARES: tl.constexpr,
    SPLITS: tl.constexpr, BC: tl.constexpr, BH: tl.constexpr, BW: tl.constexpr,
):  # fmt: skip
    """Every statistic that is asked for, of one read."""
    C, W = c_units * C_UNIT, w_units * W_UNIT
    n, block, part = program(C, SPLITS, BC)
    channels = block * BC + tl.arange(0, BC)
    c = channels[:, None, None]
    first, last = span(H, W, part, SPLITS, BH, BW)
    x += n * C * H * W
    pivot = tl.zeros([BC], tl.float32)
    if SQUARES:  # around the mean of the first tile: a pivot among the values cancels little
        h, w = tile(first, H, W, BH, BW)
        inside = (c < C) & (h < H) & (w < W)
        v = tl.load(x + offsets(c, h, w, C, H, W, CHANNELS_LAST), inside, 0.0).to(tl.float32)
        pivot = tl.sum(tl.sum(v, 2), 1) / tl.maximum(tl.sum(tl.sum(inside.to(tl.float32), 2), 1), 1.0)
        pivot = tl.where(tl.abs(pivot) < float("inf"), pivot, 0.0)
    total = tl.zeros([BC, BH, BW], tl.float32)
    squares = tl.zeros([BC, BH, BW], tl.float32)
    products = tl.zeros([BC, BH, BW], tl.float32)
    best = tl.full([BC, BH, BW], -(2**63), tl.int64)
    down = tl.zeros([BC, BW], tl.float32)
    down_best = tl.full([BC, BW], -(2**63), tl.int64)
    seen = 0
    for t in range(first, last):
        h, w = tile(t, H, W, BH, BW)
        inside = (c < C) & (h < H) & (w < W)
        v = tl.load(x + offsets(c, h, w, C, H, W, CHANNELS_LAST), inside, 0.0).to(tl.float32)
        if sums is not None:
            d = tl.where(inside, v - pivot[:, None, None], 0.0)
            total += d
            if SQUARES:
                squares += d * d
                seen += tl.minimum(BH, H - t // tl.cdiv(W, BW) * BH) * tl.minimum(BW, W - t % tl.cdiv(W, BW) * BW)
        if weights is not None:
            products += v * tl.load(weights + (c * H + h) * W + w, inside, 0.0)
        if peak is not None:
            best = tl.maximum(best, keyed(v, inside, h * W + w))
        r = tl.reshape(h, [BH])
        s = tl.reshape(w, [BW])
        at_row = (n * C + channels)[:, None] * H + r[None, :]
        is_row = (channels[:, None] < C) & (r[None, :] < H)
        if row is not None:
            tl.store(row + at_row, tl.sum(v, 2), is_row)
        if row_peak is not None:
            tl.store(row_peak + at_row, tl.max(keyed(v, inside, w), 2), is_row)
        if column is not None:
            down += tl.sum(v, 1)
        if column_peak is not None:
            down_best = tl.maximum(down_best, tl.max(keyed(v, inside, h), 1))
        at_pixel = ((block * N + n) * H + r[:, None]) * W + s[None, :]
        is_pixel = (r[:, None] < H) & (s[None, :] < W)
        if pixel is not None:
            tl.store(pixel + at_pixel, tl.sum(v, 0), is_pixel)
        if pixel_peak is not None:
            tl.store(pixel_peak + at_pixel, tl.max(keyed(v, inside, c), 0), is_pixel)
    at = (part * N + n) * C + channels
    if sums is not None:  # per part: the sum, and of squares also around what, and how many
        own = tl.sum(tl.sum(total, 2), 1)
        tl.store(sums + at, own, channels < C)
        if SQUARES:
            tl.store(sums + SPLITS * N * C + at, tl.sum(tl.sum(squares, 2), 1), channels < C)
            tl.store(sums + 2 * SPLITS * N * C + at, pivot, channels < C)
            tl.store(sums + 3 * SPLITS * N * C + at, tl.zeros([BC], tl.float32) + seen, channels < C)
    if weights is not None:
        tl.store(weighted + at, tl.sum(tl.sum(products, 2), 1), channels < C)
    if peak is not None:
        tl.store(peak + at, tl.max(tl.max(best, 2), 1), channels < C)
    s = tl.arange(0, BW)
    is_column = (channels[:, None] < C) & (s[None, :] < W)
    if column is not None:
        tl.store(column + at[:, None] * W + s[None, :], down, is_column)
    if column_peak is not None:
        tl.store(column_peak + at[:, None] * W + s[None, :], down_best, is_column)


@triton.jit
def observe_pixels(
    x, scale, pixel, pixel_peak, c_units, w_units, C_UNIT: tl.constexpr, W_UNIT: tl.constexpr,
    CHANNELS_LAST: tl.constexpr, BC: tl.constexpr, BW: tl.constexpr,
):  # fmt: skip
    """Statistics over the channels of each pixel of ``scale * x``, whole."""
    C, W = c_units * C_UNIT, w_units * W_UNIT
    pid = tl.program_id(0)
    blocks = tl.cdiv(W, BW)
    n = (pid // blocks).to(tl.int64)
    w = (pid % blocks * BW + tl.arange(0, BW))[None, :]
    x += n * C * W
    total = tl.zeros([BC, BW], tl.float32)
    best = tl.full([BC, BW], -(2**63), tl.int64)
    for start in range(0, C, BC):
        c = (start + tl.arange(0, BC))[:, None]
        inside = (c < C) & (w < W)
        v = tl.load(x + offsets(c, 0, w, C, 1, W, CHANNELS_LAST), inside, 0.0).to(tl.float32)
        if scale is not None:
            v *= tl.load(scale + n * C + c, c < C, 0.0)
        total += v
        if pixel_peak is not None:
            best = tl.maximum(best, keyed(v, inside, c))
    at = n * W + pid % blocks * BW + tl.arange(0, BW)
    is_pixel = pid % blocks * BW + tl.arange(0, BW) < W
    if pixel is not None:
        tl.store(pixel + at, tl.sum(total, 0), is_pixel)
    if pixel_peak is not None:
        tl.store(pixel_peak + at, tl.max(best, 0), is_pixel)


@triton.jit
def factors(law, n, c, h, w, C, H, W):
    """Factors of the four kinds, 1 where there is none."""
    channel, row, column, pixel = law
    one = tl.full([1, 1, 1], 1.0, tl.float32)
    of_channel = one
    of_row = one
    of_column = one
    of_pixel = one
    if channel is not None:
        of_channel = tl.load(channel + n * C + c, c < C, 0.0)
    if row is not None:
        of_row = tl.load(row + (n * C + c) * H + h, (c < C) & (h < H), 0.0)
    if column is not None:
        of_column = tl.load(column + (n * C + c) * W + w, (c < C) & (w < W), 0.0)
    if pixel is not None:
        of_pixel = tl.load(pixel + (n * H + h) * W + w, (h < H) & (w < W), 0.0)
    return of_channel, of_row, of_column, of_pixel


@triton.jit
def whole(law, n, c, h, w, C, H, W, COUNT: tl.constexpr):
    """G: a product for COUNT 0, otherwise the mean of so many."""
    a, b, d, e = factors(law, n, c, h, w, C, H, W)
    if COUNT == 0:
        return a * b * d * e
    total = tl.full([1, 1, 1], 0.0, tl.float32)
    if law[0] is not None:
        total += a
    if law[1] is not None:
        total = total + b
    if law[2] is not None:
        total = total + d
    if law[3] is not None:
        total = total + e
    return total / COUNT


@triton.jit
def of_own(v, slope, centre, offset, n, c, C):
    """Gates of the pixels' own, and their distance from the centre and slope."""
    d = v - tl.load(centre + n * C + c, c < C, 0.0)
    k = tl.load(slope + n * C + c, c < C, 0.0)
    return 1 / (1 + tl.exp(-(k * d * d + offset))), d, k


@triton.jit
def apply(
    x, y, law, slope, centre, weight, bias, offset, c_units, H, w_units, C_UNIT: tl.constexpr, W_UNIT: tl.constexpr,
    CHANNELS_LAST: tl.constexpr, COUNT: tl.constexpr, SPLITS, BC: tl.constexpr, BH: tl.constexpr, BW: tl.constexpr,
):  # fmt: skip
    C, W = c_units * C_UNIT, w_units * W_UNIT
    n, block, part = program(C, SPLITS, BC)
    c = (block * BC + tl.arange(0, BC))[:, None, None]
    h, w = tile(part, H, W, BH, BW)
    inside = (c < C) & (h < H) & (w < W)
    at = n * C * H * W + offsets(c, h, w, C, H, W, CHANNELS_LAST)
    v = tl.load(x + at, inside, 0.0).to(tl.float32)
    if slope is not None:
        g, _, _ = of_own(v, slope, centre, offset, n, c, C)
    else:
        g = whole(law, n, c, h, w, C, H, W, COUNT)
    if weight is not None:
        g = g * tl.load(weight + c, c < C, 0.0) + tl.load(bias + c, c < C, 0.0)
    tl.store(y + at, (v * g).to(y.dtype.element_ty), inside)


@triton.jit
def reduce(
    dy, x, law, slope, centre, weight, offset, d_channel, d_row, d_column, d_pixel, d_centre, d_weight, d_bias,
    N, c_units, H, w_units, C_UNIT: tl.constexpr, W_UNIT: tl.constexpr, CHANNELS_LAST: tl.constexpr,
    COUNT: tl.constexpr, SPLITS: tl.constexpr, BC: tl.constexpr, BH: tl.constexpr, BW: tl.constexpr,
):  # fmt: skip
    """Gradients of the factors (or of slope, as `d_channel`, and centre) and of the blend."""
    C, W = c_units * C_UNIT, w_units * W_UNIT
    n, block, part = program(C, SPLITS, BC)
    channels = block * BC + tl.arange(0, BC)
    c = channels[:, None, None]
    first, last = span(H, W, part, SPLITS, BH, BW)
    dy += n * C * H * W
    x += n * C * H * W
    of_channel = tl.zeros([BC, BH, BW], tl.float32)
    of_centre = tl.zeros([BC, BH, BW], tl.float32)
    of_weight = tl.zeros([BC, BH, BW], tl.float32)
    of_bias = tl.zeros([BC, BH, BW], tl.float32)
    of_column = tl.zeros([BC, BW], tl.float32)
    for t in range(first, last):
        h, w = tile(t, H, W, BH, BW)
        inside = (c < C) & (h < H) & (w < W)
        at = offsets(c, h, w, C, H, W, CHANNELS_LAST)
        v = tl.load(x + at, inside, 0.0).to(tl.float32)
        p = tl.load(dy + at, inside, 0.0).to(tl.float32) * v
        if slope is not None:
            g, d, k = of_own(v, slope, centre, offset, n, c, C)
        if weight is not None:
            of_bias += p
            if slope is not None:
                of_weight += p * g
            else:
                of_weight += p * whole(law, n, c, h, w, C, H, W, COUNT)
            p *= tl.load(weight + c, c < C, 0.0)
        if slope is not None:
            dz = p * g * (1 - g)
            of_channel += tl.where(inside, dz * d * d, 0.0)
            of_centre += tl.where(inside, -2 * dz * k * d, 0.0)
        else:
            fc, fr, fw, fp = factors(law, n, c, h, w, C, H, W)
            if COUNT > 0:
                p = p / COUNT
                fc = tl.full([1, 1, 1], 1.0, tl.float32)
                fr = fc
                fw = fc
                fp = fc
            r = tl.reshape(h, [BH])
            s = tl.reshape(w, [BW])
            if d_channel is not None:
                of_channel += p * (fr * fw * fp)
            if d_row is not None:
                at_row = (n * C + channels)[:, None] * H + r[None, :]
                tl.store(d_row + at_row, tl.sum(p * (fc * fw * fp), 2), (channels[:, None] < C) & (r[None, :] < H))
            if d_column is not None:
                of_column += tl.sum(p * (fc * fr * fp), 1)
            if d_pixel is not None:
                at_pixel = ((block * N + n) * H + r[:, None]) * W + s[None, :]
                tl.store(d_pixel + at_pixel, tl.sum(p * (fc * fr * fw), 0), (r[:, None] < H) & (s[None, :] < W))
    at_channel = (part * N + n) * C + channels
    if d_channel is not None:
        tl.store(d_channel + at_channel, tl.sum(tl.sum(of_channel, 2), 1), channels < C)
    if d_centre is not None:
        tl.store(d_centre + at_channel, tl.sum(tl.sum(of_centre, 2), 1), channels < C)
    if weight is not None:
        tl.store(d_weight + at_channel, tl.sum(tl.sum(of_weight, 2), 1), channels < C)
        tl.store(d_bias + at_channel, tl.sum(tl.sum(of_bias, 2), 1), channels < C)
    if d_column is not None:
        s = tl.arange(0, BW)
        is_column = (channels[:, None] < C) & (s[None, :] < W)
        tl.store(d_column + at_channel[:, None] * W + s[None, :], of_column, is_column)


@triton.jit
def unscale(
    x, d_pixel, d_peak, peak_at, d_scale, N, c_units, w_units, C_UNIT: tl.constexpr, W_UNIT: tl.constexpr,
    CHANNELS_LAST: tl.constexpr, SPLITS: tl.constexpr, BC: tl.constexpr, BW: tl.constexpr,
):  # fmt: skip
    """Gradient of what scaled the channels before the pixels' statistics were taken."""
    C, W = c_units * C_UNIT, w_units * W_UNIT
    n, block, part = program(C, SPLITS, BC)
    c = block * BC + tl.arange(0, BC)
    first, last = span(1, W, part, SPLITS, 1, BW)
    x += n * C * W
    total = tl.zeros([BC, BW], tl.float32)
    for t in range(first, last):
        w = t * BW + tl.arange(0, BW)
        inside = (c[:, None] < C) & (w[None, :] < W)
        v = tl.load(x + offsets(c[:, None], 0, w[None, :], C, 1, W, CHANNELS_LAST), inside, 0.0).to(tl.float32)
        g = tl.zeros([BC, BW], tl.float32)
        if d_pixel is not None:
            g += (tl.load(d_pixel + n * W + w, w < W, 0.0) / C)[None, :]
        if d_peak is not None:
            there = tl.load(peak_at + n * W + w, w < W, -1)[None, :] == c[:, None]
            g += tl.where(there, tl.load(d_peak + n * W + w, w < W, 0.0)[None, :], 0.0)
        total += v * g
    tl.store(d_scale + (part * N + n) * C + c, tl.sum(total, 1), c < C)


@triton.jit
def differentiate(
    dy, x, dx, law, slope, centre, weight, bias, offset, moments, peak, row, column, pixel, scale, weighted,
    c_units, H, w_units, C_UNIT: tl.constexpr, W_UNIT: tl.constexpr, CHANNELS_LAST: tl.constexpr,
    COUNT: tl.constexpr, SPLITS, BC: tl.constexpr, BH: tl.constexpr, BW: tl.constexpr,
):  # fmt: skip
    """Gradient of the map, through the product and through everything that was read.

    `moments` are gradients of mean and variance, and the mean; `peak` and `weighted` are pairs; `row`, `column` and
    `pixel` are gradients of the mean and of the maximum, and the places of the latter.
    """
    C, W = c_units * C_UNIT, w_units * W_UNIT
    n, block, part = program(C, SPLITS, BC)
    c = (block * BC + tl.arange(0, BC))[:, None, None]
    h, w = tile(part, H, W, BH, BW)
    inside = (c < C) & (h < H) & (w < W)
    at = n * C * H * W + offsets(c, h, w, C, H, W, CHANNELS_LAST)
    gy = tl.load(dy + at, inside, 0.0).to(tl.float32)
    v = tl.load(x + at, inside, 0.0).to(tl.float32)
    if slope is not None:
        g, d, k = of_own(v, slope, centre, offset, n, c, C)
        beyond = gy * v * g * (1 - g) * 2 * k * d
    else:
        g = whole(law, n, c, h, w, C, H, W, COUNT)
    if weight is not None:
        w_blend = tl.load(weight + c, c < C, 0.0)
        out = gy * (g * w_blend + tl.load(bias + c, c < C, 0.0))
        if slope is not None:
            out += beyond * w_blend
    else:
        out = gy * g
        if slope is not None:
            out += beyond
    of_channel = n * C + c
    if moments[0] is not None:
        out += tl.load(moments[0] + of_channel, c < C, 0.0) / (H * W)
    if moments[1] is not None:
        middle = tl.load(moments[2] + of_channel, c < C, 0.0)
        out += tl.load(moments[1] + of_channel, c < C, 0.0) * 2 / (H * W) * (v - middle)
    if peak[0] is not None:
        there = tl.load(peak[1] + of_channel, c < C, -1) == h * W + w
        out += tl.where(there, tl.load(peak[0] + of_channel, c < C, 0.0), 0.0)
    if weighted[0] is not None:
        out += tl.load(weighted[0] + of_channel, c < C, 0.0) * tl.load(weighted[1] + (c * H + h) * W + w, inside, 0.0)
    of_row = of_channel * H + h
    is_row = (c < C) & (h < H)
    if row[0] is not None:
        out += tl.load(row[0] + of_row, is_row, 0.0) / W
    if row[1] is not None:
        there = tl.load(row[2] + of_row, is_row, -1) == w
        out += tl.where(there, tl.load(row[1] + of_row, is_row, 0.0), 0.0)
    of_column = of_channel * W + w
    is_column = (c < C) & (w < W)
    if column[0] is not None:
        out += tl.load(column[0] + of_column, is_column, 0.0) / H
    if column[1] is not None:
        there = tl.load(column[2] + of_column, is_column, -1) == h
        out += tl.where(there, tl.load(column[1] + of_column, is_column, 0.0), 0.0)
    of_pixel = (n * H + h) * W + w
    is_pixel = (h < H) & (w < W)
    across = tl.zeros([1, 1, 1], tl.float32)
    if pixel[0] is not None:
        across = across + tl.load(pixel[0] + of_pixel, is_pixel, 0.0) / C
    if pixel[1] is not None:
        there = tl.load(pixel[2] + of_pixel, is_pixel, -1) == c
        across = across + tl.where(there, tl.load(pixel[1] + of_pixel, is_pixel, 0.0), 0.0)
    if scale is not None:
        across = across * tl.load(scale + of_channel, c < C, 0.0)
    if pixel[0] is not None or pixel[1] is not None:
        out += across
    tl.store(dx + at, out.to(dx.dtype.element_ty), inside)
