"""The passes over the activation in plain PyTorch: any device and precision; the form other backends are held to.

On a CPU each pass goes through the map slab by slab, so that its elementary steps meet in the cache, not in memory.
Variants were chosen by measurement (see ``docs/performance.md``): `torch.var` and `torch.std` over two dimensions are
10 to 30 times slower than subtract, square, sum, and `addcmul` is not vectorised where H*W is the inner dimension.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from recalib.ops.contract import wide

_SLAB = 2**18  # values a thread: 1 MiB of float32, which fits a core's second-level cache


def spread(t: Tensor) -> Tensor:
    """(N, C) or (C,) as an operand of maps (N, C, H, W)."""
    return t[..., None, None]


def moments(x: Tensor, order: int) -> Tensor:
    """Mean and centred variance of each channel of each image; see `recalib.ops.passes.moments`."""
    stats = x.new_empty((order, *x.shape[:2]), dtype=wide(x.dtype))
    for images, work in _slabs(x) if order else ():
        torch.mean(x[images], (2, 3), dtype=stats.dtype, out=stats[0, images])
        if order == 2:
            torch.sub(x[images], spread(stats[0, images]), out=work)
            torch.mean(work.mul_(work), (2, 3), out=stats[1, images])
    return stats


def integrate(
    x: Tensor, centre: Tensor | None, scale: Tensor | None, shift: Tensor | None, residual: Tensor | None, relu: bool
) -> Tensor:
    """``act(scale * (x - centre) + shift + residual)``; see `recalib.ops.passes.integrate`."""
    if centre is not None:
        assert scale is not None
        shift = -scale * centre if shift is None else torch.addcmul(shift, scale, centre, value=-1)
    y = torch.empty_like(x)
    for images, work in _slabs(x):
        part = y[images] if y.dtype == work.dtype else work
        _affine(x[images], _rows(scale, images), _rows(shift, images), part)
        if residual is not None:
            part.add_(residual[images])
        if relu:
            part.relu_()
        if part is work:
            y[images].copy_(part)
    return y


def mask_and_reduce(
    dy: Tensor, y: Tensor | None, x: Tensor | None, centre: Tensor | None, sums: bool
) -> tuple[Tensor, Tensor]:
    """Gradient before the ReLU, and its sums; see `recalib.ops.passes.mask_and_reduce`."""
    dm = dy if y is None else torch.empty_like(dy)
    out = dy.new_empty((1 + (x is not None) if sums else 0, *dy.shape[:2]), dtype=wide(dy.dtype))
    for images, work in _slabs(dy):
        if y is not None:
            torch.ops.aten.threshold_backward.grad_input(dy[images], y[images], 0, grad_input=dm[images])
        if sums:
            torch.sum(dm[images], (2, 3), dtype=out.dtype, out=out[0, images])
        if sums and x is not None:
            work.copy_(x[images]) if centre is None else torch.sub(x[images], spread(centre), out=work)
            torch.sum(work.mul_(dm[images]), (2, 3), out=out[1, images])
    return (dy.new_empty(0) if y is None else dm), out


def differentiate(dm: Tensor, scale: Tensor | None, x: Tensor | None, stats: Tensor, d_stats: Tensor) -> Tensor:
    """Gradient of the map; see `recalib.ops.passes.differentiate`."""
    size = dm.shape[2] * dm.shape[3]
    constant = d_stats[0] / size if len(d_stats) else None
    slope = None
    if len(d_stats) == 2:
        slope = d_stats[1] * (2 / size)
        constant = torch.addcmul(d_stats[0] / size, slope, stats[0], value=-1)
    dx = torch.empty_like(dm)
    for images, work in _slabs(dm):
        part = dx[images] if dx.dtype == work.dtype else work
        _affine(dm[images], _rows(scale, images), _rows(constant, images), part)
        if slope is not None:
            assert x is not None
            part.addcmul_(x[images], spread(slope[images]))
        if part is work:
            dx[images].copy_(part)
    return dx


def _slabs(x: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Groups of images with a buffer of their shape: cache-sized on a CPU, the whole batch elsewhere."""
    n = len(x)
    step = max(1, _SLAB * torch.get_num_threads() * n // max(x.numel(), 1)) if x.device.type == "cpu" else n
    buffer = torch.empty_like(x[:step], dtype=wide(x.dtype))
    for start in range(0, n, step):  # no images, no slabs
        yield slice(start, min(start + step, n)), buffer[: n - start]


def _rows(t: Tensor | None, images: slice) -> Tensor | None:
    return None if t is None else t[images]


def _affine(x: Tensor, scale: Tensor | None, shift: Tensor | None, out: Tensor) -> None:
    if scale is None:
        torch.add(x, spread(shift), out=out) if shift is not None else out.copy_(x)
    elif shift is not None and not x.is_contiguous():  # channels_last: vectorised over the channels
        torch.addcmul(spread(shift), x, spread(scale), out=out)
    else:
        torch.mul(x, spread(scale), out=out)
        if shift is not None:
            out.add_(spread(shift))
