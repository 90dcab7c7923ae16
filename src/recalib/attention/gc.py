"""GC: global context, added to the map."""

from typing import Any, Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recalib.attention.base import Factory, PlainAttention, Shapes, linear
from recalib.attention.se import hidden_width, reduction_of
from recalib.ops.contract import wide


class GC(PlainAttention):
    """Global Context block from Cao et al. 2019, https://arxiv.org/abs/1904.11492 (Eq. 8).

    ``y = x + W2 relu(LN(W1 c))`` with the context ``c = sum_hw softmax_hw(w x + b) x``. W2 and its bias start at zero,
    so a fresh module is the identity.

    The map is read for the softmax's logits, again for c, and once more for the sum: three passes, as plain operators.

    Args:
        channels: C.
        reduction: r; the hidden layer has max(1, C // r) units.
        identity: accepted for uniformity; the module starts as the identity anyway.
        eps: of the norm.
        **factory: device and dtype of the parameters.
    """

    title = "Global Context"
    formula = "y = x + W₂·relu(LN(W₁·c)), c = Σ_hw softmax_hw(w·x)·x"
    paper = "Cao 2019, arXiv:1904.11492"
    identity_at_start = True

    def __init__(
        self,
        channels: int,
        reduction: int = 16,
        identity: bool = False,
        eps: float = 1e-5,
        **factory: Unpack[Factory],
    ) -> None:
        super().__init__(channels, identity, **factory)
        hidden = hidden_width(channels, reduction)
        self.mask = nn.Linear(channels, 1, **factory)
        self.fc1 = nn.Linear(channels, hidden, **factory)
        self.norm = nn.LayerNorm(hidden, eps, **factory)
        self.fc2 = nn.Linear(hidden, channels, **factory)
        nn.init.zeros_(self.fc2.weight)
        nn.init.zeros_(self.fc2.bias)

    def recalibrated(self, x: Tensor) -> Tensor:
        """The map x (N, C, H, W), shifted."""
        pixels = x.to(wide(x.dtype)).flatten(2)  # (N, C, HW)
        logits = torch.einsum("ncp,c->np", pixels, self.mask.weight[0].to(pixels.dtype)) + self.mask.bias
        context = torch.einsum("ncp,np->nc", pixels, logits.softmax(1))
        hidden = linear(self.fc1, context)
        weight, bias = self.norm.weight.to(hidden.dtype), self.norm.bias.to(hidden.dtype)
        hidden = F.layer_norm(hidden, self.norm.normalized_shape, weight, bias, self.norm.eps).relu()
        return x + linear(self.fc2, hidden)[:, :, None, None].to(x.dtype)

    @classmethod
    def told_by(cls, shapes: Shapes) -> dict[str, Any]:
        """A mask and two layers."""
        _, channels = shapes["mask.weight"]
        return {"channels": channels, "reduction": reduction_of(channels, shapes["fc1.weight"][0])}
