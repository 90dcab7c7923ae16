"""SRM: style-based recalibration."""

from typing import Any, Unpack

import torch
from torch import nn

from recalib.attention.base import Attention, Factory, Shapes, normalized
from recalib.errors import RecalibError
from recalib.ops import Affine, Moments
from recalib.ops.gates import Kernel
from recalib.ops.norm import is_synchronized, uses_batch_statistics


class SRM(Attention):
    """Style-based Recalibration Module from Lee et al. 2019, https://arxiv.org/abs/1903.10829.

    ``y = x * sigmoid(BN(w_0 * mean + w_1 * std))``. ``weight`` is W, the channel-wise fully connected layer, zero at
    the start; ``bn`` is the norm of the style integration, over the images of a batch. The standard deviation is the
    unbiased one, as in the authors' code; ``eps`` under its root (theirs: 1e-5) keeps 1x1 and constant maps finite,
    forward and backward. Its parameters are not decayed, as its authors advise.

    Args:
        channels: C.
        eps: added to the variance.
        identity: start as the exact identity.
        **factory: device and dtype of the parameters.
    """

    title = "Style-based Recalibration"
    formula = "y = x·σ(BN(w₀·m + w₁·√v'))"
    paper = "Lee 2019, arXiv:1903.10829"
    paper_flops = (6, 0)
    needs_variance = True
    no_weight_decay = frozenset({"weight", "bn.weight", "bn.bias"})

    def __init__(self, channels: int, eps: float = 1e-5, identity: bool = False, **factory: Unpack[Factory]) -> None:
        super().__init__(channels, identity, **factory)
        self.eps = eps
        self.weight = nn.Parameter(torch.zeros(channels, 2, **factory))
        self.bn = nn.BatchNorm1d(channels, **factory)

    def gate(self, moments: Moments) -> Affine:
        """Scale of shape (N, C).

        Raises:
            RecalibError: for one image in training, which the norm over images cannot learn from.
        """
        if uses_batch_statistics(self.bn) and moments.mean.shape[0] == 1 and not is_synchronized(self.bn):
            shape = tuple(moments.mean.shape)
            raise RecalibError(
                f"SRM in training takes its norm over the images: more than 1, got moments of shape {shape}"
            )
        assert moments.variance is not None
        unbiased = moments.variance * (moments.size / max(moments.size - 1, 1))
        std = (unbiased + self.eps).sqrt()
        z = torch.addcmul(self.weight[:, 0] * moments.mean, self.weight[:, 1], std)
        return Affine(normalized(self.bn, z).sigmoid())

    @classmethod
    def told_by(cls, shapes: Shapes) -> dict[str, Any]:
        """Two weights a channel."""
        channels, _ = shapes["weight"]
        return {"channels": channels}

    def kernel(self, size: int) -> Kernel | None:
        """The gate as one kernel, where its norm has statistics; see `recalib.ops.gates`."""
        if uses_batch_statistics(self.bn):
            return None
        norm = self.bn.running_mean, self.bn.running_var, self.bn.weight, self.bn.bias
        return Kernel("style", (self.weight, *norm), (size, self.eps, self.bn.eps))
