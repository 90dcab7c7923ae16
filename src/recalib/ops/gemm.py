"""A 1x1 convolution that recalibrates what it makes: the last pass over the map in the epilogue of its product.

For deployed networks, where the gate is known before the convolution has run: no map is written between the two. An
operator for inference, without gradient: a Triton kernel on a GPU, torch's own operators elsewhere.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from recalib.ops import passes
from recalib.ops.passes_torch import spread


@torch.library.custom_op("recalib::recalibrated_conv", mutates_args=())
def recalibrated_conv(
    h: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    scale: Tensor | None,
    shift: Tensor | None,
    residual: Tensor | None,
    relu: bool,
) -> Tensor:
    """``act(scale * (W h + bias) + shift + residual)``.

    Args:
        h: map (N, C_in, H, W).
        weight: W, shape (C_out, C_in), in the precision of h.
        bias: shape (C_out,), or None for 0.
        scale: shape (N, C_out), or None for 1.
        shift: shape (N, C_out), or None for 0.
        residual: the shortcut, shape (N, C_out, H, W), or None.
        relu: whether to end in a ReLU.

    Returns:
        y, shape (N, C_out, H, W).
    """
    if _has_kernel(h, weight, residual):
        from recalib.ops import gemm_triton  # imports triton, which takes its time

        y = _empty(h, len(weight))
        gemm_triton.launch(h, weight, bias, scale, shift, residual, y, relu)
        return y
    y = F.conv2d(h, weight[:, :, None, None], bias)
    if scale is not None:
        y *= spread(scale)
    if shift is not None:
        y += spread(shift)
    if residual is not None:
        y += residual
    return y.relu_() if relu else y


def _has_kernel(h: Tensor, weight: Tensor, residual: Tensor | None) -> bool:
    """True if maps are rows of channels in one precision that has matrix units, with 32 bit offsets in an image."""
    maps = [h] if residual is None else [h, residual]
    return (
        passes.has_kernels(h)
        and h.dtype == weight.dtype != torch.float64
        and max(h.shape[1], len(weight)) * h.shape[2:].numel() < 2**31
        and all(t.dtype == h.dtype and t.is_contiguous(memory_format=torch.channels_last) for t in maps)
        and (residual is None or residual.shape == (len(h), len(weight), *h.shape[2:]))
    )


def _empty(h: Tensor, channels: int) -> Tensor:
    """A map for the result, in the layout of h."""
    layout = torch.channels_last if h.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
    shape = len(h), channels, *h.shape[2:]
    return torch.empty(shape, dtype=h.dtype, device=h.device, memory_format=layout)


@recalibrated_conv.register_fake
def _(h: Tensor, weight: Tensor, *_: Any) -> Tensor:
    return _empty(h, len(weight))
