"""Where a network and the tensors that are to go into it differ."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

COUNTER = "num_batches_tracked"  # of norms: no weight; absent from old files and from frozen norms
LISTED = 4  # keys that a message names


@dataclass(frozen=True)
class Differences:
    """Reasons why tensors are not a network's; norms' counters of batches are none.

    Attributes:
        missing: keys that the network has and the tensors have not.
        unexpected: keys that the tensors have and the network has not.
        differing: keys whose shapes differ, in the order of the network, with both shapes.
    """

    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    differing: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = [(self.missing, "missing"), (self.unexpected, "unexpected")]
        return "; ".join(f"{len(keys)} {what}: {_shortened(keys)}" for keys, what in parts if keys)


def compare(network: nn.Module, tensors: Mapping[str, Tensor]) -> Differences:
    """Differences between a network's state and tensors by name."""
    state = network.state_dict()
    differing = (
        f"{key}: the network has {tuple(own.shape)}, the checkpoint {tuple(tensors[key].shape)}"
        for key, own in state.items()
        if key in tensors and tensors[key].shape != own.shape
    )
    return Differences(
        tuple(key for key in state if key not in tensors and not key.endswith(COUNTER)),
        tuple(key for key in tensors if key not in state and not key.endswith(COUNTER)),
        tuple(differing),
    )


def same_names(network: nn.Module, tensors: Mapping[str, Tensor]) -> bool:
    """True if tensors have exactly the names of a network's state."""
    differences = compare(network, tensors)
    return not differences.missing and not differences.unexpected


def without_memory(network: nn.Module) -> nn.Module:
    """A copy of a network on the meta device: everything but the values."""
    memo: dict[int, object] = {id(b): torch.empty_like(b, device="meta") for b in network.buffers()}
    memo |= {
        id(p): nn.Parameter(torch.empty_like(p, device="meta"), requires_grad=p.requires_grad)
        for p in network.parameters()
    }
    return copy.deepcopy(network, memo)


def _shortened(keys: tuple[str, ...]) -> str:
    rest = len(keys) - LISTED
    return ", ".join(keys[:LISTED]) + (f" and {rest} more" if rest > 0 else "")
