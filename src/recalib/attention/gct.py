"""GCT: gated channel transformation (not the Gaussian context transformer, which shares the letters)."""

from typing import Any, Literal, Unpack

import torch
from torch import nn

from recalib.attention.base import Attention, Factory, Shapes
from recalib.attention.gct_l1 import GCTL1
from recalib.errors import RecalibError
from recalib.ops import Affine, Moments
from recalib.ops.gates import Kernel


def gct(
    channels: int,
    mode: Literal["l2", "l1"] = "l2",
    after_relu: bool = False,
    eps: float = 1e-5,
    identity: bool = False,
    **factory: Unpack[Factory],
) -> nn.Module:
    """Gated Channel Transformation in either norm.

    Args:
        channels: C.
        mode: ``"l2"``, a gate on moments, or ``"l1"``, whose sum of absolute values is not a function of them.
        after_relu: the map is known to be non-negative, which spares l1 its absolute value.
        eps: epsilon under both roots.
        identity: accepted for uniformity; the module starts as the identity anyway.
        **factory: device and dtype of the parameters.

    Raises:
        RecalibError: for another mode.
    """
    if mode == "l2":
        return GCT(channels, eps, identity, **factory)
    if mode == "l1":
        return GCTL1(channels, after_relu, eps, identity, **factory)
    raise RecalibError(f"mode={mode!r}: GCT takes 'l2' or 'l1'")


class GCT(Attention):
    """Gated Channel Transformation from Yang et al. 2020, https://arxiv.org/abs/1909.11519, l2 norm.

    Global context embedding ``e = alpha * sqrt(sum x^2 + eps)``, channel normalization ``n = gamma * e / sqrt(mean_c
    e^2 + eps)``, gating adaptation ``y = x * (1 + tanh(n + beta))``. Starts as the identity; beta is not decayed. The
    sum of squares runs over H and W, so it depends on the resolution and is taken in float32.

    Args:
        channels: C.
        eps: epsilon under both roots.
        identity: accepted for uniformity; the module starts as the identity anyway.
        **factory: device and dtype of the parameters.
    """

    title = "Gated Channel Transformation"
    formula = "y = x·(1 + tanh(γ·e/√mean_c(e²) + β)), e = α·√(HW·(v + m²))"
    paper = "Yang 2020, arXiv:1909.11519"
    identity_at_start = True
    needs_variance = True
    no_weight_decay = frozenset({"beta"})

    def __init__(self, channels: int, eps: float = 1e-5, identity: bool = False, **factory: Unpack[Factory]) -> None:
        super().__init__(channels, identity, **factory)
        self.eps = eps
        self.alpha = nn.Parameter(torch.ones(channels, **factory))
        self.gamma = nn.Parameter(torch.zeros(channels, **factory))
        self.beta = nn.Parameter(torch.zeros(channels, **factory))

    def gate(self, moments: Moments) -> Affine:
        """Scale of shape (N, C)."""
        assert moments.variance is not None
        squares = moments.size * torch.addcmul(moments.variance, moments.mean, moments.mean)
        e = (squares + self.eps).sqrt() * self.alpha
        norm = (e.square().mean(1, keepdim=True) + self.eps).sqrt()
        return Affine(1 + torch.addcmul(self.beta, e, self.gamma / norm).tanh())

    @classmethod
    def told_by(cls, shapes: Shapes) -> dict[str, Any]:
        """Three parameters a channel; either norm has them, the usual one is taken."""
        (channels,) = shapes["alpha"]
        return {"channels": channels}

    def kernel(self, size: int) -> Kernel:
        """The gate as one kernel; see `recalib.ops.gates`."""
        return Kernel("context", (self.alpha, self.gamma, self.beta), (size, self.eps))
