"""Gates at inference: what a site computes, from the map itself or from the input of the convolution before it.

With the batch norm folded, the map is u = A * h + b. The mean of u is then a linear function of means of h, so a gate
that looks at means alone can be known before the convolution has run, and its first layer folds into A exactly.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recalib.attention import Attention
from recalib.deploy.graph import constant
from recalib.deploy.layers import Layers, operand
from recalib.ops import Moments, moments
from recalib.ops.contract import wide

Pool = Callable[[Tensor], Tensor]


class Gate(nn.Module):
    """Pooling and processing of a site: from a map to the scale or shift (N, C, 1, 1) of the site.

    Args:
        attention: what the site has.
        pool: how a map (N, C, H, W) becomes its means (N, C) in the target's runtime.
    """

    def __init__(self, attention: Attention, pool: Pool) -> None:
        super().__init__()
        self.attention = attention
        self.pool = pool

    def forward(self, u: Tensor) -> Tensor:
        """Scale or shift of the map u (N, C, H, W)."""
        if self.attention.needs_variance:
            statistics = moments(u, variance=True)
        else:
            statistics = Moments(self.pool(u), None, u.shape[2] * u.shape[3])
        return operand(self.attention.affine(statistics))[:, :, None, None].to(u.dtype)


class GateFirst(nn.Module):
    """The same from the input h (N, C_in, H, W) of the convolution that makes the map u = A * h + b.

    1x1: ``mean(u) = A mean(h) + b``. 3x3 with a border of zeros: nine shifted means of h, one a tap, in place of one.
    The gate's first layer W is folded with it, exactly: ``W (A m + b) + c = (W A) m + (W b + c)``.

    Args:
        layers: a gate on means, taken apart.
        conv: 1x1, or 3x3 with padding 1; stride 1, batch norm folded.
        pool: as for `Gate`.
    """

    def __init__(self, layers: Layers, conv: nn.Conv2d, pool: Pool) -> None:
        super().__init__()
        self.pool = pool if conv.kernel_size == (1, 1) else tap_means
        self.widths = layers.widths
        self.rest = layers.rest
        a = conv.weight.detach().flatten(1).cpu().double()
        b = a.new_zeros(len(a)) if conv.bias is None else conv.bias.detach().cpu().double()
        self.weight = constant((layers.weight @ a).to(conv.weight))
        self.bias = constant((layers.weight @ b + layers.bias).to(conv.weight))

    def forward(self, h: Tensor) -> Tensor:
        """Scale or shift (N, C, 1, 1) of the map that the convolution will make of h."""
        return self.values(h)[:, :, None, None].to(h.dtype)

    def values(self, h: Tensor) -> Tensor:
        """The same as (N, C), in the precision of the means."""
        mean = self.pool(h)
        z = F.linear(mean, self.weight.to(mean.dtype), self.bias.to(mean.dtype))
        values: Tensor = self.rest(*z.split(self.widths, 1))
        return values


def means(x: Tensor) -> Tensor:
    """Means (N, C) of a map, summed and kept in at least float32."""
    return x.mean((2, 3), dtype=_widened(x))


def _widened(x: Tensor) -> torch.dtype | None:
    """For sums over x to be taken in `wide` without a copy of x; None, no cast in a graph, where x is wide already."""
    return None if x.dtype == wide(x.dtype) else wide(x.dtype)


def tap_means(h: Tensor) -> Tensor:
    """Mean of h (N, C, H, W) under each tap of a 3x3 convolution with padding 1: (N, 9 C), taps innermost.

    A tap off the centre misses a border row, a border column, or both, whose corner is then missed twice. Summed and
    kept in at least float32, as `means` are.
    """
    size, dtype = h.shape[2] * h.shape[3], _widened(h)
    total = h.sum((2, 3), dtype=dtype)
    # missed by the upper, middle and lower taps
    rows = (h[:, :, -1].sum(2, dtype=dtype), None, h[:, :, 0].sum(2, dtype=dtype))
    columns = (h[:, :, :, -1].sum(2, dtype=dtype), None, h[:, :, :, 0].sum(2, dtype=dtype))
    taps = []
    for y, row in enumerate(rows):
        for x, column in enumerate(columns):
            seen = total if row is None else total - row
            seen = seen if column is None else seen - column
            if row is not None and column is not None:
                seen = seen + h[:, :, (-1, 0, 0)[y], (-1, 0, 0)[x]]
            taps.append(seen)
    return torch.stack(taps, 2).flatten(1) / size


def kind(attention: Attention) -> Literal["scale", "shift", "both"]:
    """The integration of a gate, seen from what it makes of the moments of a black map."""
    p = next(attention.parameters(), torch.empty(0))
    zeros = torch.zeros(1, attention.channels, device=p.device, dtype=p.dtype)
    with torch.no_grad():
        scale, shift = attention.affine(Moments(zeros, zeros, 4))
    if scale is None:
        return "shift"
    return "scale" if shift is None else "both"
