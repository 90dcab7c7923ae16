"""Gates, statistics and gradients that the passes of the wider law hand to each other; see `recalib.ops.broadcast`."""

from typing import NamedTuple

import torch
from torch import Tensor


class Maximum(NamedTuple):
    """A maximum and where it was.

    Attributes:
        values: of the shape of the statistic.
        indices: along the axis that was reduced.
    """

    values: Tensor
    indices: Tensor


AXES = {"row_mean": 3, "row_maximum": 3, "column_mean": 2, "column_maximum": 2, "pixel_mean": 1, "pixel_maximum": 1}
OF_MAP = ("mean", "variance", "maximum")
MAXIMA = ("maximum", "row_maximum", "column_maximum", "pixel_maximum")


class Law(NamedTuple):
    """The gates of all steps together.

    Attributes:
        factors: broadcast against the map; for a mean, of the one step that there is.
        mean: whether G is their mean, not their product.
        slope: of gates of the pixels' own, (N, C); or None.
        centre: (N, C), with slope.
        offset: with slope.
        weight: w of the blend, (C,); or None.
        bias: b of the blend, (C,), with weight.
    """

    factors: tuple[Tensor, ...]
    mean: bool = False
    slope: Tensor | None = None
    centre: Tensor | None = None
    offset: float = 0.0
    weight: Tensor | None = None
    bias: Tensor | None = None

    def whole(self, x: Tensor, images: slice) -> Tensor:
        """G for some images, broadcastable; x are those images."""
        if self.slope is not None:
            d = (x - of_images(self.centre, images)).square_()
            return d.mul_(of_images(self.slope, images)).add_(self.offset).sigmoid_()
        first, *others = (factor[images] for factor in self.factors)
        for factor in others:
            first = first + factor if self.mean else first * factor
        return first / len(self.factors) if self.mean else first

    def without(self, k: int, images: slice) -> Tensor | float:
        """Derivative of G by its factor k."""
        if self.mean:
            return 1 / len(self.factors)
        rest: Tensor | float = 1.0
        for i, factor in enumerate(self.factors):
            rest = rest if i == k else factor[images] * rest
        return rest

    def blended(self, whole: Tensor) -> Tensor:
        """``w * G + b``."""
        if self.weight is None:
            return whole
        return torch.addcmul(self.bias[:, None, None], whole, self.weight[:, None, None])  # type: ignore[index]


class Read(NamedTuple):
    """Statistics that `observe` gave a step, and their gradients."""

    scale: Tensor | None
    found: dict[str, Tensor | Maximum]
    gradients: dict[str, Tensor]
    weights: Tensor | None = None


def of_images(t: Tensor | None, images: slice) -> Tensor:
    """(N, C) of some images as an operand of their maps."""
    assert t is not None
    return t[images, :, None, None]
