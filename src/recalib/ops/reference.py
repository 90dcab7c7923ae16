"""The plain composition: module after module, on any device, in any precision, and in every captured graph."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recalib.ops.capture import is_captured, is_observed, is_symbolic, may_overwrite
from recalib.ops.contract import Affine, Moments, ask, is_gate, wide
from recalib.ops.norm import is_affine
from recalib.ops.passes_torch import spread


def compose(
    x: Tensor, norm: nn.Module | None, attention: nn.Module | None, residual: Tensor | None, relu: bool
) -> Tensor:
    """``act(attention(norm(x)) + residual)``.

    Maps that nobody else holds are overwritten: on a CPU the page faults of a new map cost more than the arithmetic.

    Args:
        x: map (N, C, H, W).
        norm: any module, or None.
        attention: a gate on moments, any other module, or None.
        residual: shape of x, or None.
        relu: whether to end in a ReLU.
    """
    y = x if norm is None else norm(x)
    # a batch norm keeps its input for the backward, not its output; a hook might
    ours = norm is not None and not is_symbolic(x) and is_affine(norm) and not is_observed(norm)
    if attention is None:
        pass
    elif not is_captured(x) and not is_observed(attention) and is_gate(attention):
        affine = ask(attention, moments(y, attention.needs_variance))
        y = integrate(y, affine, overwrite=ours and may_overwrite())
        ours = ours or any(t is not None for t in affine)
    else:  # where someone looks, a gate too is called as a module among modules
        y, ours = attention(y), False
    if residual is not None:
        y, ours = y.add_(residual) if ours and residual.dtype == y.dtype else y + residual, True
    if not relu:
        return y
    return torch.relu_(y) if ours else torch.relu(y)


def moments(x: Tensor, variance: bool = False) -> Moments:
    """Mean and, where asked for, centred variance of each channel of each image.

    Half precision maps are reduced in float32. The variance is computed in two passes: raw moments cancel where
    the mean is large, and `torch.std` over two dimensions is 20 to 30 times slower on a CPU.

    Args:
        x: map of shape (N, C, H, W).
        variance: whether the gate needs the variance.
    """
    x = x.to(wide(x.dtype))
    mean = x.mean((2, 3))
    size = x.shape[2] * x.shape[3]
    if not variance:
        return Moments(mean, None, size)
    centred = x - spread(mean)
    squares = centred.mul_(centred) if may_overwrite() else centred.square()
    return Moments(mean, squares.mean((2, 3)), size)


def integrate(x: Tensor, affine: Affine, overwrite: bool = False) -> Tensor:
    """``scale * x + shift`` with (N, C) operands, in the map's precision.

    Args:
        x: map of shape (N, C, H, W).
        affine: scale and shift of shape (N, C), each possibly None.
        overwrite: whether x may be overwritten; without gradients only.
    """
    scale, shift = (None if t is None else spread(t.to(x.dtype)) for t in affine)
    if scale is None:
        return x if shift is None else (x.add_(shift) if overwrite else x + shift)
    if shift is None:
        return x.mul_(scale) if overwrite else x * scale
    return torch.addcmul(shift, x, scale)


def convolve_channels(mean: Tensor, weight: Tensor) -> Tensor:
    """Each row of the means (N, C) convolved with one kernel (1, 1, k), zero padded; shape (N, C).

    As a sum of shifted rows where torch's own convolution is slow: on a CPU, at more than one image, it takes 3 times
    as long forward and 2 to 60 times as long backward (8 to 256 images, 256 to 2048 channels, two threads).
    """
    k, channels = weight.shape[2], mean.shape[1]
    if is_captured(mean) or mean.device.type != "cpu" or len(mean) == 1:
        return F.conv1d(mean.unsqueeze(1), weight, padding=k // 2).squeeze(1)
    first, *others = weight.flatten().unbind()
    padded = F.pad(mean, (k // 2, k // 2))
    mixed = padded[:, :channels] * first
    for tap, factor in enumerate(others, start=1):
        mixed = torch.addcmul(mixed, padded[:, tap : tap + channels], factor)
    return mixed
