"""torchvision's residual blocks with a place for attention."""

from torch import Tensor, nn
from torchvision.models import convnext, efficientnet, mnasnet, mobilenetv2, mobilenetv3, regnet, resnet
from torchvision.ops.misc import Conv2dNormActivation

from recalib.surgery.blocks.base import Host, tail


def up_to_norm(branch: nn.Sequential, x: Tensor) -> tuple[Tensor, nn.Module | None]:
    """A map x (N, C, H, W) sent through a branch up to its last norm, and that norm.

    A branch that ends in an activation (FusedMBConv without expansion) is run to its end, and leaves no norm.
    """
    *body, last = branch
    for layer in body:
        x = layer(x)
    if not isinstance(last, Conv2dNormActivation):
        return x, last
    return (last[0](x), last[1]) if len(last) == 2 else (last(x), None)


class BasicBlock(Host, resnet.BasicBlock):
    """ResNet-18 and -34."""

    attention_after = "bn2"
    width = "conv2.out_channels"

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C_in, H, W) to (N, C, H/stride, W/stride)."""
        y = self.conv2(self.relu(self.bn1(self.conv1(x))))
        residual = x if self.downsample is None else self.downsample(x)
        return tail(y, self.bn2, self.attention, residual, self.relu)


class Bottleneck(Host, resnet.Bottleneck):
    """ResNet-50 and deeper, ResNeXt, Wide ResNet."""

    attention_after = "bn3"
    width = "conv3.out_channels"

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C_in, H, W) to (N, C, H/stride, W/stride)."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.conv3(self.relu(self.bn2(self.conv2(y))))
        residual = x if self.downsample is None else self.downsample(x)
        return tail(y, self.bn3, self.attention, residual, self.relu)


class RegNetBlock(Host, regnet.ResBottleneckBlock):
    """RegNet-X and -Y; the squeeze-and-excitation in the middle of Y's blocks stays."""

    attention_after = "f"
    width = "f.c.out_channels"

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C_in, H, W) to (N, C, H/stride, W/stride)."""
        residual = x if self.proj is None else self.proj(x)
        y, norm = up_to_norm(self.f, x)
        return tail(y, norm, self.attention, residual, self.activation)


class MobileNetV2Block(Host, mobilenetv2.InvertedResidual):
    """MobileNetV2."""

    attention_after = "conv"
    width = "out_channels"

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C_in, H, W) to (N, C, H/stride, W/stride)."""
        y, norm = up_to_norm(self.conv, x)
        return tail(y, norm, self.attention, x if self.use_res_connect else None)


class MobileNetV3Block(Host, mobilenetv3.InvertedResidual):
    """MobileNetV3; the squeeze-and-excitation in the middle of a block stays."""

    attention_after = "block"
    width = "out_channels"

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C_in, H, W) to (N, C, H/stride, W/stride)."""
        y, norm = up_to_norm(self.block, x)
        return tail(y, norm, self.attention, x if self.use_res_connect else None)


class MBConv(Host, efficientnet.MBConv):
    """EfficientNet; the squeeze-and-excitation in the middle of a block stays."""

    attention_after = "block"
    width = "out_channels"

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C_in, H, W) to (N, C, H/stride, W/stride)."""
        y, norm = up_to_norm(self.block, x)
        if not self.use_res_connect:
            return tail(y, norm, self.attention)
        return tail(y, norm, self.attention, x, drop_path=self.stochastic_depth)


class FusedMBConv(Host, efficientnet.FusedMBConv):
    """EfficientNetV2's first stages; without an expansion the branch ends in its activation."""

    attention_after = "block"
    width = "out_channels"
    forward = MBConv.forward


class MNASNetBlock(Host, mnasnet._InvertedResidual):
    """MNASNet."""

    attention_after = "layers"
    width = "layers.6.out_channels"

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C_in, H, W) to (N, C, H/stride, W/stride)."""
        y, norm = up_to_norm(self.layers, x)
        return tail(y, norm, self.attention, x if self.apply_residual else None)


class ConvNeXtBlock(Host, convnext.CNBlock):
    """ConvNeXt: layer scale and stochastic depth come after attention."""

    attention_after = "block"
    width = "block.0.out_channels"

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, C, H, W)."""
        y = self.layer_scale * tail(self.block(x), None, self.attention)
        return tail(y, None, None, x, drop_path=self.stochastic_depth)


HOSTS: dict[type, type[Host]] = {
    host.__bases__[1]: host
    for host in (
        BasicBlock,
        Bottleneck,
        RegNetBlock,
        MobileNetV2Block,
        MobileNetV3Block,
        MBConv,
        FusedMBConv,
        MNASNetBlock,
        ConvNeXtBlock,
    )
}
