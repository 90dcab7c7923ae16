"""Data between the three parts of a channel attention module: moments -> gate -> affine."""

from typing import Any, NamedTuple, Protocol, TypeGuard, runtime_checkable

import torch
from torch import Tensor

from recalib.errors import RecalibError


class Moments(NamedTuple):
    """Statistics of every channel of every image of a map x (N, C, H, W), the paper's *pooling*.

    Attributes:
        mean: mean of x over H and W, shape (N, C); Eq. 1 of Klomp et al. 2023.
        variance: centred variance of x over H and W, divided by H*W, shape (N, C); None where the gate needs none.
        size: H*W, the number of values behind each statistic.
    """

    mean: Tensor
    variance: Tensor | None
    size: int


class Affine(NamedTuple):
    """Effect of a gate on a map, the paper's *integration*: ``y = scale * x + shift`` per image and channel.

    Attributes:
        scale: shape (N, C), or None for 1.
        shift: shape (N, C), or None for 0.
    """

    scale: Tensor | None = None
    shift: Tensor | None = None


@runtime_checkable
class GateOnMoments(Protocol):
    """A module that `recalibrate` can fuse: all it wants to know of a map are its moments."""

    needs_variance: bool

    def affine(self, moments: Moments) -> Affine:
        """Scale and shift for the map that has these moments."""
        ...


def is_gate(module: object) -> TypeGuard[GateOnMoments]:
    """As ``isinstance(module, GateOnMoments)``, which takes longer than a small operator does."""
    return callable(getattr(type(module), "affine", None)) and hasattr(module, "needs_variance")


def wide(dtype: torch.dtype) -> torch.dtype:
    """The precision of moments and gates: that of the map, but at least float32."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def ask(gate: GateOnMoments, moments: Moments) -> Affine:
    """The gate's answer in the moments' precision, once it is known to be one.

    Raises:
        RecalibError: where the answer is no pair of (N, C) tensors or Nones.
    """
    answer, mean = gate.affine(moments), moments.mean
    if not (isinstance(answer, tuple) and len(answer) == 2):
        name = type(gate).__name__
        raise RecalibError(f"{name}.affine returned {type(answer).__name__}; a gate returns Affine(scale, shift)")
    scale, shift = answer
    return Affine(_fitting(scale, "scale", gate, mean), _fitting(shift, "shift", gate, mean))


def _fitting(t: Any, what: str, gate: GateOnMoments, mean: Tensor) -> Tensor | None:
    if t is None:
        return None
    if not isinstance(t, Tensor) or t.shape != mean.shape:
        found = f"of shape {tuple(t.shape)}" if isinstance(t, Tensor) else f"of type {type(t).__name__}"
        raise RecalibError(
            f"{type(gate).__name__}.affine returned a {what} {found}; its moments are {tuple(mean.shape)}"
        )
    return t if t.dtype is mean.dtype else t.to(mean.dtype)
