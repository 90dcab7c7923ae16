"""Residual blocks with a place for attention, of the CIFAR ResNets."""

from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from recalib import ops


class Block(nn.Module):
    """A residual branch with a place for one channel attention module at its end.

    What surgery needs to know of a block is the class attribute ``attention_after``: the name of the child on whose
    output the module works. The block's forward runs ``self.attention`` there whenever it is not None, so a module is
    inserted by ``block.attention = module`` and removed by ``block.attention = None``; its keys are ``attention.*``.

    Attributes:
        attention: maps (N, C, H, W) to (N, C, H, W), or None.
        channels: C, the channels of the block's output.
        convolutions: number of weighted layers in the branch.
        expansion: channels of the output for each of the block's planes.
    """

    attention_after: ClassVar[str]
    convolutions: ClassVar[int]
    expansion: ClassVar[int] = 1
    pre_activation: ClassVar[bool] = False

    def __init__(self, inputs: int, planes: int, stride: int, shortcut: str) -> None:
        super().__init__()
        self.channels = planes * self.expansion
        self.make_branch(inputs, planes, stride)
        reshapes = stride != 1 or inputs != self.channels
        self.downsample = self._make_shortcut(inputs, stride, shortcut) if reshapes else None
        self.attention: nn.Module | None
        self.register_module("attention", None)

    def make_branch(self, inputs: int, planes: int, stride: int) -> None:
        """Create the layers of the branch."""
        raise NotImplementedError

    def _make_shortcut(self, inputs: int, stride: int, shortcut: str) -> nn.Module:
        if shortcut == "pad":
            return Pad(self.channels - inputs, stride)
        projection = nn.Sequential(nn.Conv2d(inputs, self.channels, 1, stride, bias=False))
        return projection if self.pre_activation else projection.append(nn.BatchNorm2d(self.channels))


class BasicBlock(Block):
    """conv-norm-relu-conv-norm, attention, + shortcut, relu."""

    attention_after = "bn2"
    convolutions = 2

    def make_branch(self, inputs: int, planes: int, stride: int) -> None:
        """Create the layers of the branch."""
        self.conv1, self.bn1 = conv3x3(inputs, planes, stride), nn.BatchNorm2d(planes)
        self.conv2, self.bn2 = conv3x3(planes, planes), nn.BatchNorm2d(planes)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, planes, H/stride, W/stride)."""
        residual = x if self.downsample is None else self.downsample(x)
        out = self.conv2(F.relu(self.bn1(self.conv1(x))))
        return ops.recalibrate(out, self.bn2, self.attention, residual)


class Bottleneck(Block):
    """1x1 convolution, 3x3, 1x1 to four times the planes, each with its norm; attention, + shortcut, relu."""

    attention_after = "bn3"
    convolutions = 3
    expansion = 4

    def make_branch(self, inputs: int, planes: int, stride: int) -> None:
        """Create the layers of the branch."""
        self.conv1, self.bn1 = nn.Conv2d(inputs, planes, 1, bias=False), nn.BatchNorm2d(planes)
        self.conv2, self.bn2 = conv3x3(planes, planes, stride), nn.BatchNorm2d(planes)
        self.conv3, self.bn3 = nn.Conv2d(planes, 4 * planes, 1, bias=False), nn.BatchNorm2d(4 * planes)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, 4*planes, H/stride, W/stride)."""
        residual = x if self.downsample is None else self.downsample(x)
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.conv3(F.relu(self.bn2(self.conv2(out))))
        return ops.recalibrate(out, self.bn3, self.attention, residual)


class PreActBasicBlock(BasicBlock):
    """norm-relu-conv-norm-relu-conv, attention, + shortcut; a shortcut that changes the shape reads the first relu."""

    attention_after = "conv2"
    pre_activation = True

    def make_branch(self, inputs: int, planes: int, stride: int) -> None:
        """Create the layers of the branch."""
        super().make_branch(inputs, planes, stride)
        self.bn1 = nn.BatchNorm2d(inputs)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, planes, H/stride, W/stride)."""
        first = F.relu(self.bn1(x))
        residual = x if self.downsample is None else self.downsample(first)
        out = self.conv2(F.relu(self.bn2(self.conv1(first))))
        return ops.recalibrate(out, None, self.attention, residual, activation="none")


class PreActBottleneck(Bottleneck):
    """`Bottleneck` with a norm and relu before each convolution, as `PreActBasicBlock`."""

    attention_after = "conv3"
    pre_activation = True

    def make_branch(self, inputs: int, planes: int, stride: int) -> None:
        """Create the layers of the branch."""
        super().make_branch(inputs, planes, stride)
        self.bn1, self.bn3 = nn.BatchNorm2d(inputs), nn.BatchNorm2d(planes)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, 4*planes, H/stride, W/stride)."""
        first = F.relu(self.bn1(x))
        residual = x if self.downsample is None else self.downsample(first)
        out = self.conv2(F.relu(self.bn2(self.conv1(first))))
        out = self.conv3(F.relu(self.bn3(out)))
        return ops.recalibrate(out, None, self.attention, residual, activation="none")


BLOCKS: dict[tuple[str, int], type[Block]] = {
    ("basic", 1): BasicBlock,
    ("bottleneck", 1): Bottleneck,
    ("basic", 2): PreActBasicBlock,
    ("bottleneck", 2): PreActBottleneck,
}


class Pad(nn.Module):
    """Option A shortcut: every ``stride``-th pixel, and zeros for the new channels, half of them on either side."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.channels, self.stride = channels, stride

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, C + channels, H/stride, W/stride)."""
        before = self.channels // 2
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.channels - before))


def conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """3x3 convolution without bias that keeps the size of the map, or divides it by the stride."""
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
