"""SE: squeeze-and-excitation."""

from typing import Any, Literal, Unpack

from torch import nn
from torch.nn import functional as F

from recalib.attention.base import Attention, Factory, Shapes, linear
from recalib.errors import RecalibError
from recalib.ops import Affine, Moments
from recalib.ops.gates import Kernel


def hidden_width(channels: int, reduction: int) -> int:
    """Width of the bottleneck between the two layers, max(1, C // r)."""
    if reduction < 1:
        raise RecalibError(f"reduction={reduction}: SE divides the channels by a number of at least 1")
    return max(1, channels // reduction)


def reduction_of(channels: int, hidden: int) -> int:
    """A reduction that gives this width: 16, which nearly all have, or the largest, for if any does, that one does.

    Raises:
        RecalibError: where none does.
    """
    for reduction in (16, channels // max(hidden, 1)):
        if reduction and max(1, channels // reduction) == hidden:
            return reduction
    raise RecalibError(f"squeeze-and-excitation with {hidden} of {channels} channels: no reduction gives this width")


class SE(Attention):
    """Squeeze-and-Excitation from Hu et al. 2018, https://arxiv.org/abs/1709.01507 (Fig. 2).

    ``y = x * sigmoid(W2 relu(W1 m + b1) + b2)``. ``fc1`` and ``fc2`` are W1 and W2 in Eq. 3.

    Args:
        channels: C.
        reduction: r in Eq. 3; the hidden layer has max(1, C // r) units.
        bias: with biases, as the authors' own networks and timm have; many ports have none.
        identity: start as the exact identity.
        gate: ``"sigmoid"``, or ``"hard_sigmoid"``, ``relu6(z + 3) / 6``, as in MobileNetV3, for mobile runtimes.
        **factory: device and dtype of the parameters.
    """

    title = "Squeeze-and-Excitation"
    formula = "y = x·σ(W₂·relu(W₁·m))"
    paper = "Hu 2018, arXiv:1709.01507"
    paper_flops = (2, 2)  # forgets the reduction

    def __init__(
        self,
        channels: int,
        reduction: int = 16,
        bias: bool = True,
        identity: bool = False,
        gate: Literal["sigmoid", "hard_sigmoid"] = "sigmoid",
        **factory: Unpack[Factory],
    ) -> None:
        super().__init__(channels, identity, **factory)
        if gate not in ("sigmoid", "hard_sigmoid"):
            raise RecalibError(f"gate={gate!r}: SE takes 'sigmoid' or 'hard_sigmoid'")
        hidden = hidden_width(channels, reduction)
        self.hard = gate == "hard_sigmoid"
        self.fc1 = nn.Linear(channels, hidden, bias, **factory)
        self.fc2 = nn.Linear(hidden, channels, bias, **factory)

    def gate(self, moments: Moments) -> Affine:
        """Scale of shape (N, C); Eq. 3."""
        z = linear(self.fc2, linear(self.fc1, moments.mean).relu())
        return Affine(F.relu6(z + 3) / 6 if self.hard else z.sigmoid())

    @classmethod
    def told_by(cls, shapes: Shapes) -> dict[str, Any]:
        """Two layers, the second back to the channels of the first."""
        hidden, channels = shapes["fc1.weight"]
        return {"channels": channels, "reduction": reduction_of(channels, hidden), "bias": "fc1.bias" in shapes}

    def kernel(self, size: int) -> Kernel | None:
        """The gate as one kernel, where it is a sigmoid; see `recalib.ops.gates`."""
        if self.hard:
            return None
        return Kernel("excitation", (self.fc1.weight, self.fc1.bias, self.fc2.weight, self.fc2.bias, None))
