"""ELA: efficient local attention, along rows and along columns."""

import math
from typing import Any, Unpack

from torch import Tensor, nn
from torch.nn import functional as F

from recalib.attention.base import BroadcastAttention, Factory, Shapes, convolved
from recalib.errors import RecalibError
from recalib.ops import Gates, Statistics


class ELA(BroadcastAttention):
    """Efficient Local Attention from Xu and Wan 2024, https://arxiv.org/abs/2403.01123, its form ELA-B.

    ``y = x * g(z_h) * g(z_w)`` with ``g(z) = sigmoid(GroupNorm(conv1d_7(z)))``, depth-wise and without bias. Copies of
    it disagree; as in the paper's listing, rows and columns share the convolution and the norm, which has 16 groups
    (where C is no multiple of 16, the largest number that divides both).

    Args:
        channels: C.
        kernel_size: of the convolution, odd.
        identity: start as the exact identity.
        **factory: device and dtype of the parameters.
    """

    title = "Efficient Local Attention"
    formula = "y = x·g(z_h)·g(z_w), g(z) = σ(GN(dwconv1d₇(z)))"
    paper = "Xu 2024, arXiv:2403.01123"
    planar = True
    reads = ("row_mean", "column_mean")

    def __init__(self, channels: int, kernel_size: int = 7, identity: bool = False, **factory: Unpack[Factory]) -> None:
        super().__init__(channels, identity, **factory)
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise RecalibError(f"kernel_size={kernel_size}: ELA takes an odd number")
        same: dict[str, Any] = {"padding": kernel_size // 2, "groups": channels, "bias": False}
        self.conv = nn.Conv1d(channels, channels, kernel_size, **same, **factory)
        self.norm = nn.GroupNorm(math.gcd(channels, 16), channels, **factory)

    def gates(self, s: Statistics) -> Gates:
        """Of rows (N, C, H, 1) and of columns (N, C, 1, W)."""
        assert s.row_mean is not None
        assert s.column_mean is not None
        return Gates((self._along(s.row_mean).unsqueeze(3), self._along(s.column_mean).unsqueeze(2)))

    def _along(self, z: Tensor) -> Tensor:
        weight, bias = self.norm.weight.to(z.dtype), self.norm.bias.to(z.dtype)
        return F.group_norm(convolved(self.conv, z), self.norm.num_groups, weight, bias, self.norm.eps).sigmoid()

    @classmethod
    def told_by(cls, shapes: Shapes) -> dict[str, Any]:
        """A depth-wise convolution and a norm."""
        channels, _, k = shapes["conv.weight"]
        _ = shapes["norm.weight"]
        return {"channels": channels, "kernel_size": k}
