"""Coordinate attention: a gate of rows and one of columns."""

from typing import Any, Unpack

import torch
from torch import nn
from torch.nn import functional as F

from recalib.attention.base import BroadcastAttention, Factory, Place, Shapes, convolved, normalized
from recalib.errors import RecalibError
from recalib.ops import Gates, Statistics


class Coord(BroadcastAttention):
    """Coordinate Attention from Hou et al. 2021, https://arxiv.org/abs/2103.02907.

    ``y = x * sigmoid(W_h f_h) * sigmoid(W_w f_w)``: the means of rows and of columns go, one behind the other, through
    a common layer to max(8, C // r) channels, norm and h-swish; f_h and f_w are its two parts.

    Args:
        channels: C.
        reduction: r.
        identity: start as the exact identity.
        **factory: device and dtype of the parameters.
    """

    title = "Coordinate Attention"
    formula = "y = x·σ(W_h·f_h)·σ(W_w·f_w), [f_h; f_w] = hswish(BN(W·[z_h; z_w]))"
    paper = "Hou 2021, arXiv:2103.02907"
    planar = True
    authors = Place(r"(.*\.)?(features\.(?!1\.)\d+\.conv\.2|blocks\.\d+\.\d+\.conv_pwl)", "before")  # MobileNetV2's
    reads = ("row_mean", "column_mean")

    def __init__(self, channels: int, reduction: int = 32, identity: bool = False, **factory: Unpack[Factory]) -> None:
        super().__init__(channels, identity, **factory)
        if reduction < 1:
            raise RecalibError(f"reduction={reduction}: the channels are divided by a number of at least 1")
        hidden = max(8, channels // reduction)
        self.conv = nn.Conv1d(channels, hidden, 1, **factory)
        self.bn = nn.BatchNorm1d(hidden, **factory)
        self.conv_h = nn.Conv1d(hidden, channels, 1, **factory)
        self.conv_w = nn.Conv1d(hidden, channels, 1, **factory)

    def gates(self, s: Statistics) -> Gates:
        """Of rows (N, C, H, 1) and of columns (N, C, 1, W)."""
        assert s.row_mean is not None
        assert s.column_mean is not None
        f = F.hardswish(normalized(self.bn, convolved(self.conv, torch.cat([s.row_mean, s.column_mean], 2))))
        f_h, f_w = f.split(list(s.size), 2)
        rows, columns = convolved(self.conv_h, f_h).sigmoid(), convolved(self.conv_w, f_w).sigmoid()
        return Gates((rows.unsqueeze(3), columns.unsqueeze(2)))

    @classmethod
    def told_by(cls, shapes: Shapes) -> dict[str, Any]:
        """The common layer, and back."""
        hidden, channels, _ = shapes["conv.weight"]
        _ = shapes["conv_h.weight"]
        return {"channels": channels, "reduction": 32 if max(8, channels // 32) == hidden else channels // hidden}
