"""SE-Var1 to 3: the ablation of squeeze-and-excitation in ECA's paper."""

from typing import Any, Unpack

import torch
from torch import nn

from recalib.attention.base import Attention, Factory, Shapes, linear
from recalib.ops import Affine, Moments


class SEVar1(Attention):
    """SE-Var1 from Wang et al. 2020, https://arxiv.org/abs/1910.03151 (Table 1): ``y = x * sigmoid(m)``.

    Args:
        channels: C.
        identity: start as the exact identity.
        **factory: device and dtype of the parameters.
    """

    title = "SE without weights"
    formula = "y = x·σ(m)"
    paper = "Wang 2020, arXiv:1910.03151"

    def gate(self, moments: Moments) -> Affine:
        """Scale of shape (N, C)."""
        return Affine(moments.mean.sigmoid())


class SEVar2(Attention):
    """SE-Var2 from Wang et al. 2020, https://arxiv.org/abs/1910.03151 (Table 1): ``y = x * sigmoid(w * m)``.

    Args:
        channels: C.
        identity: start as the exact identity.
        **factory: device and dtype of the parameters.
    """

    title = "SE with one weight a channel"
    formula = "y = x·σ(w·m)"
    paper = "Wang 2020, arXiv:1910.03151"

    def __init__(self, channels: int, identity: bool = False, **factory: Unpack[Factory]) -> None:
        super().__init__(channels, identity, **factory)
        self.weight = nn.Parameter(torch.ones(channels, **factory))

    def gate(self, moments: Moments) -> Affine:
        """Scale of shape (N, C)."""
        return Affine((moments.mean * self.weight).sigmoid())

    @classmethod
    def told_by(cls, shapes: Shapes) -> dict[str, Any]:
        """One weight a channel."""
        (channels,) = shapes["weight"]
        return {"channels": channels}


class SEVar3(Attention):
    """SE-Var3 from Wang et al. 2020, https://arxiv.org/abs/1910.03151 (Table 1): ``y = x * sigmoid(W m)``.

    Args:
        channels: C; W is C x C, without bias.
        identity: start as the exact identity.
        **factory: device and dtype of the parameters.
    """

    title = "SE with one full layer"
    formula = "y = x·σ(W·m)"
    paper = "Wang 2020, arXiv:1910.03151"

    def __init__(self, channels: int, identity: bool = False, **factory: Unpack[Factory]) -> None:
        super().__init__(channels, identity, **factory)
        self.fc = nn.Linear(channels, channels, bias=False, **factory)

    def gate(self, moments: Moments) -> Affine:
        """Scale of shape (N, C)."""
        return Affine(linear(self.fc, moments.mean).sigmoid())

    @classmethod
    def told_by(cls, shapes: Shapes) -> dict[str, Any]:
        """One full layer."""
        channels, _ = shapes["fc.weight"]
        return {"channels": channels}
