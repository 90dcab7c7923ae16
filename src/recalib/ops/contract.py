"""What passes between the three parts of a channel attention module: moments -> gate -> affine."""

from typing import NamedTuple, Protocol, runtime_checkable

from torch import Tensor


class Moments(NamedTuple):
    """Statistics of every channel of every image of a map x (N, C, H, W), the paper's *pooling*.

    Attributes:
        mean: mean of x over H and W, shape (N, C); Eq. 1 of Klomp et al. 2023.
        variance: centred variance of x over H and W, divided by H*W, shape (N, C); None where the gate needs none.
        size: H*W, the number of values behind each statistic.
    """

    mean: Tensor
    variance: Tensor | None
    size: int


class Affine(NamedTuple):
    """What a gate does to a map, the paper's *integration*: ``y = scale * x + shift`` per image and channel.

    Attributes:
        scale: shape (N, C), or None for 1.
        shift: shape (N, C), or None for 0.
    """

    scale: Tensor | None = None
    shift: Tensor | None = None


@runtime_checkable
class GateOnMoments(Protocol):
    """A module that `recalibrate` can fuse: all it wants to know of a map are its moments."""

    needs_variance: bool

    def affine(self, moments: Moments) -> Affine:
        """Scale and shift for the map that has these moments."""
        ...
