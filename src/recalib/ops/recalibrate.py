"""The one door to recalibration: the tail of a residual block as one operation."""

from typing import Literal

import torch
from torch import Tensor, nn

from recalib.errors import RecalibError


def recalibrate(
    x: Tensor,
    norm: nn.Module | None = None,
    attention: nn.Module | None = None,
    residual: Tensor | None = None,
    activation: Literal["relu", "none"] = "relu",
) -> Tensor:
    """Tail of a residual block: ``y = activation(attention(norm(x)) + residual)``.

    Args:
        x: output of the block's last convolution, shape (N, C, H, W).
        norm: the block's last norm, or None.
        attention: a gate on moments (see `recalib.attention.Attention`) or any module that maps (N, C, H, W) to
            (N, C, H, W), or None.
        residual: the shortcut, same shape as x, or None.
        activation: ``"relu"`` or ``"none"``.

    Returns:
        y, shape (N, C, H, W).

    Raises:
        RecalibError: for an activation that is neither, or for a gate that returns something else than scale and
            shift of shape (N, C).
    """
    if activation not in ("relu", "none"):
        raise RecalibError(f"activation {activation!r}: recalibrate takes 'relu' or 'none'")
    y = x if norm is None else norm(x)
    if attention is not None:
        y = attention(y)
    if residual is not None:
        y = y + residual
    return torch.relu(y) if activation == "relu" else y
