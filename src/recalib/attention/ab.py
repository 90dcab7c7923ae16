"""AB: attention bias."""

from typing import Any, Unpack

import torch
from torch import nn

from recalib.attention.base import Attention, Factory, Shapes
from recalib.ops import Affine, Moments
from recalib.ops.gates import Kernel


class AB(Attention):
    """Attention Bias from Klomp et al. 2023 (section 3).

    ``y = x + w * m``: an input-dependent bias per channel. Parameter ``weight`` is W in Eq. 2, zero at the start,
    so that a fresh module is the identity. The original code calls it MeanReweightLayer, ``meanrew``.

    Args:
        channels: C.
        identity: accepted for uniformity; the module starts as the identity anyway.
        **factory: device and dtype of the parameters.
    """

    title = "Attention Bias"
    formula = "y = x + w·m"
    paper = "Klomp 2023"
    paper_flops = (2, 0)
    identity_at_start = True

    def __init__(self, channels: int, identity: bool = False, **factory: Unpack[Factory]) -> None:
        super().__init__(channels, identity, **factory)
        self.weight = nn.Parameter(torch.zeros(channels, **factory))

    def gate(self, moments: Moments) -> Affine:
        """Shift of shape (N, C); Eq. 2."""
        return Affine(shift=moments.mean * self.weight)

    @classmethod
    def told_by(cls, shapes: Shapes) -> dict[str, Any]:
        """One weight a channel."""
        (channels,) = shapes["weight"]
        return {"channels": channels}

    def kernel(self, size: int) -> Kernel:
        """The gate as one kernel; see `recalib.ops.gates`."""
        return Kernel("bias", (self.weight,))
