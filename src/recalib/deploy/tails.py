"""Whole tails as one module, for eager mode: what a GPU's kernels do in one pass over the map."""

from typing import Literal

from torch import Tensor, nn

from recalib.attention import Attention
from recalib.deploy.gates import GateFirst
from recalib.ops import recalibrate
from recalib.ops.gemm import recalibrated_conv


class Tail(nn.Module):
    """Attention, addition and ReLU behind a convolution: moments, the gate in one kernel where it has one, one pass.

    Args:
        attention: what the site has.
        relu: whether it ends in a ReLU.
    """

    def __init__(self, attention: Attention, relu: bool) -> None:
        super().__init__()
        self.attention = attention
        self.activation: Literal["relu", "none"] = "relu" if relu else "none"

    def forward(self, u: Tensor, residual: Tensor | None = None) -> Tensor:
        """The block's output (N, C, H, W) from the convolution's, u."""
        return recalibrate(u, None, self.attention, residual, self.activation)


class ConvTail(nn.Module):
    """A 1x1 convolution with its tail in the epilogue: gate first, so no map is written before the block's output.

    Args:
        gate: computes scale or shift from the convolution's input.
        conv: the convolution, batch norm folded.
        shifts: whether the gate is a shift.
        relu: whether it ends in a ReLU.
    """

    def __init__(self, gate: GateFirst, conv: nn.Conv2d, shifts: bool, relu: bool) -> None:
        super().__init__()
        self.gate = gate
        self.conv = conv
        self.shifts = shifts
        self.relu = relu

    def forward(self, h: Tensor, residual: Tensor | None = None) -> Tensor:
        """The block's output (N, C, H, W) from the convolution's input h (N, C_in, H, W)."""
        values = self.gate.values(h)
        scale, shift = (None, values) if self.shifts else (values, None)
        weight = self.conv.weight.flatten(1).to(h.dtype)  # autocast knows torch's own operators only
        bias = None if self.conv.bias is None else self.conv.bias.to(h.dtype)
        return recalibrated_conv(h, weight, bias, scale, shift, residual, self.relu)
