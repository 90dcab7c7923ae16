"""The wider law's passes in plain PyTorch: any device and precision; the form that Triton's is held to.

On a CPU each pass goes slab by slab, so that its elementary steps meet in the cache.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from recalib.ops.broadcast_law import AXES, MAXIMA, Law, Maximum, Read, of_images
from recalib.ops.contract import wide

_SLAB = 2**18  # values a thread: 1 MiB of float32


def observe(
    x: Tensor, scale: Tensor | None, reads: Sequence[str], weights: Tensor | None = None
) -> dict[str, Tensor | Maximum]:
    """Statistics of ``scale * x`` by name, in at least float32.

    Args:
        x: map (N, C, H, W).
        scale: (N, C) or None for 1; with pixels' statistics only.
        reads: names of statistics.
        weights: (C, H, W), of the weighted sum.
    """
    parts: list[dict[str, Tensor | Maximum]] = []
    for images, work in _slabs(x):
        torch.mul(x[images], of_images(scale, images), out=work) if scale is not None else work.copy_(x[images])
        parts.append(_observed(work, reads, weights))
    return {name: _joined([part[name] for part in parts]) for name in parts[0]}


def _observed(x: Tensor, reads: Sequence[str], weights: Tensor | None) -> dict[str, Tensor | Maximum]:
    found: dict[str, Tensor | Maximum] = {}
    for name in reads:
        if name in AXES:
            found[name] = Maximum(*x.max(AXES[name])) if name in MAXIMA else x.mean(AXES[name])
    if "maximum" in reads:
        found["maximum"] = Maximum(*x.flatten(2).max(2))
    if weights is not None:
        found["weighted_sum"] = torch.einsum("nchw,chw->nc", x, weights)
    if "mean" in reads or "variance" in reads:
        found["mean"] = mean = x.mean((2, 3))
        if "variance" in reads:
            found["variance"] = x.sub_(mean[:, :, None, None]).square_().mean((2, 3))  # last: x is ours
    return found


def _joined(parts: list[Any]) -> Tensor | Maximum:
    if isinstance(parts[0], Maximum):
        return Maximum(torch.cat([p.values for p in parts]), torch.cat([p.indices for p in parts]))
    return torch.cat(parts)


def apply(x: Tensor, law: Law) -> Tensor:
    """``x * (w * G + b)``."""
    y = torch.empty_like(x)
    for images, _ in _slabs(x):
        torch.mul(x[images], law.blended(law.whole(x[images], images)).to(x.dtype), out=y[images])
    return y


def reduce(dy: Tensor, x: Tensor, law: Law) -> tuple[list[Tensor], Tensor | None, Tensor | None]:
    """Gradients of the factors (or of slope and centre), and of the blend."""
    small = [law.slope, law.centre] if law.slope is not None else list(law.factors)
    gradients = [torch.empty_like(t) for t in small if t is not None]
    d_weight = None if law.weight is None else torch.zeros_like(law.weight)
    d_bias = None if law.weight is None else torch.zeros_like(law.weight)
    for images, work in _slabs(x):
        torch.mul(dy[images], x[images], out=work)
        whole = law.whole(x[images], images) if law.slope is not None or law.weight is not None else None
        if d_weight is not None and d_bias is not None and whole is not None and law.weight is not None:
            d_weight += (work * whole).sum((0, 2, 3))
            d_bias += work.sum((0, 2, 3))
            work.mul_(law.weight[:, None, None])
        if law.slope is not None:
            assert whole is not None
            d = x[images] - of_images(law.centre, images)
            dz = work.mul_(whole).mul_(1 - whole)
            gradients[1][images] = (dz * d).sum((2, 3)) * law.slope[images] * -2
            gradients[0][images] = dz.mul_(d).mul_(d).sum((2, 3))
            continue
        for k, gradient in enumerate(gradients):
            axes = [axis for axis in (1, 2, 3) if gradient.shape[axis] == 1]
            gradient[images] = (work * law.without(k, images)).sum(axes, keepdim=True)
    return gradients, d_weight, d_bias


def unscale(x: Tensor, read: Read) -> Tensor:
    """Gradient (N, C) of a read's scale."""
    assert read.scale is not None
    out = torch.zeros_like(read.scale)
    d_mean, d_maximum = read.gradients.get("pixel_mean"), read.gradients.get("pixel_maximum")
    for images, work in _slabs(x):
        if d_mean is not None:
            torch.mul(x[images], d_mean[images, None], out=work)
            out[images] += work.sum((2, 3)) / x.shape[1]
        if d_maximum is not None:
            where = _indices(read, "pixel_maximum")[images, None]
            there = x[images].gather(1, where).to(out.dtype) * d_maximum[images, None]
            out[images].scatter_add_(1, where.flatten(1), there.flatten(1))
    return out


def differentiate(dy: Tensor, x: Tensor, law: Law, reads: Sequence[Read]) -> Tensor:
    """Gradient of the map: through the product, and through everything that was read."""
    dx = torch.empty_like(x)
    for images, work in _slabs(x):
        whole = law.whole(x[images], images)
        torch.mul(dy[images], law.blended(whole), out=work)
        if law.slope is not None:
            d = x[images] - of_images(law.centre, images)
            dz = (dy[images] * x[images]).to(whole.dtype).mul_(whole).mul_(1 - whole)
            dz = dz if law.weight is None else dz.mul_(law.weight[:, None, None])
            work.addcmul_(dz.mul_(d), of_images(law.slope, images), value=2)
        for read in reads:
            _through(read, x[images], images, work)
        dx[images] = work
    return dx


def _through(read: Read, x: Tensor, images: slice, out: Tensor) -> None:
    """Add to the gradient of some images what a read passes on."""
    size, scale = x.shape[2] * x.shape[3], None if read.scale is None else of_images(read.scale, images)
    for name, whole in read.gradients.items():
        gradient = whole[images]
        if name == "mean":
            out += gradient[:, :, None, None] / size
        elif name == "variance":
            mean = read.found["mean"]
            assert isinstance(mean, Tensor)
            slope = gradient[:, :, None, None] * (2 / size)
            out += (x - mean[images][:, :, None, None]).mul_(slope)
        elif name == "weighted_sum":
            assert read.weights is not None
            out.addcmul_(gradient[:, :, None, None], read.weights)
        elif name == "maximum":
            where, W = _indices(read, name)[images], out.shape[3]
            n, c = (torch.arange(length, device=out.device) for length in out.shape[:2])
            out[n[:, None], c, where // W, where % W] += gradient
        elif name in MAXIMA:
            axis = AXES[name]
            where, spread = _indices(read, name)[images].unsqueeze(axis), gradient.unsqueeze(axis)
            if scale is not None:
                spread = spread * scale.expand_as(out).gather(axis, where)
            out.scatter_add_(axis, where, spread)
        else:
            spread = gradient.unsqueeze(AXES[name]) / x.shape[AXES[name]]
            out += spread if scale is None else spread * scale


def _indices(read: Read, name: str) -> Tensor:
    found = read.found[name]
    assert isinstance(found, Maximum)
    return found.indices


def _slabs(x: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Groups of images with a buffer of their shape and layout: cache-sized on a CPU, the whole batch elsewhere."""
    n = len(x)
    step = max(1, _SLAB * torch.get_num_threads() * n // max(x.numel(), 1)) if x.device.type == "cpu" else n
    buffer = torch.empty_like(x[:step], dtype=wide(x.dtype))
    for start in range(0, n, step):
        yield slice(start, min(start + step, n)), buffer[: n - start]
