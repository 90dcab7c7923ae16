"""SimAM: a gate of each pixel's own, without parameters."""

from typing import Unpack

from recalib.attention.base import BroadcastAttention, Factory, Place
from recalib.ops import Gates, Own, Statistics


class SimAM(BroadcastAttention):
    """SimAM from Yang et al. 2021, https://proceedings.mlr.press/v139/yang21o.html (Eq. 5 and the code in its Fig. 3).

    ``y = x * sigmoid((x - m)^2 / (4 (v' + lambda)) + 1/2)`` with v' the unbiased variance. Its gate is at least 0.62.

    Args:
        channels: C; there are no parameters.
        regularizer: lambda.
        identity: start as the exact identity.
        **factory: device and dtype of the parameters.
    """

    title = "Simple, parameter-free attention"
    formula = "y = x·σ((x − m)²/(4(v' + λ)) + ½)"
    paper = "Yang 2021, PMLR 139"
    authors = Place(r"(.*\.)?layer\d\.\d+\.conv2", "after")  # before its norm, in both kinds of blocks
    reads = ("mean", "variance")

    def __init__(
        self, channels: int, regularizer: float = 1e-4, identity: bool = False, **factory: Unpack[Factory]
    ) -> None:
        super().__init__(channels, identity, **factory)
        self.regularizer = regularizer

    def gates(self, s: Statistics) -> Gates:
        """One number a channel makes all of its pixels' gates."""
        assert s.mean is not None
        assert s.variance is not None
        size = s.size[0] * s.size[1]
        unbiased = s.variance * (size / max(size - 1, 1))
        return Gates(own=Own((4 * (unbiased + self.regularizer)).reciprocal(), s.mean, 0.5))
