"""Gates at inference: what a site computes, from the map itself or from the input of the convolution before it.

With the batch norm folded, the map is u = A * h + b. The mean of u is then a linear function of means of h, so a gate
that looks at means alone can be known before the convolution has run, and its first layer folds into A exactly.
"""

from collections.abc import Callable
from functools import singledispatch
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recalib import attention as mechanisms
from recalib.attention import Attention
from recalib.attention.base import linear
from recalib.deploy.graph import constant
from recalib.ops import Affine, Moments, moments
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
        attention: a gate on means whose `first_layer` is known.
        conv: 1x1, or 3x3 with padding 1; stride 1, batch norm folded.
        pool: as for `Gate`.
    """

    def __init__(self, attention: Attention, conv: nn.Conv2d, pool: Pool) -> None:
        super().__init__()
        self.attention = attention
        self.pool = pool if conv.kernel_size == (1, 1) else tap_means
        weight, bias = first_layer(attention)
        a = conv.weight.detach().flatten(1).double()
        b = a.new_zeros(len(a)) if conv.bias is None else conv.bias.detach().double()
        self.weight = constant((weight.double() @ a).to(conv.weight))
        self.bias = constant((weight.double() @ b + bias.double()).to(conv.weight))

    def forward(self, h: Tensor) -> Tensor:
        """Scale or shift (N, C, 1, 1) of the map that the convolution will make of h."""
        return self.values(h)[:, :, None, None].to(h.dtype)

    def values(self, h: Tensor) -> Tensor:
        """The same as (N, C), in the precision of the means."""
        mean = self.pool(h)
        return behind(self.attention, F.linear(mean, self.weight.to(mean.dtype), self.bias.to(mean.dtype)))


def means(x: Tensor) -> Tensor:
    """Means (N, C) of a map, summed and kept in at least float32."""
    return x.mean((2, 3), dtype=_widened(x))


def _widened(x: Tensor) -> torch.dtype | None:
    """For sums over x to be taken in `wide` without a copy of x; None, no cast in a graph, where x is wide already."""
    return None if x.dtype == wide(x.dtype) else wide(x.dtype)


def tap_means(h: Tensor) -> Tensor:
    """What each tap of a 3x3 convolution with padding 1 sees of h (N, C, H, W) on average: (N, 9 C), taps innermost.

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


def operand(affine: Affine) -> Tensor:
    """The one of scale and shift that there is."""
    found = affine.shift if affine.scale is None else affine.scale
    assert found is not None
    return found


def kind(attention: Attention) -> Literal["scale", "shift", "both"]:
    """What a gate integrates by; seen from what it makes of the moments of a black map."""
    p = next(attention.parameters(), torch.empty(0))
    zeros = torch.zeros(1, attention.channels, device=p.device, dtype=p.dtype)
    with torch.no_grad():
        scale, shift = attention.affine(Moments(zeros, zeros, 4))
    if scale is None:
        return "shift"
    return "scale" if shift is None else "both"


@singledispatch
def first_layer(attention: Attention) -> tuple[Tensor, Tensor]:
    """First layer of a gate on means: weight (K, C) and bias (K,), with ``gate(m) = behind(weight @ m + bias)``.

    Raises:
        NotImplementedError: for a gate that nobody has described here; `is_known` asks.
    """
    raise NotImplementedError(type(attention).__name__)


@singledispatch
def behind(attention: Attention, z: Tensor) -> Tensor:
    """Scale (N, C) of a gate from what its first layer gives, z (N, K); a sigmoid for most."""
    return blended(attention, z.sigmoid())


def is_known(attention: Attention) -> bool:
    """Whether a gate can be computed before the convolution: its mechanism, not a subclass, is described below."""
    return type(attention) in first_layer.registry


def blended(attention: Attention, scale: Tensor) -> Tensor:
    """The scale after the blend of an identity start, if there is one."""
    return scale if attention.blend is None else attention.blend(scale)


def _biased(layer: nn.Linear) -> tuple[Tensor, Tensor]:
    weight = layer.weight.detach()
    return weight, weight.new_zeros(len(weight)) if layer.bias is None else layer.bias.detach()


def _elementwise(weight: Tensor) -> tuple[Tensor, Tensor]:
    return torch.diag(weight.detach()), torch.zeros_like(weight)


@first_layer.register
def _(attention: mechanisms.AB) -> tuple[Tensor, Tensor]:
    return _elementwise(attention.weight)


@behind.register
def _(attention: mechanisms.AB, z: Tensor) -> Tensor:
    return z


@first_layer.register
def _(attention: mechanisms.SEVar2) -> tuple[Tensor, Tensor]:
    return _elementwise(attention.weight)


@first_layer.register(mechanisms.SEVar1)
@first_layer.register(mechanisms.GE)
def _(attention: Attention) -> tuple[Tensor, Tensor]:
    return _elementwise(torch.ones(attention.channels))


@first_layer.register
def _(attention: mechanisms.SEVar3) -> tuple[Tensor, Tensor]:
    return _biased(attention.fc)


@first_layer.register
def _(attention: mechanisms.ECA) -> tuple[Tensor, Tensor]:
    k, C = attention.kernel_size, attention.channels
    taps = attention.conv.weight.detach()[:, 0].expand(C, k)  # one kernel for all channels, or one each
    band = taps.new_zeros(C, C + k - 1)
    for tap in range(k):
        band.diagonal(tap)[:C].copy_(taps[:, tap])
    return band[:, k // 2 : k // 2 + C], taps.new_zeros(C)


first_layer.register(mechanisms.ECANS, first_layer.registry[mechanisms.ECA])


@first_layer.register
def _(attention: mechanisms.SE) -> tuple[Tensor, Tensor]:
    return _biased(attention.fc1)


@behind.register
def _(attention: mechanisms.SE, z: Tensor) -> Tensor:
    return blended(attention, linear(attention.fc2, z.relu()).sigmoid())


@first_layer.register
def _(attention: mechanisms.MultiSE) -> tuple[Tensor, Tensor]:
    hidden, assign = _biased(attention.fc1), _biased(attention.assign)
    return torch.cat([hidden[0], assign[0]]), torch.cat([hidden[1], assign[1]])


@behind.register
def _(attention: mechanisms.MultiSE, z: Tensor) -> Tensor:
    return blended(
        attention, attention.second(z[:, : -attention.branches].relu(), z[:, -attention.branches :].softmax(1))
    )
