"""Two networks on the same images: how much the one loses, and how sure that is."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DRAWS = 20_000
Z95 = 1.959964  # of the normal distribution


@dataclass(frozen=True)
class Loss:
    """Loss of one network against another, in points of percent.

    Attributes:
        points: the difference on these images.
        low: lower end of its 95 % interval.
        high: upper end.
        images: their number.
        differing: on how many of them one of the two was right and the other wrong.
    """

    points: float
    low: float
    high: float
    images: int
    differing: int

    def images_for(self, points: float) -> int:
        """Images on which the interval would reach about so many points to either side."""
        share = max(self.differing, 1) / self.images
        return math.ceil(share * (100 * Z95 / points) ** 2)


def loss_between(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> Loss:
    """The loss from one network to another, with its 95 % interval by the bootstrap over images.

    Pairs are drawn, so that images on which both are right or both are wrong, nearly all of them, add no noise.
    Resampled images fall into lost, won and equal as a multinomial, which is drawn instead of them.

    Args:
        before: true for images that the first network told right, shape (N,).
        after: the same of the second.
    """
    n, lost, won = len(before), int((before & ~after).sum()), int((after & ~before).sum())
    drawn = np.random.default_rng(0).multinomial(n, [lost / n, won / n, 1 - (lost + won) / n], DRAWS)
    low, high = np.quantile((drawn[:, 0] - drawn[:, 1]) * 100 / n, [0.025, 0.975])
    return Loss(100 * (lost - won) / n, float(low), float(high), n, lost + won)
