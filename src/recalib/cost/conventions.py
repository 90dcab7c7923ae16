"""Rules for what counts as a FLOP: the true one, and one that a paper's table follows."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn

from recalib.attention import CATALOGUE
from recalib.attention.base import Described
from recalib.errors import RecalibError


class Operation(NamedTuple):
    """One operation that PyTorch runs.

    Attributes:
        name: aten's name, in-place forms without their underscore, such as ``convolution`` or ``add``.
        macs: multiply-adds of a convolution or matrix product, 0 for everything else.
        inputs: elements of the largest tensor that goes in.
        outputs: elements of the first tensor that comes out.
    """

    name: str
    macs: int
    inputs: int
    outputs: int


@dataclass(frozen=True)
class Convention:
    """A way to count FLOPs.

    Attributes:
        operation: FLOPs of one operation.
        module: FLOPs of a whole module from the shape of its input, in place of those of its operations; None where
            the convention has no rule of its own for the module.
    """

    operation: Callable[[Operation], int]
    module: Callable[[nn.Module, torch.Size], int | None]


MOVES_ONLY = frozenset(
    [
        "_to_copy",
        "arange",
        "cat",
        "clone",
        "constant_pad_nd",
        "copy",
        "embedding",
        "fill",
        "full",
        "full_like",
        "gather",
        "im2col",
        "index",
        "index_select",
        "masked_fill",
        "native_channel_shuffle",
        "ones",
        "ones_like",
        "reflection_pad2d",
        "repeat",
        "replication_pad2d",
        "roll",
        "stack",
        "upsample_nearest2d",
        "where",
        "zero",
        "zeros",
        "zeros_like",
    ]
)
PER_ELEMENT = {  # operations that stand for several; all others are one for each element
    "addcmul": 2,
    "native_layer_norm": 5,
    "native_group_norm": 5,
    "var": 4,
    "var_mean": 4,
    "std": 4,
    "std_mean": 4,
}


def _standard(operation: Operation) -> int:
    if operation.macs:
        return 2 * operation.macs
    if operation.name in MOVES_ONLY:
        return 0
    each = 2 if "batch_norm" in operation.name else PER_ELEMENT.get(operation.name, 1)
    return each * max(operation.inputs, operation.outputs)


def _klomp(operation: Operation) -> int:
    if "batch_norm" in operation.name:
        return 2 * operation.outputs
    if operation.name in ("mean", "avg_pool2d", "_adaptive_avg_pool2d"):
        return operation.inputs + operation.outputs  # the sum, and one division: 50 a channel for 7x7
    return operation.macs


def _klomp_module(module: nn.Module, shape: torch.Size) -> int | None:
    if not isinstance(module, Described):
        return None
    if "paper_flops" in vars(type(module)) and module.paper_flops is not None:
        a_value, a_square = module.paper_flops
        return shape[0] * (a_value * shape[1:].numel() + a_square * shape[1] ** 2)
    classes = (cls for mechanism in CATALOGUE.values() for cls in mechanism.classes)
    counted = [cls.__name__ for cls in classes if "paper_flops" in vars(cls)]
    raise RecalibError(
        f"convention 'klomp' has no rule for {type(module).__name__}; the paper counts {', '.join(counted)}"
    )


CONVENTIONS = {
    "standard": Convention(_standard, lambda module, shape: None),
    "klomp": Convention(_klomp, _klomp_module),
}
