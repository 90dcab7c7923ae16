"""The form in which a project's checkpoints are described: how to recognise them, and what its keys are here."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from recalib.errors import RecalibError

Normalization = tuple[tuple[float, ...], tuple[float, ...]]  # mean and std of the pixels in [0, 1], RGB

IMAGENET: Normalization = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CIFAR: Normalization = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))

NO_EPS = 1e-12  # for sources that take a standard deviation without eps: too small to see, and keeps gradients finite


class Rule(NamedTuple):
    """One key, or several that become one tensor.

    Attributes:
        pattern: regular expression of the whole key there.
        key: the key here, with the groups of the pattern.
        merge: makes the tensor from those whose keys become this one, in the order of their names.
    """

    pattern: str
    key: str
    merge: Callable[..., Tensor] = lambda tensor: tensor


_AS_IT_IS = Rule(r"([\s\S]*)", r"\1")


@dataclass(frozen=True)
class CheckpointFormat:
    """Format in which a project stores networks with attention.

    Attributes:
        name: of the format.
        source: whose checkpoints these are.
        sign: regular expression; a checkpoint with such a key is of this format.
        rules: the first that fits a key is applied; a key that fits none stays as it is.
        beside: an entry that the file must have beside its tensors.
        unseen: options that a mechanism's tensors do not show, by the mechanism's name.
        lone_weight: the mechanism whose one tensor is ``weight``.
        normalization: of the input, where it is not the usual one of the network.
        silent: for a mechanism without tensors, the keys whose first group is the module that carries it, and its name.
        position: of attention, ``"before"`` or ``"after"`` the modules that carry it; None for the default sites.
        stride_in_1x1: whether bottlenecks stride in their first convolution, not in the 3x3.
        keeps: whether the network is built with the attention that it has by itself.
    """

    name: str
    source: str
    sign: str
    rules: tuple[Rule, ...] = ()
    beside: str | None = None
    unseen: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    lone_weight: str | None = None
    normalization: Normalization | None = None
    silent: tuple[str, str] | None = None
    position: Literal["before", "after"] | None = None
    stride_in_1x1: bool = False
    keeps: bool = False

    def fits(self, keys: Iterable[str], beside: Mapping[str, Any]) -> bool:
        """True if a checkpoint with these keys and entries is of this format."""
        return (self.beside is None or self.beside in beside) and any(re.fullmatch(self.sign, key) for key in keys)

    def translate(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors under the keys that our networks have.

        Raises:
            RecalibError: for tensors that do not go together, naming their keys.
        """
        sources: dict[str, list[str]] = {}
        merges: dict[str, Callable[..., Tensor]] = {}
        for key in tensors:
            target, merge = self._rule(key)
            sources.setdefault(target, []).append(key)
            merges[target] = merge
        return {target: self._merged(merges[target], sorted(keys), tensors) for target, keys in sources.items()}

    def _rule(self, key: str) -> tuple[str, Callable[..., Tensor]]:
        for rule in (*self.rules, _AS_IT_IS):
            if match := re.fullmatch(rule.pattern, key):
                return match.expand(rule.key), rule.merge
        raise AssertionError(key)

    def _merged(self, merge: Callable[..., Tensor], keys: list[str], tensors: Mapping[str, Tensor]) -> Tensor:
        try:
            return merge(*(tensors[key] for key in keys))
        except (RuntimeError, TypeError, ValueError):
            shapes = ", ".join(f"{key} {tuple(tensors[key].shape)}" for key in keys)
            raise RecalibError(f"{shapes}: does not fit the format {self.name}") from None


def flat(tensor: Tensor) -> Tensor:
    """A 1x1 convolution (out, in, 1, 1) as the matrix (out, in) of a linear layer."""
    return tensor.reshape(tensor.shape[:2])


def line(tensor: Tensor) -> Tensor:
    """A 1x1 convolution (out, in, 1, 1) as one over a line, (out, in, 1)."""
    return tensor.reshape(*tensor.shape[:2], 1)


def vector(tensor: Tensor) -> Tensor:
    """A parameter (1, C, 1, 1) as (C,)."""
    return tensor.reshape(tensor.shape[1])


def rows(*tensors: Tensor) -> Tensor:
    """The layers of several branches as rows of one."""
    return torch.cat(tensors)


def columns(*tensors: Tensor) -> Tensor:
    """The layers of several branches as columns of one."""
    return torch.cat(tensors, 1)


def stacked(*tensors: Tensor) -> Tensor:
    """The biases of several branches, (branches, C)."""
    return torch.stack(tensors)
