"""The wider law in few passes over the map, forward and backward; see `recalib.ops.broadcast` for the plain form.

    forward     observe          reads x, once a step         -> statistics
                apply            reads x                      -> y = x * (w * G + b)
    backward    reduce           reads dy, x                  -> gradients of the gates and of the blend
                unscale          reads x, for a second step   -> gradient of the first step's gate by the second's reads
                differentiate    reads dy, x                  -> dx

So two passes forward and two backward for one step, three and three for two. What stands between them is small and is
differentiated by autograd in a graph of its own, from the statistics to the gates. Saved for backward: x, and small
tensors; the plain form saves a map for each of its operators.

Maxima pass their gradient to one of the pixels that have them, as pooling does. There is no second derivative.
"""

from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recalib.ops import broadcast_torch, passes
from recalib.ops.broadcast_law import Law


def backend_of(x: Tensor, law: Law | None = None) -> ModuleType:
    """Triton for maps and gates that it has kernels for; plain PyTorch for all others."""
    if not passes.has_kernels(x):
        return broadcast_torch
    from recalib.ops import broadcast_triton  # imports triton, which takes its time

    return broadcast_triton if broadcast_triton.serves(x, law) else broadcast_torch


class Passes(torch.autograd.Function):
    """The whole law as one node of autograd's graph, with a graph of its own inside."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, plan: Any, *parameters: Tensor) -> Tensor:
        """Args: the map, what makes the gates (see `recalib.ops.broadcast`), and all parameters that it uses."""
        law, inner = plan.forward(x)
        ctx.plan, ctx.inner, ctx.law, ctx.parameters = plan, inner, law, parameters
        ctx.save_for_backward(x)
        return backend_of(x, law).apply(x, law)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the map and of every parameter."""
        (x,) = ctx.saved_tensors
        dx, gradients = ctx.plan.backward(dy, x, ctx.law, ctx.inner, ctx.parameters)
        return dx, None, *gradients
