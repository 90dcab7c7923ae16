"""Common to known blocks once they take attention: the tail of the residual branch in one piece."""

from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from recalib import ops


class Host(nn.Module):
    """A known block with a place for attention.

    Never constructed: the class of an existing block is swapped for ``class X(Host, plain)``, which keeps its keys and
    survives copying, pickling, tracing and the conversion of its norms, as neither a wrapper nor a hook would.

    Attributes:
        attention_after: the child whose output attention works on.
        width: where the block says how many channels that output has.
        taken_by: a child in which the plain class may have a module of its own at the same site.
        attention: maps (N, C, H, W) to (N, C, H, W), or None.
    """

    attention_after: ClassVar[str]
    width: ClassVar[str]
    taken_by: ClassVar[str | None] = None
    attention: nn.Module | None

    if TYPE_CHECKING:  # the children of the plain block

        def __getattr__(self, name: str) -> Any: ...

    @classmethod
    def channels_of(cls, block: nn.Module) -> int | None:
        """C at the site of a block, of this class or still of the plain one; None where it is no site."""
        return int(attrgetter(cls.width)(block))


def tail(
    x: Tensor,
    norm: nn.Module | None,
    attention: nn.Module | None,
    residual: Tensor | None = None,
    activation: nn.Module | None = None,
    drop_path: nn.Module | None = None,
) -> Tensor:
    """``activation(drop_path(attention(norm(x))) + residual)``, through `ops.recalibrate` as far as it goes.

    Args:
        x: output of the last convolution of the branch, shape (N, C, H, W).
        norm: last norm of the branch, or None.
        attention: maps (N, C, H, W) to (N, C, H, W), or None.
        residual: the shortcut, shape (N, C, H, W), or None.
        activation: the block's own, or None; only a plain ReLU is fused.
        drop_path: stochastic depth on the branch, or None; fused, by leaving it out, where it does nothing.
    """
    if drop_path is not None and _drops(drop_path):
        x = drop_path(ops.recalibrate(x, norm, attention, activation="none"))
        norm = attention = None
    if type(activation) is nn.ReLU and not activation._forward_hooks:
        return ops.recalibrate(x, norm, attention, residual, "relu")
    y = ops.recalibrate(x, norm, attention, residual, "none")
    return y if activation is None else activation(y)


def _drops(drop_path: nn.Module) -> bool:
    if isinstance(drop_path, nn.Identity):
        return False
    return drop_path.training or type(drop_path).__name__ not in ("DropPath", "StochasticDepth")
