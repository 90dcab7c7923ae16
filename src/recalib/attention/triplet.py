"""Triplet attention: one gate for each plane of the map."""

from typing import Any, Unpack

from torch import nn

from recalib.attention.base import BroadcastAttention, Factory, Shapes
from recalib.attention.cbam import of_plane, pixel_gate
from recalib.ops import Gates, Statistics


class Triplet(BroadcastAttention):
    """Triplet Attention from Misra et al. 2021, https://arxiv.org/abs/2010.03045.

    ``y = x * (s(g_hw) + s(g_cw) + s(g_ch)) / 3``, each ``g = BN(conv7x7[maximum; mean])`` of the map pooled over the
    axis that its plane lacks. As in the authors' code the norms start with weight 0 and have momentum 0.01.

    Args:
        channels: C; no parameter depends on it.
        kernel_size: of the convolutions, odd.
        identity: start as the exact identity.
        **factory: device and dtype of the parameters.
    """

    title = "Triplet Attention"
    formula = "y = x·(σ(g_HW) + σ(g_CW) + σ(g_HC))/3, g = BN(conv₇[max; mean])"
    paper = "Misra 2021, arXiv:2010.03045"
    planar = True
    reads = ("pixel_mean", "pixel_maximum", "row_mean", "row_maximum", "column_mean", "column_maximum")

    def __init__(self, channels: int, kernel_size: int = 7, identity: bool = False, **factory: Unpack[Factory]) -> None:
        super().__init__(channels, identity, **factory)
        self.hw, self.cw, self.hc = (_Plane(kernel_size, **factory) for _ in range(3))

    def gates(self, s: Statistics) -> Gates:
        """Of pixels, columns and rows; the last plane is (H, C), as its authors turn it."""
        assert s.row_maximum is not None
        assert s.row_mean is not None
        pixels = of_plane(s.pixel_maximum, s.pixel_mean, self.hw)
        columns = of_plane(s.column_maximum, s.column_mean, self.cw)  # (N, 1, C, W)
        rows = of_plane(s.row_maximum.mT, s.row_mean.mT, self.hc)  # (N, 1, H, C)
        return Gates((pixels, columns.transpose(1, 2), rows.permute(0, 3, 2, 1)), "mean")

    @classmethod
    def told_by(cls, shapes: Shapes) -> dict[str, Any]:
        """Three convolutions over planes, for any number of channels."""
        _, _, _, k = shapes["hw.conv.weight"]
        return {"channels": 1, "kernel_size": k}


class _Plane(nn.Module):
    def __init__(self, kernel_size: int, **factory: Unpack[Factory]) -> None:
        super().__init__()
        self.conv, self.bn = pixel_gate(kernel_size, **factory)
