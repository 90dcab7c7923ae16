"""SGE: spatial group-wise enhance."""

import math
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from recalib.attention.base import Factory, PlainAttention, Shapes
from recalib.ops.contract import wide


class SGE(PlainAttention):
    """Spatial Group-wise Enhance from Li et al. 2019, https://arxiv.org/abs/1905.09646.

    Each group of channels has a gate for each pixel: ``t = sum_c x_c m_c``, centred and divided by its unbiased
    standard deviation over H and W plus 1e-5, then ``y = x * sigmoid(w_g t + b_g)``, with w = 0 and b = 1 at the start.

    The map is read for m, again for t, and once more for y: three passes, as plain operators.

    Args:
        channels: C.
        groups: G; where C has no G equal groups, the largest number that divides both.
        identity: start as the exact identity.
        **factory: device and dtype of the parameters.
    """

    title = "Spatial Group-wise Enhance"
    formula = "y = x·σ(w_g·t̂ + b_g), t = Σ_c∈g x_c·m_c"
    paper = "Li 2019, arXiv:1905.09646"

    def __init__(self, channels: int, groups: int = 64, identity: bool = False, **factory: Unpack[Factory]) -> None:
        super().__init__(channels, identity, **factory)
        self.groups = math.gcd(channels, groups)
        self.weight = nn.Parameter(torch.zeros(self.groups, **factory))
        self.bias = nn.Parameter(torch.ones(self.groups, **factory))

    def recalibrated(self, x: Tensor) -> Tensor:
        """The map x (N, C, H, W), each group's pixels scaled."""
        grouped = x.to(wide(x.dtype)).unflatten(1, (self.groups, -1))  # (N, G, C/G, H, W)
        t = (grouped * grouped.mean((3, 4), keepdim=True)).sum(2)
        t = t - t.mean((2, 3), keepdim=True)
        spread = t.square().sum((2, 3), keepdim=True) / max(t.shape[2] * t.shape[3] - 1, 1)
        t = t / (spread.sqrt() + 1e-5)
        weight, bias = (p.to(t.dtype)[:, None, None] for p in (self.weight, self.bias))
        scale = torch.addcmul(bias, t, weight).sigmoid()
        return (x.unflatten(1, (self.groups, -1)) * scale.unsqueeze(2).to(x.dtype)).flatten(1, 2)

    @classmethod
    def told_by(cls, shapes: Shapes) -> dict[str, Any]:
        """Two numbers a group."""
        (groups,) = shapes["bias"]
        return {"channels": groups, "groups": groups}
