"""Plain PyTorch: the form every other backend is tested against; any device, layout and precision."""

import torch
from torch import Tensor

from recalib.ops.contract import Affine, GateOnMoments, Moments


def moments(x: Tensor, variance: bool = False) -> Moments:
    """Mean and, where asked for, centred variance of each channel of each image.

    Half precision maps are reduced in float32. The variance is computed in two passes: raw moments cancel where the
    mean is large, and `torch.std` over two dimensions is 20 to 30 times slower on a CPU.

    Args:
        x: map of shape (N, C, H, W).
        variance: whether the gate needs the variance.
    """
    wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    mean = wide.mean((2, 3))
    centred = (wide - mean[:, :, None, None]).square().mean((2, 3)) if variance else None
    return Moments(mean, centred, x.shape[2] * x.shape[3])


def integrate(x: Tensor, affine: Affine) -> Tensor:
    """``scale * x + shift`` with (N, C) operands, in the map's precision.

    Args:
        x: map of shape (N, C, H, W).
        affine: scale and shift of shape (N, C), each possibly None.
    """
    scale, shift = (None if t is None else t.to(x.dtype)[:, :, None, None] for t in affine)
    if scale is None:
        return x if shift is None else x + shift
    return x * scale if shift is None else torch.addcmul(shift, x, scale)


def attend(x: Tensor, gate: GateOnMoments) -> Tensor:
    """A gate on moments applied to a map x (N, C, H, W): pooling, processing and integration, one after the other."""
    return integrate(x, gate.affine(moments(x, gate.needs_variance)))
