"""A 1x1 convolution with recalibration in its epilogue, as one Triton kernel over channels-last maps.

A map is then a matrix, a row a position. A tile of rows stays inside one image, so its scale and shift are one vector:
maps whose size is no multiple of the tile waste some products at their ends, but move no more memory.
"""

# ruff: noqa: ANN001, ANN201
# mypy: disallow-untyped-defs=False, check-untyped-defs=False
# (operands of kernels have Triton's types, which Python's annotations do not express)

import torch
import triton
import triton.language as tl
from torch import Tensor

from recalib.ops.passes_triton import processors


@triton.jit
def kernel(
    h, weight, bias, scale, shift, residual, y, P, C_IN, C_OUT, RELU: tl.constexpr, PRECISION: tl.constexpr,
    BP: tl.constexpr, BC: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """BP positions of an image times BC channels: the product, then the epilogue in float32, rounded once."""
    blocks = tl.cdiv(C_OUT, BC)  # channels vary fastest: programs that run together share rows of h
    c = tl.program_id(0) % blocks * BC + tl.arange(0, BC)
    tiles = tl.cdiv(P, BP)
    n = tl.program_id(0) // blocks // tiles
    p = tl.program_id(0) // blocks % tiles * BP + tl.arange(0, BP)
    h += n.to(tl.int64) * P * C_IN
    z = tl.zeros([BP, BC], tl.float32)
    for start in range(0, C_IN, BK):
        k = start + tl.arange(0, BK)
        rows = tl.load(h + p[:, None] * C_IN + k[None, :], (p[:, None] < P) & (k[None, :] < C_IN), 0.0)
        columns = tl.load(weight + c[None, :] * C_IN + k[:, None], (c[None, :] < C_OUT) & (k[:, None] < C_IN), 0.0)
        z = tl.dot(rows, columns, z, input_precision=PRECISION)
    if bias is not None:
        z += tl.load(bias + c, c < C_OUT, 0.0).to(tl.float32)[None, :]
    if scale is not None:
        z *= tl.load(scale + n * C_OUT + c, c < C_OUT, 0.0).to(tl.float32)[None, :]
    if shift is not None:
        z += tl.load(shift + n * C_OUT + c, c < C_OUT, 0.0).to(tl.float32)[None, :]
    at = n.to(tl.int64) * P * C_OUT + p[:, None] * C_OUT + c[None, :]
    mask = (p[:, None] < P) & (c[None, :] < C_OUT)
    if residual is not None:
        z += tl.load(residual + at, mask, 0.0).to(tl.float32)
    if RELU:
        z = tl.where(z <= 0, 0.0, z)  # NaN stays NaN
    tl.store(y + at, z.to(y.dtype.element_ty), mask)


def launch(
    h: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    scale: Tensor | None,
    shift: Tensor | None,
    residual: Tensor | None,
    y: Tensor,
    relu: bool,
) -> None:
    """Fill y; see `recalib.ops.gemm.recalibrated_conv`. Maps are channels_last, in float32 or half precision."""
    images, c_in, height, width = h.shape
    positions, c_out = height * width, len(weight)
    small = [None if t is None else t.contiguous() for t in (weight, bias, scale, shift)]
    # what torch lets the convolution do whose place this takes
    precision = "tf32" if torch.backends.cudnn.allow_tf32 else "ieee"
    edge, warps = _tile(h, c_out)
    bp, bc = (min(edge, max(16, triton.next_power_of_2(n))) for n in (positions, c_out))
    programs = images * triton.cdiv(positions, bp) * triton.cdiv(c_out, bc)
    cut = {"BP": bp, "BC": bc, "BK": 128 // h.element_size()}
    options = {"num_warps": warps, "num_stages": 3, "enable_fp_fusion": True}
    if programs > 0:
        with torch.cuda.device_of(h):
            kernel[(programs,)](
                h, *small, residual, y, positions, c_in, c_out, RELU=relu, PRECISION=precision, **cut, **options
            )


def _tile(h: Tensor, c_out: int) -> tuple[int, int]:
    """Edge of a tile and its warps: the larger reads less from the cache, the smaller fills a processor sooner.

    In float32 the larger one spills registers.
    """
    images, _, height, width = h.shape
    large = images * triton.cdiv(height * width, 128) * triton.cdiv(c_out, 128)
    return (128, 8) if large >= processors(h.device) and h.element_size() == 2 else (64, 4)
