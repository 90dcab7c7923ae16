"""CBAM: a gate of channels, then one of pixels."""

from typing import Any, Unpack

import torch
from torch import Tensor, nn

from recalib.attention.base import BroadcastAttention, Factory, Shapes, convolved, linear, normalized
from recalib.attention.se import hidden_width, reduction_of
from recalib.ops import Gates, Statistics, Step


class CBAM(BroadcastAttention):
    """Convolutional Block Attention Module from Woo et al. 2018, https://arxiv.org/abs/1807.06521.

    ``x1 = x * sigmoid(F(m) + F(M))`` with ``F = W2 relu(W1 . + b1) + b2``, then ``y = x1 * sigmoid(BN(conv7x7[a; b]))``
    with a and b the maximum and the mean of x1 over the channels of each pixel. As in the authors' code the norm starts
    with weight 0, so that the second gate starts at 1/2, and has momentum 0.01.

    Args:
        channels: C.
        reduction: r; the hidden layer has max(1, C // r) units.
        kernel_size: of the convolution over pixels, odd.
        identity: start as the exact identity.
        **factory: device and dtype of the parameters.
    """

    title = "Convolutional Block Attention Module"
    formula = "y = x₁·σ(BN(conv₇[a(x₁); b(x₁)])), x₁ = x·σ(F(m) + F(M))"
    paper = "Woo 2018, arXiv:1807.06521"
    planar = True

    def __init__(
        self,
        channels: int,
        reduction: int = 16,
        kernel_size: int = 7,
        identity: bool = False,
        **factory: Unpack[Factory],
    ) -> None:
        super().__init__(channels, identity, **factory)
        hidden = hidden_width(channels, reduction)
        self.fc1 = nn.Linear(channels, hidden, **factory)
        self.fc2 = nn.Linear(hidden, channels, **factory)
        self.conv, self.bn = pixel_gate(kernel_size, **factory)

    def steps(self) -> tuple[Step, ...]:
        """Channels first; the pixels' statistics are of the map that they have scaled."""
        return (
            Step(("mean", "maximum"), self._of_channels, of_channels=True),
            Step(("pixel_mean", "pixel_maximum"), lambda s: Gates((of_plane(s.pixel_maximum, s.pixel_mean, self),))),
        )

    def _of_channels(self, s: Statistics) -> Gates:
        assert s.mean is not None
        assert s.maximum is not None
        z = sum(linear(self.fc2, linear(self.fc1, t).relu()) for t in (s.mean, s.maximum))
        return Gates((torch.sigmoid(torch.as_tensor(z))[:, :, None, None],))

    @classmethod
    def told_by(cls, shapes: Shapes) -> dict[str, Any]:
        """Two layers and a convolution over pixels."""
        hidden, channels = shapes["fc1.weight"]
        _, _, _, k = shapes["conv.weight"]
        return {"channels": channels, "reduction": reduction_of(channels, hidden), "kernel_size": k}


def pixel_gate(kernel_size: int, **factory: Unpack[Factory]) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    """A convolution of the maximum and the mean of a plane, and its norm, whose weight starts at 0."""
    conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False, **factory)
    bn = nn.BatchNorm2d(1, momentum=0.01, **factory)
    nn.init.zeros_(bn.weight)
    return conv, bn


def of_plane(maximum: Tensor | None, mean: Tensor | None, layers: Any) -> Tensor:
    """Gate (N, 1, A, B) of a plane from its maximum and mean (N, A, B), by a module's ``conv`` and ``bn``."""
    assert maximum is not None
    assert mean is not None
    return normalized(layers.bn, convolved(layers.conv, torch.stack([maximum, mean], 1))).sigmoid()
