"""The ResNets for 32x32 images, which neither torchvision nor timm has."""

from collections.abc import Callable
from functools import partial
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from recalib.attention import create_attention
from recalib.errors import RecalibError, unknown
from recalib.models.cifar_blocks import BLOCKS, Block, conv3x3

SHORTCUTS = ("projection", "pad")


def cifar_resnet(
    depth: int,
    *,
    block: Literal["basic", "bottleneck"] = "basic",
    version: Literal[1, 2] = 1,
    shortcut: Literal["projection", "pad"] = "projection",
    attention: str | Callable[[int], nn.Module] | None = None,
    num_classes: int = 10,
) -> "CifarResNet":
    """ResNet for small images from He et al. 2016, https://arxiv.org/abs/1512.03385 (section 4.2).

    Three stages of n blocks with 16, 32 and 64 planes, without a pooling stem. Keys are named as torchvision's.

    Args:
        depth: number of layers, 6n+2 with basic blocks and 9n+2 with bottlenecks, such as 20 or 56.
        block: ``"basic"`` (two 3x3 convolutions) or ``"bottleneck"`` (1x1, 3x3 and 1x1 to 4 times the planes).
        version: 1, or 2 for pre-activation (He et al. 2016, https://arxiv.org/abs/1603.05027).
        shortcut: where a block changes the shape, ``"projection"`` (option B: a 1x1 convolution, in version 1 with its
            norm) or ``"pad"`` (option A: every second pixel, and zeros for the new channels; no parameters).
        attention: a name of `recalib.attention_names`, or a factory ``channels -> nn.Module``, for every block.
        num_classes: number of classes.

    Returns:
        A network that maps images (N, 3, H, W), usually 32x32, to logits (N, num_classes).

    Raises:
        RecalibError: for a depth that does not exist, naming the nearest that do, and for unknown names.
    """
    if (block, version) not in BLOCKS:
        raise RecalibError(
            f"block={block!r}, version={version!r}: there are 'basic' and 'bottleneck', versions 1 and 2"
        )
    if shortcut not in SHORTCUTS:
        raise unknown("shortcut", shortcut, SHORTCUTS)
    kind = BLOCKS[block, version]
    network = CifarResNet(kind, _blocks_per_stage(depth, kind), shortcut, num_classes)
    if attention is not None:
        make = partial(create_attention, attention) if isinstance(attention, str) else attention
        for place in network.blocks():
            place.attention = make(place.channels)
    return network


def _blocks_per_stage(depth: int, kind: type[Block]) -> int:
    step = 3 * kind.convolutions
    n, rest = divmod(depth - 2, step)
    if rest or n < 1:
        below = step * max(n, 1) + 2
        raise RecalibError(
            f"depth={depth}: a CIFAR ResNet of these blocks has {step}n+2 layers; "
            f"the nearest are {below} and {below + step}"
        )
    return n


class CifarResNet(nn.Module):
    """Network of `cifar_resnet`: a 3x3 stem, three stages, the mean over the map, and one linear layer."""

    def __init__(self, kind: type[Block], blocks: int, shortcut: str, num_classes: int) -> None:
        super().__init__()
        pre, features = kind.pre_activation, 64 * kind.expansion
        self.conv1 = conv3x3(3, 16)
        self.bn1 = None if pre else nn.BatchNorm2d(16)
        self.layer1 = _stage(kind, 16, 16, blocks, 1, shortcut)
        self.layer2 = _stage(kind, 16 * kind.expansion, 32, blocks, 2, shortcut)
        self.layer3 = _stage(kind, 32 * kind.expansion, 64, blocks, 2, shortcut)
        self.bn = nn.BatchNorm2d(features) if pre else None
        self.fc = nn.Linear(features, num_classes)
        self._initialize()

    def _initialize(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def blocks(self) -> list[Block]:
        """The residual blocks, in order."""
        return [module for module in self.modules() if isinstance(module, Block)]

    def forward(self, x: Tensor) -> Tensor:
        """Maps images (N, 3, H, W) to logits (N, num_classes)."""
        x = self.conv1(x)
        if self.bn1 is not None:
            x = F.relu(self.bn1(x))
        x = self.layer3(self.layer2(self.layer1(x)))
        if self.bn is not None:
            x = F.relu(self.bn(x))
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


def _stage(kind: type[Block], inputs: int, planes: int, blocks: int, stride: int, shortcut: str) -> nn.Sequential:
    rest = (kind(planes * kind.expansion, planes, 1, shortcut) for _ in range(blocks - 1))
    return nn.Sequential(kind(inputs, planes, stride, shortcut), *rest)
