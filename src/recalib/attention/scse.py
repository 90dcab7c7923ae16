"""scSE: a gate of channels and one of pixels, side by side."""

from typing import Any, Unpack

import torch
from torch import Tensor, nn

from recalib.attention.base import Factory, PlainAttention, Shapes, linear
from recalib.attention.se import hidden_width, reduction_of
from recalib.ops.contract import wide


class SCSE(PlainAttention):
    """Concurrent spatial and channel SE from Roy et al. 2018, https://arxiv.org/abs/1803.02579, as in decoders.

    ``y = x * sigmoid(W2 relu(W1 m + b1) + b2) + x * sigmoid(w x + b)``: the sum, as segmentation_models.pytorch takes
    it; some projects take the maximum.

    The map is read for the means, for the pixels' products with w, and for y: three passes, as plain operators.

    Args:
        channels: C.
        reduction: r; the hidden layer has max(1, C // r) units.
        identity: start as the exact identity.
        **factory: device and dtype of the parameters.
    """

    title = "Concurrent spatial and channel SE"
    formula = "y = x·(σ(W₂·relu(W₁·m)) + σ(w·x))"
    paper = "Roy 2018, arXiv:1803.02579"

    def __init__(self, channels: int, reduction: int = 16, identity: bool = False, **factory: Unpack[Factory]) -> None:
        super().__init__(channels, identity, **factory)
        hidden = hidden_width(channels, reduction)
        self.fc1 = nn.Linear(channels, hidden, **factory)
        self.fc2 = nn.Linear(hidden, channels, **factory)
        self.pixel = nn.Linear(channels, 1, **factory)

    def recalibrated(self, x: Tensor) -> Tensor:
        """The map x (N, C, H, W), scaled."""
        values = x.to(wide(x.dtype))
        channels = linear(self.fc2, linear(self.fc1, values.mean((2, 3))).relu()).sigmoid()
        weight, bias = self.pixel.weight[0].to(values.dtype), self.pixel.bias.to(values.dtype)
        pixels = torch.sigmoid(torch.einsum("nchw,c->nhw", values, weight) + bias)
        return x * (channels[:, :, None, None] + pixels.unsqueeze(1)).to(x.dtype)

    @classmethod
    def told_by(cls, shapes: Shapes) -> dict[str, Any]:
        """Two layers and one over pixels."""
        hidden, channels = shapes["fc1.weight"]
        _ = shapes["pixel.weight"]
        return {"channels": channels, "reduction": reduction_of(channels, hidden)}
