"""FcaNet: frequencies in place of means."""

import math
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from recalib.attention.base import BroadcastAttention, Factory, Shapes, linear
from recalib.attention.se import hidden_width, reduction_of
from recalib.errors import RecalibError
from recalib.ops import Gates, Statistics, Step
from recalib.ops.contract import wide

_ROWS = (0, 0, 6, 0, 0, 1, 1, 4, 5, 1, 3, 0, 0, 0, 3, 2)  # the sixteen best frequencies on a 7x7 grid, best first
_COLUMNS = (0, 1, 0, 5, 2, 0, 2, 0, 0, 6, 0, 4, 6, 3, 5, 2)


class Fca(BroadcastAttention):
    """Multi-spectral channel attention (FcaNet) from Qin et al. 2021, https://arxiv.org/abs/2012.11879.

    ``y = x * sigmoid(W2 relu(W1 f))``, without biases: as SE, with ``f_c = sum_hw x D_c`` in place of the mean, D_c a
    two-dimensional cosine of the discrete cosine transform; sixteen groups of channels have one frequency each
    (``top16``). A map of another size than P x P is average-pooled to it first; pooling and cosine are both linear, so
    the pooling is done to D.

    Args:
        channels: C; the authors take multiples of 16 only, elsewhere the groups differ by one channel.
        size: P, the height and width of the map at the authors' 224 px; in `insert_` one value per stage, such as
            (56, 28, 14, 7) for a ResNet.
        reduction: r; the hidden layer has max(1, C // r) units.
        identity: start as the exact identity.
        **factory: device and dtype of the parameters.
    """

    title = "Multi-spectral channel attention (FcaNet)"
    formula = "y = x·σ(W₂·relu(W₁·f)), f = Σ_hw x·D"
    paper = "Qin 2021, arXiv:2012.11879"
    planar = True

    def __init__(
        self, channels: int, size: int = 7, reduction: int = 16, identity: bool = False, **factory: Unpack[Factory]
    ) -> None:
        super().__init__(channels, identity, **factory)
        if size < 7:
            raise RecalibError(f"size={size}: FcaNet's frequencies are of a grid of 7x7, so it takes a size from 7 on")
        hidden = hidden_width(channels, reduction)
        self.fc1 = nn.Linear(channels, hidden, bias=False, **factory)
        self.fc2 = nn.Linear(hidden, channels, bias=False, **factory)
        self.basis: Tensor
        pairs = zip(_cosines(_ROWS, size), _cosines(_COLUMNS, size), strict=True)
        frequencies = torch.stack([torch.outer(rows, columns) for rows, columns in pairs])
        of_channel = torch.arange(channels, device="cpu") * len(_ROWS) // channels
        self.register_buffer("basis", frequencies[of_channel].to(self.fc1.weight))

    def steps(self) -> tuple[Step, ...]:
        """One read: a sum with the basis in place of the mean."""
        return (Step(("weighted_sum",), self.gates, weights=self._weights),)

    def gates(self, s: Statistics) -> Gates:
        """Of channels."""
        assert s.weighted_sum is not None
        scale = linear(self.fc2, linear(self.fc1, s.weighted_sum).relu()).sigmoid()
        return Gates((scale[:, :, None, None],))

    def _weights(self, size: tuple[int, int]) -> Tensor:
        """The basis for maps of a size, (C, H, W)."""
        basis, own = self.basis, self.basis.shape[-1]
        basis = basis.to(wide(basis.dtype))
        if all(isinstance(length, int) and length == own for length in size):  # a symbol may be any size
            return basis
        rows, columns = (_bins(own, length, basis) for length in size)
        return torch.einsum("cuv,uh,vw->chw", basis, rows, columns)

    @classmethod
    def told_by(cls, shapes: Shapes) -> dict[str, Any]:
        """Two layers and a basis."""
        hidden, channels = shapes["fc1.weight"]
        return {
            "channels": channels,
            "size": shapes["basis"][-1],
            "reduction": reduction_of(channels, hidden),
        }


def _cosines(frequencies: tuple[int, ...], size: int) -> list[Tensor]:
    """Rows of the orthonormal discrete cosine transform of so many points, float64."""
    points = torch.arange(size, dtype=torch.double, device="cpu") + 0.5
    scaled = [frequency * (size // 7) for frequency in frequencies]
    return [torch.cos(math.pi * f * points / size) * ((2 if f else 1) / size) ** 0.5 for f in scaled]


def _bins(size: int, length: int, like: Tensor) -> Tensor:
    """An adaptive average pool of so many points to a size, as a matrix (size, length)."""
    bins = torch.arange(size, device=like.device)[:, None]
    start, end = bins * length // size, ((bins + 1) * length + size - 1) // size
    points = torch.arange(length, device=like.device)
    return ((points >= start) & (points < end)).to(like.dtype) / (end - start)
