"""Multi-SE: several squeeze-and-excitation branches and one soft assignment between them."""

from typing import Any, Unpack

import torch
from torch import Tensor, nn

from recalib.attention.base import Attention, Factory, Shapes, linear
from recalib.attention.se import hidden_width, reduction_of
from recalib.ops import Affine, Moments
from recalib.ops.gates import Kernel


class MultiSE(Attention):
    """Multi-SE from Wang et al. 2019, https://arxiv.org/abs/1904.04402, as re-implemented by Klomp et al. 2023.

    ``y = x * sigmoid(sum_i a_i (W2_i relu(W1_i m + b1_i) + b2_i))`` with ``a = softmax(A m)``: one sigmoid, after
    the weighted sum. The branches' first layers are rows of one layer ``fc1``; since the sum is linear, their second
    layers are one layer too, whose inputs are weighted by a.

    Args:
        channels: C.
        reduction: r; each branch has max(1, C // r) hidden units.
        branches: number of branches (3 in Klomp et al. 2023).
        bias: with biases, as in the original code.
        identity: start as the exact identity.
        **factory: device and dtype of the parameters.
    """

    title = "Multi-SE (domain attention)"
    formula = "y = x·σ(Σ_i aᵢ·W₂ᵢ·relu(W₁ᵢ·m)), a = softmax(A·m)"
    paper = "Wang 2019, arXiv:1904.04402"
    paper_flops = (2, 7)  # forgets the reduction

    def __init__(
        self,
        channels: int,
        reduction: int = 16,
        branches: int = 3,
        bias: bool = True,
        identity: bool = False,
        **factory: Unpack[Factory],
    ) -> None:
        super().__init__(channels, identity, **factory)
        hidden = hidden_width(channels, reduction)
        self.branches = branches
        self.fc1 = nn.Linear(channels, branches * hidden, bias, **factory)
        self.fc2 = nn.Linear(branches * hidden, channels, bias=False, **factory)
        self.fc2_bias = nn.Parameter(torch.empty(branches, channels, **factory)) if bias else None
        self.assign = nn.Linear(channels, branches, bias=False, **factory)
        self._initialize(hidden)

    def _initialize(self, hidden: int) -> None:
        # Each branch starts as an nn.Linear of its own width would; fc2 alone would see a fan-in of all branches.
        bound = hidden**-0.5
        nn.init.uniform_(self.fc2.weight, -bound, bound)
        if self.fc2_bias is not None:
            nn.init.uniform_(self.fc2_bias, -bound, bound)

    def gate(self, moments: Moments) -> Affine:
        """Scale of shape (N, C)."""
        return Affine(self.second(linear(self.fc1, moments.mean).relu(), linear(self.assign, moments.mean).softmax(1)))

    @classmethod
    def told_by(cls, shapes: Shapes) -> dict[str, Any]:
        """One assignment, and a hidden layer for all of its branches."""
        branches, channels = shapes["assign.weight"]
        hidden = shapes["fc1.weight"][0] // branches
        bias = "fc1.bias" in shapes
        return {"channels": channels, "branches": branches, "reduction": reduction_of(channels, hidden), "bias": bias}

    def kernel(self, size: int) -> Kernel:
        """The gate as one kernel; see `recalib.ops.gates`."""
        layers = self.fc1.weight, self.fc1.bias, self.fc2.weight, self.fc2_bias
        return Kernel("excitation", (*layers, self.assign.weight))

    def second(self, hidden: Tensor, a: Tensor) -> Tensor:
        """The branches' second layers as one: hidden (N, branches*h) and assignment a (N, branches) to scale (N, C)."""
        z = linear(self.fc2, hidden * a.repeat_interleave(self.fc2.in_features // self.branches, 1))
        return (z if self.fc2_bias is None else z + a @ self.fc2_bias.to(a.dtype)).sigmoid()
