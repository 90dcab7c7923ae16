"""BAM: bottleneck attention, a branch of channels times a branch of pixels."""

from typing import Any, Unpack

from torch import Tensor, nn

from recalib.attention.base import Factory, Place, PlainAttention, Shapes, convolved, linear, normalized
from recalib.attention.se import hidden_width, reduction_of


class BAM(PlainAttention):
    """Bottleneck Attention Module from Park et al. 2018, https://arxiv.org/abs/1807.06514, as its authors' code has it.

    ``y = x * (1 + sigmoid(Mc * Ms))``: their code multiplies the two where the paper adds. ``Mc = W2 relu(BN(W1 m +
    b1)) + b2``; Ms is a convolution 1x1 to C // r channels, two dilated ones 3x3, each with norm and ReLU, and one 1x1
    to a single channel. Convolutions over the whole map: plain operators, not fused.

    Args:
        channels: C.
        reduction: r; both branches have max(1, C // r) channels inside.
        dilation: of the 3x3 convolutions.
        identity: start as the exact identity.
        **factory: device and dtype of the parameters.
    """

    title = "Bottleneck Attention Module"
    formula = "y = x·(1 + σ(Mc(m)·Ms(x)))"
    paper = "Park 2018, arXiv:1807.06514"
    planar = True
    authors = Place(r"(.*\.)?layer[123]", "after")

    def __init__(
        self,
        channels: int,
        reduction: int = 16,
        dilation: int = 4,
        identity: bool = False,
        **factory: Unpack[Factory],
    ) -> None:
        super().__init__(channels, identity, **factory)
        hidden = hidden_width(channels, reduction)
        self.fc1 = nn.Linear(channels, hidden, **factory)
        self.bn = nn.BatchNorm1d(hidden, **factory)
        self.fc2 = nn.Linear(hidden, channels, **factory)
        dilated: dict[str, Any] = {"padding": dilation, "dilation": dilation, **factory}
        self.convs = nn.ModuleList(
            [nn.Conv2d(channels, hidden, 1, **factory), *(nn.Conv2d(hidden, hidden, 3, **dilated) for _ in range(2))]
        )
        self.bns = nn.ModuleList(nn.BatchNorm2d(hidden, **factory) for _ in range(3))
        self.last = nn.Conv2d(hidden, 1, 1, **factory)

    def recalibrated(self, x: Tensor) -> Tensor:
        """The map x (N, C, H, W), scaled."""
        z = x
        for conv, bn in zip(self.convs, self.bns, strict=True):
            assert isinstance(conv, nn.Conv2d)
            z = normalized(bn, convolved(conv, z)).relu()
        pixels = convolved(self.last, z)
        channels = linear(self.fc2, normalized(self.bn, linear(self.fc1, x.mean((2, 3)))).relu())
        return x * (1 + (channels[:, :, None, None] * pixels).sigmoid())

    @classmethod
    def told_by(cls, shapes: Shapes) -> dict[str, Any]:
        """Two layers and a branch of convolutions; the dilation is not seen."""
        hidden, channels = shapes["fc1.weight"]
        _ = shapes["last.weight"]
        return {"channels": channels, "reduction": reduction_of(channels, hidden)}
