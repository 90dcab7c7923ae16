"""GCT with a sum of absolute values, which is not a function of the moments."""

from types import MappingProxyType
from typing import Unpack

import torch
from torch import Tensor, nn

from recalib.attention.base import Factory, PlainAttention


class GCTL1(PlainAttention):
    """Gated Channel Transformation from Yang et al. 2020, https://arxiv.org/abs/1909.11519, l1 norm.

    As `recalib.attention.GCT` with ``e = alpha * sum |x|`` and ``n = gamma * e / (mean_c |e| + eps)``, in float32.

    Args:
        channels: C.
        after_relu: the map is known to be non-negative: sum x in place of the sum of absolute values.
        eps: epsilon of the normalization.
        identity: accepted for uniformity; the module starts as the identity anyway.
        **factory: device and dtype of the parameters.
    """

    title = "Gated Channel Transformation, l1"
    formula = "y = x·(1 + tanh(γ·e/mean_c|e| + β)), e = α·Σ|x|"
    paper = "Yang 2020, arXiv:1909.11519"
    chosen_by = MappingProxyType({"mode": "l1"})
    identity_at_start = True
    no_weight_decay = frozenset({"beta"})

    def __init__(
        self,
        channels: int,
        after_relu: bool = False,
        eps: float = 1e-5,
        identity: bool = False,
        **factory: Unpack[Factory],
    ) -> None:
        super().__init__(channels, identity, **factory)
        self.after_relu = after_relu
        self.eps = eps
        self.alpha = nn.Parameter(torch.ones(channels, **factory))
        self.gamma = nn.Parameter(torch.zeros(channels, **factory))
        self.beta = nn.Parameter(torch.zeros(channels, **factory))

    def recalibrated(self, x: Tensor) -> Tensor:
        """The map x (N, C, H, W), scaled."""
        wide = x.double() if x.dtype == torch.float64 else x.float()
        sums = (wide if self.after_relu else wide.abs()).sum((2, 3))
        e = sums * self.alpha
        size = e if self.after_relu else e.abs()
        norm = size.mean(1, keepdim=True) + self.eps
        scale = 1 + torch.tanh(e * (self.gamma / norm) + self.beta)
        return x * scale.to(x.dtype)[:, :, None, None]
