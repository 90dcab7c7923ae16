"""GE: gather-excite, parameter-free and with a full depth-wise kernel."""

from types import MappingProxyType
from typing import Any, Unpack

from torch import Tensor, nn

from recalib.attention.base import Attention, Factory, PlainAttention, Shapes
from recalib.errors import RecalibError
from recalib.ops import Affine, Moments

_PAPER = "Hu 2018, arXiv:1810.12348"


def ge(channels: int, kernel_size: int | None = None, identity: bool = False, **factory: Unpack[Factory]) -> nn.Module:
    """Gather-Excite with global extent.

    Args:
        channels: C.
        kernel_size: None for the parameter-free form; the size of the (square) map for a depth-wise kernel over all
            of it, in `insert_` one value per stage, such as (56, 28, 14, 7) for a ResNet at 224 px.
        identity: start as the exact identity.
        **factory: device and dtype of the parameters.
    """
    if kernel_size is None:
        return GE(channels, identity, **factory)
    return GEFull(channels, kernel_size, identity, **factory)


class GE(Attention):
    """Gather-Excite without parameters from Hu et al. 2018, https://arxiv.org/abs/1810.12348 (section 3.1).

    ``y = x * sigmoid(m)``: GE-theta-minus with global extent; the same function as SE-Var1.

    Args:
        channels: C.
        identity: start as the exact identity.
        **factory: device and dtype of the parameters.
    """

    title = "Gather-Excite, parameter-free"
    formula = "y = x·σ(m)"
    paper = _PAPER

    def gate(self, moments: Moments) -> Affine:
        """Scale of shape (N, C)."""
        return Affine(moments.mean.sigmoid())


class GEFull(PlainAttention):
    """Gather-Excite with a kernel over the whole map, as re-implemented for SRM and by Klomp et al. 2023.

    ``y = x * sigmoid(BN(dwconv_k(x)))`` with k the size of the map, so it works at one resolution only.

    Args:
        channels: C.
        kernel_size: k, the height and width of the map.
        identity: start as the exact identity.
        **factory: device and dtype of the parameters.

    Raises:
        RecalibError: in forward, for a map that is not k x k.
    """

    title = "Gather-Excite, full kernel"
    formula = "y = x·σ(BN(dwconv_HW(x)))"
    paper = _PAPER
    chosen_by = MappingProxyType({"kernel_size": 7})  # the map of a ResNet's last stage at 224 px
    planar = True

    def __init__(self, channels: int, kernel_size: int, identity: bool = False, **factory: Unpack[Factory]) -> None:
        super().__init__(channels, identity, **factory)
        self.kernel_size = kernel_size
        self.conv = nn.Conv2d(channels, channels, kernel_size, groups=channels, **factory)
        self.bn = nn.BatchNorm2d(channels, **factory)

    @classmethod
    def told_by(cls, shapes: Shapes) -> dict[str, Any]:
        """A kernel of the size of the map."""
        channels, _, _, k = shapes["conv.weight"]
        return {"channels": channels, "kernel_size": k}

    def recalibrated(self, x: Tensor) -> Tensor:
        """The map x (N, C, k, k), scaled."""
        if tuple(x.shape[2:]) != (self.kernel_size, self.kernel_size):
            raise RecalibError(
                f"GE's kernel covers maps of {self.kernel_size}x{self.kernel_size}, got "
                f"{x.shape[2]}x{x.shape[3]}; give kernel_size per stage for this input, or None"
            )
        return x * self.bn(self.conv(x)).sigmoid()
