"""ECAM: ECA with a hidden layer, as timm has it."""

from typing import Any, Literal, Unpack

import torch
from torch import nn
from torch.nn import functional as F

from recalib.attention.base import Attention, Factory, Shapes, convolved
from recalib.attention.eca import adaptive_kernel
from recalib.errors import RecalibError
from recalib.ops import Affine, Moments


class ECAM(Attention):
    """ECA with a hidden layer, from timm (``ecam``); https://arxiv.org/abs/1910.03151 has the convolution.

    ``y = x * sigmoid(conv_k(relu(conv_1(m))))``, with biases: each channel's mean becomes C // 8 values, rounded to a
    multiple of 8 as timm rounds; k neighbours' make a gate.

    Args:
        channels: C.
        kernel_size: k, odd; ``"adaptive"``, as in timm, computes it from the channels and is at least 3.
        hidden: values a channel; None for timm's.
        identity: start as the exact identity.
        **factory: device and dtype of the parameters.
    """

    title = "ECA with a hidden layer"
    formula = "y = x·σ(conv1d_k(relu(conv1d_1(m))))"
    paper = "Wightman 2020, timm"

    def __init__(
        self,
        channels: int,
        kernel_size: int | Literal["adaptive"] = "adaptive",
        hidden: int | None = None,
        identity: bool = False,
        **factory: Unpack[Factory],
    ) -> None:
        super().__init__(channels, identity, **factory)
        k = max(adaptive_kernel(channels), 3) if kernel_size == "adaptive" else kernel_size
        if not isinstance(k, int) or k < 1 or k % 2 == 0:
            raise RecalibError(f"kernel_size={kernel_size!r}: ECAM takes an odd number or 'adaptive'")
        width = hidden or _rounded(channels / 8)
        self.conv1 = nn.Conv1d(1, width, 1, **factory)
        self.conv2 = nn.Conv1d(width, 1, k, padding=k // 2, **factory)

    def gate(self, moments: Moments) -> Affine:
        """Scale of shape (N, C)."""
        hidden = F.relu(convolved(self.conv1, moments.mean.unsqueeze(1)))
        return Affine(torch.sigmoid(convolved(self.conv2, hidden).squeeze(1)))

    @classmethod
    def told_by(cls, shapes: Shapes) -> dict[str, Any]:
        """Two convolutions over channels, for any number of them."""
        _, hidden, k = shapes["conv2.weight"]
        return {"channels": 1, "hidden": hidden, "kernel_size": k}


def _rounded(width: float) -> int:
    """The nearest multiple of 8 that is at least 8 and does not lose a tenth, as timm rounds."""
    nearest = max(8, int(width + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * width else nearest
