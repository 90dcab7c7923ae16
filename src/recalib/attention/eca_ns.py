"""ECA-NS: efficient channel attention with a kernel of each channel's own."""

from typing import Any, Literal, Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recalib.attention.base import Attention, Factory, Shapes
from recalib.attention.eca import ECA, odd_kernel
from recalib.ops import Affine, Moments


class ECANS(ECA):
    """ECA-NS from Wang et al. 2020, https://arxiv.org/abs/1910.03151: kernels not shared between channels.

    ``y = x * sigmoid(sum_j w_cj * m_(c+j))``: a band matrix with k*C parameters (the paper's W_k).

    Args:
        channels: C.
        kernel_size: k, as in `ECA`.
        identity: start as the exact identity.
        **factory: device and dtype of the parameters.
    """

    title = "ECA, kernels not shared"
    formula = "y = x·σ(Σ_j w_cj·m_c+j)"

    def __init__(
        self,
        channels: int,
        kernel_size: int | Literal["adaptive"] = 3,
        identity: bool = False,
        **factory: Unpack[Factory],
    ) -> None:
        Attention.__init__(self, channels, identity, **factory)
        self.circular = False
        k = odd_kernel(kernel_size, channels)
        self.conv = nn.Conv1d(channels, channels, k, groups=channels, bias=False, **factory)

    def gate(self, moments: Moments) -> Affine:
        """Scale of shape (N, C)."""
        k = self.kernel_size
        neighbours = F.pad(moments.mean, (k // 2, k // 2)).unfold(1, k, 1)  # (N, C, k)
        weight: Tensor = self.conv.weight.squeeze(1).to(moments.mean.dtype)
        return Affine(torch.sum(neighbours * weight, 2).sigmoid())

    kernel = ECA.kernel

    @classmethod
    def told_by(cls, shapes: Shapes) -> dict[str, Any]:
        """One kernel a channel."""
        channels, _, k = shapes["conv.weight"]
        if channels == 1:
            raise ValueError("one kernel is ECA's")
        return {"channels": channels, "kernel_size": k}
