"""The wider law in few passes over the map, forward and backward; see `recalib.ops.broadcast` for the plain form.

    forward     observe          reads x, once a step         -> statistics
                apply            reads x                      -> y = x * (w * G + b)
    backward    reduce           reads dy, x                  -> gradients of the gates and of the blend
                unscale          reads x, for a second step   -> gradient of the first step's gate by the second's reads
                differentiate    reads dy, x                  -> dx

So two passes forward and two backward for one step, three and three for two. What stands between them is small and is
differentiated by autograd in a graph of its own, from the statistics to the gates. Saved for backward: x, and small
tensors; the plain form saves a map for each of its operators.

On a CPU each pass goes slab by slab, so that its elementary steps meet in the cache. Maxima pass their gradient to one
of the pixels that have them, as pooling does. There is no second derivative.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recalib.ops.contract import wide

_SLAB = 2**18  # values a thread: 1 MiB of float32


class Maximum(NamedTuple):
    """A maximum and where it was.

    Attributes:
        values: of the shape of the statistic.
        indices: along the axis that was reduced.
    """

    values: Tensor
    indices: Tensor


AXES = {"row_mean": 3, "row_maximum": 3, "column_mean": 2, "column_maximum": 2, "pixel_mean": 1, "pixel_maximum": 1}
OF_MAP = ("mean", "variance", "maximum")
MAXIMA = ("maximum", "row_maximum", "column_maximum", "pixel_maximum")


def observe(x: Tensor, scale: Tensor | None, reads: Sequence[str]) -> dict[str, Tensor | Maximum]:
    """Statistics of ``scale * x`` by name, in at least float32.

    Args:
        x: map (N, C, H, W).
        scale: (N, C) or None for 1; with pixels' statistics only.
        reads: names of statistics.
    """
    parts: list[dict[str, Tensor | Maximum]] = []
    for images, work in _slabs(x):
        torch.mul(x[images], _channels(scale, images), out=work) if scale is not None else work.copy_(x[images])
        parts.append(_observed(work, reads))
    return {name: _joined([part[name] for part in parts]) for name in parts[0]}


def _observed(x: Tensor, reads: Sequence[str]) -> dict[str, Tensor | Maximum]:
    found: dict[str, Tensor | Maximum] = {}
    for name in reads:
        if name in AXES:
            found[name] = Maximum(*x.max(AXES[name])) if name in MAXIMA else x.mean(AXES[name])
    if "maximum" in reads:
        found["maximum"] = Maximum(*x.flatten(2).max(2))
    if "mean" in reads or "variance" in reads:
        found["mean"] = mean = x.mean((2, 3))
        if "variance" in reads:
            found["variance"] = x.sub_(mean[:, :, None, None]).square_().mean((2, 3))  # last: x is ours
    return found


def _joined(parts: list[Any]) -> Tensor | Maximum:
    if isinstance(parts[0], Maximum):
        return Maximum(torch.cat([p.values for p in parts]), torch.cat([p.indices for p in parts]))
    return torch.cat(parts)


class Law(NamedTuple):
    """The gates of all steps together.

    Attributes:
        factors: broadcast against the map; for a mean, of the one step that there is.
        mean: whether G is their mean, not their product.
        slope: of gates of the pixels' own, (N, C); or None.
        centre: (N, C), with slope.
        offset: with slope.
        weight: w of the blend, (C,); or None.
        bias: b of the blend, (C,), with weight.
    """

    factors: tuple[Tensor, ...]
    mean: bool = False
    slope: Tensor | None = None
    centre: Tensor | None = None
    offset: float = 0.0
    weight: Tensor | None = None
    bias: Tensor | None = None

    def whole(self, x: Tensor, images: slice) -> Tensor:
        """G for some images, broadcastable; x are those images."""
        if self.slope is not None:
            d = (x - _channels(self.centre, images)).square_()
            return d.mul_(_channels(self.slope, images)).add_(self.offset).sigmoid_()
        first, *others = (factor[images] for factor in self.factors)
        for factor in others:
            first = first + factor if self.mean else first * factor
        return first / len(self.factors) if self.mean else first

    def without(self, k: int, images: slice) -> Tensor | float:
        """Derivative of G by its factor k."""
        if self.mean:
            return 1 / len(self.factors)
        rest: Tensor | float = 1.0
        for i, factor in enumerate(self.factors):
            rest = rest if i == k else factor[images] * rest
        return rest

    def blended(self, whole: Tensor) -> Tensor:
        """W * G + b."""
        if self.weight is None:
            return whole
        return torch.addcmul(self.bias[:, None, None], whole, self.weight[:, None, None])  # type: ignore[index]


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
            d = x[images] - _channels(law.centre, images)
            dz = work.mul_(whole).mul_(1 - whole)
            gradients[1][images] = (dz * d).sum((2, 3)) * law.slope[images] * -2
            gradients[0][images] = dz.mul_(d).mul_(d).sum((2, 3))
            continue
        for k, gradient in enumerate(gradients):
            axes = [axis for axis in (1, 2, 3) if gradient.shape[axis] == 1]
            gradient[images] = (work * law.without(k, images)).sum(axes, keepdim=True)
    return gradients, d_weight, d_bias


class Read(NamedTuple):
    """What `observe` gave a step, and the gradients of it."""

    scale: Tensor | None
    found: dict[str, Tensor | Maximum]
    gradients: dict[str, Tensor]


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
            d = x[images] - _channels(law.centre, images)
            dz = (dy[images] * x[images]).to(whole.dtype).mul_(whole).mul_(1 - whole)
            dz = dz if law.weight is None else dz.mul_(law.weight[:, None, None])
            work.addcmul_(dz.mul_(d), _channels(law.slope, images), value=2)
        for read in reads:
            _through(read, x[images], images, work)
        dx[images] = work
    return dx


def _through(read: Read, x: Tensor, images: slice, out: Tensor) -> None:
    """Add to the gradient of some images what a read passes on."""
    size, scale = x.shape[2] * x.shape[3], None if read.scale is None else _channels(read.scale, images)
    for name, whole in read.gradients.items():
        gradient = whole[images]
        if name == "mean":
            out += gradient[:, :, None, None] / size
        elif name == "variance":
            mean = read.found["mean"]
            assert isinstance(mean, Tensor)
            slope = gradient[:, :, None, None] * (2 / size)
            out += (x - mean[images][:, :, None, None]).mul_(slope)
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


def _channels(t: Tensor | None, images: slice) -> Tensor:
    assert t is not None
    return t[images, :, None, None]


def _slabs(x: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Groups of images with a buffer of their shape and layout: cache-sized on a CPU, the whole batch elsewhere."""
    n = len(x)
    step = max(1, _SLAB * torch.get_num_threads() * n // max(x.numel(), 1)) if x.device.type == "cpu" else n
    buffer = torch.empty_like(x[:step], dtype=wide(x.dtype))
    for start in range(0, n, step):
        yield slice(start, min(start + step, n)), buffer[: n - start]


class Passes(torch.autograd.Function):
    """The whole law as one node of autograd's graph, with a graph of its own inside."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, plan: Any, *parameters: Tensor) -> Tensor:
        """Args: the map, what makes the gates (see `recalib.ops.broadcast`), and all parameters that it uses."""
        law, inner = plan.forward(x)
        ctx.plan, ctx.inner, ctx.law, ctx.parameters = plan, inner, law, parameters
        ctx.save_for_backward(x)
        return apply(x, law)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the map and of every parameter."""
        (x,) = ctx.saved_tensors
        dx, gradients = ctx.plan.backward(dy, x, ctx.law, ctx.inner, ctx.parameters)
        return dx, None, *gradients
