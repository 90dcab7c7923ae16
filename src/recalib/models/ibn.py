"""IBN-Net (Pan et al. 2018): instance normalization in the early stages of a ResNet, against changes of style."""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from recalib import ops
from recalib.errors import RecalibError, unknown

Scheme = Literal["a", "b"]
STAGES: dict[str, int] = {"a": 3, "b": 2}  # from the first; a and b as in the paper's Fig. 3


def ibn_(network: nn.Module, scheme: Scheme) -> None:
    """Put instance normalization into a ResNet with torchvision's names, in place.

    ``a``: the first norm of every block of stages 1 to 3 normalizes half of its channels per image, the other half
    over the batch. ``b``: the norms of the stem, and the outcome of stages 1 and 2, after the addition, before the
    activation. Keys are those of the authors' code (``bn1.IN``, ``bn1.BN``, ``IN``); instance norms that replace a
    norm keep its weight and bias. Call it before attention is inserted; attention that is there already stays.

    Args:
        network: has ``layer1`` to ``layer4``, and a stem before them.
        scheme: ``"a"`` or ``"b"``.

    Raises:
        RecalibError: for another scheme, or a network without such stages.
    """
    if scheme not in STAGES:
        raise unknown("ibn scheme", scheme, STAGES)
    names = [f"layer{i}" for i in range(1, STAGES[scheme] + 1)]
    if not all(isinstance(getattr(network, name, None), nn.Sequential) for name in names):
        raise RecalibError(f"ibn: {type(network).__name__} has no stages layer1 to layer4")
    resnet: Any = network
    stages: list[Any] = [getattr(network, name) for name in names]
    if scheme == "a":
        for block in (block for stage in stages for block in stage):
            block.bn1 = HalfInstanceNorm(block.bn1)
        return
    resnet.bn1 = _instance_norm(resnet.bn1, slice(None))
    for stage in stages:
        stage[-1] = InstanceNormBlock(stage[-1])


class HalfInstanceNorm(nn.Module):
    """Instance normalization of the first half of the channels, the norm it replaces for the rest (IBN-a).

    Args:
        norm: of C channels, with weight and bias of shape (C,); batch statistics stay where it has them.
    """

    def __init__(self, norm: Any) -> None:
        super().__init__()
        self.size = len(norm.weight) // 2
        self.IN = _instance_norm(norm, slice(self.size))
        self.BN = _rest(norm, slice(self.size, None))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, C, H, W)."""
        first, rest = x.split([self.size, x.shape[1] - self.size], 1)
        return torch.cat([self.IN(first), self.BN(rest)], 1)


class InstanceNormBlock(nn.Module):
    """A basic block or bottleneck with instance normalization between its addition and its activation (IBN-b).

    Args:
        block: torchvision's; its children are taken over under their names.
    """

    def __init__(self, block: Any) -> None:
        super().__init__()
        for name in ("attention", "downsample"):
            self.register_module(name, None)
        for name, child in block.named_children():
            self.add_module(name, child)
        self.depth = 3 if hasattr(block, "conv3") else 2
        self.channels = len(self._child(self.attention_after).weight)
        self.IN = nn.InstanceNorm2d(self.channels, affine=True)

    @property
    def attention_after(self) -> str:
        """The last norm of the branch; what surgery needs to know of a block."""
        return f"bn{self.depth}"

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C_in, H, W) to (N, C, H/stride, W/stride)."""
        y, shortcut, relu = x, self._child("downsample"), self._child("relu")
        for i in range(1, self.depth):
            y = relu(self._child(f"bn{i}")(self._child(f"conv{i}")(y)))
        y = self._child(f"conv{self.depth}")(y)
        residual = x if shortcut is None else shortcut(x)
        norm, attention = self._child(self.attention_after), self._child("attention")
        return relu(self.IN(ops.recalibrate(y, norm, attention, residual, "none")))

    def _child(self, name: str) -> Any:
        return self._modules[name]


def _instance_norm(norm: Any, part: slice) -> nn.InstanceNorm2d:
    """Instance normalization with a part of a norm's weight and bias."""
    weight, bias = norm.weight.detach()[part], norm.bias.detach()[part]
    fresh = nn.InstanceNorm2d(len(weight), affine=True)
    fresh.load_state_dict({"weight": weight, "bias": bias})
    return fresh.to(weight)


def _rest(norm: Any, part: slice) -> nn.Module:
    """A norm for a part of the channels of another one, of the same class and with the same state there."""
    size = len(norm.weight[part])
    rest: nn.Module = nn.GroupNorm(norm.num_groups // 2, size) if isinstance(norm, nn.GroupNorm) else type(norm)(size)
    rest.load_state_dict({key: tensor[part] if tensor.ndim else tensor for key, tensor in norm.state_dict().items()})
    return rest.to(norm.weight)
