"""The passes over the activation, as custom operators: two forward, two backward.

Everything between them is (N, C)-sized and left to ordinary autograd. Pass 1 of the forward and pass 2 of the backward
belong together (the gradients of the moments are only known once everything behind them is differentiated), and so do
pass 2 of the forward and pass 1 of the backward:

    forward     moments            reads x                      -> mean, variance
                integrate          reads x, residual            -> y = act(scale * (x - centre) + shift + residual)
    backward    mask_and_reduce    reads dy, y, x               -> dm = dy where y > 0, sum dm, sum dm * (x - centre)
                differentiate      reads dm, x                  -> dx = scale * dm + (d_mean + 2 d_var (x - mean)) / HW

For dx to be written once, `differentiate` must be told dm and scale. They travel as gradients: `moments` also returns a
`Link`, two stand-ins without storage for x and for its scale, and `integrate` hands dm and scale back as *their*
gradients, so x itself enters `integrate` detached. A link is for exactly one `integrate`.

Saved for backward: x (once, and not at all where only a shift is trained), y if there is a ReLU (the next layer keeps
it too), and tensors of size (N, C). There is no second derivative.
"""

from importlib.util import find_spec
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from recalib.ops import passes_torch
from recalib.ops.contract import wide

HAS_TRITON = find_spec("triton") is not None


class Link(NamedTuple):
    """Stand-in for a map in the autograd graph between `moments` and `integrate`; holds no data."""

    through: Tensor  # shape of x; its gradient is dm
    scale: Tensor  # (N, C); its "gradient" is the scale itself


def moments(x: Tensor, order: int) -> tuple[Tensor, Link]:
    """Pass 1.

    Args:
        x: map (N, C, H, W), contiguous or channels_last.
        order: how many moments: 0 none, 1 the mean, 2 the mean and the centred variance.

    Returns:
        Moments of shape (order, N, C), float32 for half precision maps, and the link to `integrate`.
    """
    stats, through, scale = _moments(x, order)
    return stats, Link(through, scale)


def integrate(
    x: Tensor,
    link: Link,
    centre: Tensor | None,
    scale: Tensor | None,
    shift: Tensor | None,
    residual: Tensor | None,
    relu: bool,
) -> Tensor:
    """Pass 2: ``act(scale * (x - centre) + shift + residual)``.

    Args:
        x: the map whose moments were taken.
        link: from those `moments`.
        centre: (C,) or None for 0; a constant, without gradient; needs a scale.
        scale: (N, C) or None for 1.
        shift: (N, C) or None for 0.
        residual: the shortcut, shape, type and layout of x, or None.
        relu: whether to end in a ReLU.
    """
    return _integrate(x.detach(), *link, centre, scale, shift, residual, relu)


@torch.library.custom_op("recalib::moments", mutates_args=())
def _moments(x: Tensor, order: int) -> tuple[Tensor, Tensor, Tensor]:
    return backend_of(x).moments(x, order), *_stand_ins(x)


@torch.library.custom_op("recalib::integrate", mutates_args=())
def _integrate(
    x: Tensor,
    through: Tensor,
    link: Tensor,
    centre: Tensor | None,
    scale: Tensor | None,
    shift: Tensor | None,
    residual: Tensor | None,
    relu: bool,
) -> Tensor:
    return backend_of(x).integrate(x, centre, scale, shift, residual, relu)


@torch.library.custom_op("recalib::mask_and_reduce", mutates_args=())
def _mask_and_reduce(
    dy: Tensor, y: Tensor | None, x: Tensor | None, centre: Tensor | None, sums: bool
) -> tuple[Tensor, Tensor]:
    """Gradients that `integrate` sends back: dm (empty without y: dm is dy); where asked for, S0; with x, S0 and S1."""
    return backend_of(dy).mask_and_reduce(dy, y, x, centre, sums)


@torch.library.custom_op("recalib::differentiate", mutates_args=())
def _differentiate(dm: Tensor, scale: Tensor, x: Tensor | None, stats: Tensor, d_stats: Tensor) -> Tensor:
    return backend_of(dm).differentiate(dm, scale, x, stats, d_stats)


def has_kernels(t: Tensor) -> bool:
    """True if there are Triton kernels where t lies, and for its type.

    Double precision, which is for checks, has plain operators: kernels take an eps as a float32, 3e-8 off where a
    variance vanishes, and `recalib.deploy` allows 1e-9 when it asks in float64 whether two networks are the same.
    """
    return t.is_cuda and HAS_TRITON and t.dtype != torch.float64


def backend_of(x: Tensor) -> ModuleType:
    """Triton on a GPU, where an image's offsets fit 32 bits; plain PyTorch everywhere else."""
    if not has_kernels(x) or x.shape[1:].numel() >= 2**31:
        return passes_torch
    from recalib.ops import passes_triton  # imports triton, which takes its time

    return passes_triton


def _stand_ins(x: Tensor) -> tuple[Tensor, Tensor]:
    return x.new_empty(()).expand(x.shape), x.new_empty((), dtype=wide(x.dtype)).expand(x.shape[:2])


@_moments.register_fake
def _(x: Tensor, order: int) -> tuple[Tensor, Tensor, Tensor]:
    return x.new_empty((order, *x.shape[:2]), dtype=wide(x.dtype)), *_stand_ins(x)


@_integrate.register_fake
def _(x: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(x)


@_mask_and_reduce.register_fake
def _(dy: Tensor, y: Tensor | None, x: Tensor | None, centre: Tensor | None, sums: bool) -> tuple[Tensor, Tensor]:
    dm = dy.new_empty(0) if y is None else torch.empty_like(dy)
    return dm, dy.new_empty((1 + (x is not None) if sums else 0, *dy.shape[:2]), dtype=wide(dy.dtype))


@_differentiate.register_fake
def _(dm: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(dm)


def _moments_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, order = inputs
    ctx.save_for_backward(x if order == 2 else None, output[0])


def _moments_backward(ctx: Any, d_stats: Tensor, dm: Tensor, scale: Tensor) -> tuple[Tensor, None]:
    x, stats = ctx.saved_tensors
    return _differentiate(dm, scale, x, stats, d_stats), None


def _integrate_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, _, _, centre, scale, _, _, relu = inputs
    d_scale, d_shift = ctx.needs_input_grad[4:6]
    ctx.channels_last = not x.is_contiguous()
    ctx.sums = d_scale or d_shift
    ctx.save_for_backward(x if d_scale else None, output if relu else None, centre, scale)


def _integrate_backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    x, y, centre, scale = ctx.saved_tensors
    dy = dy.contiguous(memory_format=torch.channels_last if ctx.channels_last else torch.contiguous_format)
    masked, sums = _mask_and_reduce(dy, y, x, centre, ctx.sums) if ctx.sums or y is not None else (dy, dy)
    dm = dy if y is None else masked
    applied = dy.new_ones(dy.shape[:2], dtype=wide(dy.dtype)) if scale is None else scale
    d_scale = sums[1] if x is not None else None
    d_shift = sums[0] if ctx.needs_input_grad[5] else None
    return None, dm, applied, None, d_scale, d_shift, dm if ctx.needs_input_grad[6] else None, None


_moments.register_autograd(_moments_backward, setup_context=_moments_context)
_integrate.register_autograd(_integrate_backward, setup_context=_integrate_context)
