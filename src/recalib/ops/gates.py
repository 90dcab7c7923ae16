"""A whole gate in one kernel, at inference: from the moments of x to the scale and shift that the last pass applies.

An extra that a module may have, never must: a class that defines `kernel` beside its `gate` says which kernel of
`recalib.ops.gates_triton` computes the same. Training takes the gate as it is written: there autograd needs what lies
between, and a training step is long enough for small kernels to be launched while large ones run.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from recalib.ops import fold
from recalib.ops.capture import is_observed
from recalib.ops.contract import GateOnMoments
from recalib.ops.norm import uses_batch_statistics


class Kernel(NamedTuple):
    """A kernel that computes a gate.

    Attributes:
        name: of a function in `recalib.ops.gates_triton`.
        parameters: its tensors.
        numbers: what else it wants to know.
    """

    name: str
    parameters: tuple[Tensor | None, ...]
    numbers: tuple[float, ...] = ()


def in_one_kernel(
    gate: GateOnMoments | None, norm: nn.Module | None, stats: Tensor, size: int
) -> tuple[Tensor | None, Tensor, Tensor] | None:
    """``gate(norm(x))`` as centre (C,), scale and shift (N, C); None where operators have to do it.

    Args:
        gate: a gate on moments, or None.
        norm: see `recalib.ops.norm.is_affine`; or None.
        stats: moments of x, shape (order, N, C).
        size: H*W.
    """
    kernel = None if torch.is_grad_enabled() or uses_batch_statistics(norm) else _kernel_of(gate, size)
    if kernel is None or not _pays(kernel, stats):
        return None
    n, blend = cast("Any", norm), getattr(gate, "blend", None)
    affine = () if norm is None else (n.running_mean, n.running_var, n.weight, n.bias)
    mixed = () if blend is None else (blend.weight, blend.bias)
    eps = 0.0 if norm is None else n.eps
    scale, shift = _gate(stats, affine, eps, kernel.name, kernel.parameters, mixed, kernel.numbers).unbind(0)
    return None if norm is None else n.running_mean, scale, shift


def _kernel_of(gate: Any, size: int) -> Kernel | None:
    """A subclass that defines another `gate` is another gate: only what its very class says of a kernel counts."""
    describe = vars(type(gate)).get("kernel")
    if describe is None or any(map(is_observed, gate.children())):
        return None
    kernel: Kernel | None = describe(gate, size)
    return kernel


def _pays(kernel: Kernel, stats: Tensor) -> bool:
    """Whether one kernel beats several: not measured, estimated for a processor that reads 100 GB/s from its cache.

    A program reads a whole layer by itself: 2^18 weights take it as long as the launches it saves. And every program
    does so again: with many images the launches are hidden, and the library's matrix products waste nothing.
    """
    largest = max(p.numel() for p in kernel.parameters if p is not None)
    return fold.has_kernels(stats) and largest <= 2**18 and largest * stats.shape[1] <= 2**20


@torch.library.custom_op("recalib::gate", mutates_args=())
def _gate(
    stats: Tensor,
    norm: Sequence[Tensor | None],
    eps: float,
    name: str,
    parameters: Sequence[Tensor | None],
    blend: Sequence[Tensor],
    numbers: Sequence[float],
) -> Tensor:
    from recalib.ops import gates_triton  # imports triton, which takes its time

    return gates_triton.launch(name, stats, norm, eps, parameters, blend, numbers)


@_gate.register_fake
def _(stats: Tensor, *_: Any) -> Tensor:
    return stats.new_empty(2, *stats.shape[1:])
