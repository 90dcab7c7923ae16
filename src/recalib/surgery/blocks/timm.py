"""timm's residual blocks with a place for attention."""

from typing import Any

from timm.models import _efficientnet_blocks as efficientnet
from timm.models import convnext, regnet, resnet, resnetv2
from torch import Tensor, nn

from recalib.surgery.blocks.base import Host, tail


class BasicBlock(Host, resnet.BasicBlock):
    """ResNet-18 and -34, and what is built of their blocks, such as HRNet."""

    aa: Any
    attention_after = "bn2"
    width = "conv2.out_channels"
    taken_by = "se"

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C_in, H, W) to (N, C, H/stride, W/stride)."""
        y = self.conv2(self.aa(self.act1(self.drop_block(self.bn1(self.conv1(x))))))
        attention = self.attention if self.se is None else self.se
        residual = x if self.downsample is None else self.downsample(x)
        return tail(y, self.bn2, attention, residual, self.act2, self.drop_path)


class Bottleneck(Host, resnet.Bottleneck):
    """ResNet-50 and deeper, ResNeXt, Wide ResNet, ResNet-D."""

    aa: Any
    attention_after = "bn3"
    width = "conv3.out_channels"
    taken_by = "se"

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C_in, H, W) to (N, C, H/stride, W/stride)."""
        y = self.act1(self.bn1(self.conv1(x)))
        y = self.conv3(self.aa(self.act2(self.drop_block(self.bn2(self.conv2(y))))))
        attention = self.attention if self.se is None else self.se
        residual = x if self.downsample is None else self.downsample(x)
        return tail(y, self.bn3, attention, residual, self.act3, self.drop_path)


class RegNetBlock(Host, regnet.Bottleneck):
    """RegNet-X, -Y and -Z; the squeeze-and-excitation in the middle of a block stays."""

    attention_after = "conv3"
    width = "conv3.out_channels"

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C_in, H, W) to (N, C, H/stride, W/stride)."""
        y = self.conv3.conv(self.se(self.conv2(self.conv1(x))))
        if self.downsample is None:
            return tail(y, self.conv3.bn, self.attention, None, self.act3)
        return tail(y, self.conv3.bn, self.attention, self.downsample(x), self.act3, self.drop_path)


class PreActRegNetBlock(Host, regnet.PreBottleneck):
    """RegNet-V: pre-activation."""

    attention_after = "conv3"
    width = "conv3.out_channels"

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C_in, H, W) to (N, C, H/stride, W/stride)."""
        first = self.norm1(x)
        y = self.se(self.conv2(self.norm2(self.conv1(first))))
        y = self.conv3(self.norm3(y))
        if self.downsample is None:
            return tail(y, None, self.attention)
        return tail(y, None, self.attention, self.downsample(first), drop_path=self.drop_path)


class PreActBasic(Host, resnetv2.PreActBasic):
    """ResNet-v2 of basic blocks: pre-activation."""

    attention_after = "conv2"
    width = "conv2.out_channels"

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C_in, H, W) to (N, C, H/stride, W/stride)."""
        first = self.norm1(x)
        residual = x if self.downsample is None else self.downsample(first)
        y = self.conv2(self.norm2(self.conv1(first)))
        return tail(y, None, self.attention, residual, drop_path=self.drop_path)


class PreActBottleneck(Host, resnetv2.PreActBottleneck):
    """ResNet-v2 and BiT: pre-activation."""

    attention_after = "conv3"
    width = "conv3.out_channels"

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C_in, H, W) to (N, C, H/stride, W/stride)."""
        first = self.norm1(x)
        residual = x if self.downsample is None else self.downsample(first)
        y = self.conv2(self.norm2(self.conv1(first)))
        y = self.conv3(self.norm3(y))
        return tail(y, None, self.attention, residual, drop_path=self.drop_path)


class PostActBottleneck(Host, resnetv2.Bottleneck):
    """The blocks of `resnetv2` that are not pre-activation."""

    attention_after = "norm3"
    width = "conv3.out_channels"

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C_in, H, W) to (N, C, H/stride, W/stride)."""
        residual = x if self.downsample is None else self.downsample(x)
        y = self.norm2(self.conv2(self.norm1(self.conv1(x))))
        return tail(self.conv3(y), self.norm3, self.attention, residual, self.act3, self.drop_path)


class DepthwiseSeparable(Host, efficientnet.DepthwiseSeparableConv):
    """First blocks of the mobile networks, without expansion."""

    aa: Any
    attention_after = "bn2"
    width = "conv_pw.out_channels"

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C_in, H, W) to (N, C, H/stride, W/stride)."""
        y = x if self.conv_s2d is None else self.bn_s2d(self.conv_s2d(x))
        y = self.conv_pw(self.se(self.aa(self.bn1(self.conv_dw(y)))))
        return _mobile_tail(self, x, y, self.bn2)


class InvertedResidual(Host, efficientnet.InvertedResidual):
    """MobileNetV2 and -V3, MNASNet, EfficientNet; the squeeze-and-excitation in the middle of a block stays."""

    aa: Any
    attention_after = "bn3"
    width = "conv_pwl.out_channels"

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C_in, H, W) to (N, C, H/stride, W/stride)."""
        y = x if self.conv_s2d is None else self.bn_s2d(self.conv_s2d(x))
        y = self.bn2(self.conv_dw(self.bn1(self.conv_pw(y))))
        return _mobile_tail(self, x, self.conv_pwl(self.se(self.aa(y))), self.bn3)


class EdgeResidual(Host, efficientnet.EdgeResidual):
    """Fused inverted residuals of EfficientNetV2 and EfficientNet-Edge."""

    aa: Any
    attention_after = "bn2"
    width = "conv_pwl.out_channels"

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C_in, H, W) to (N, C, H/stride, W/stride)."""
        y = self.conv_pwl(self.se(self.aa(self.bn1(self.conv_exp(x)))))
        return _mobile_tail(self, x, y, self.bn2)


class UniversalInvertedResidual(Host, efficientnet.UniversalInvertedResidual):
    """MobileNetV4: layer scale comes after attention."""

    attention_after = "dw_end"
    width = "pw_proj.out_channels"

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C_in, H, W) to (N, C, H/stride, W/stride)."""
        y = self.se(self.dw_mid(self.pw_exp(self.dw_start(x))))
        y = tail(self.dw_end(self.pw_proj(y)), None, self.attention)
        y = self.layer_scale(y)
        return tail(y, None, None, x, drop_path=self.drop_path) if self.has_skip else y


class ConvNormAct(Host, efficientnet.ConvBnAct):
    """EfficientNetV2's first stage, whose norm carries the activation; a site only where it has a shortcut."""

    aa: Any
    attention_after = "bn1"
    width = "conv.out_channels"

    @classmethod
    def channels_of(cls, block: nn.Module) -> int | None:
        """C at the site of a block with a shortcut."""
        return super().channels_of(block) if block.has_skip else None

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C_in, H, W) to (N, C, H/stride, W/stride)."""
        return _mobile_tail(self, x, self.aa(self.bn1(self.conv(x))), None)


def _mobile_tail(block: Host, x: Tensor, y: Tensor, norm: nn.Module | None) -> Tensor:
    if not block.has_skip:
        return tail(y, norm, block.attention)
    return tail(y, norm, block.attention, x, drop_path=block.drop_path)


class ConvNeXtBlock(Host, convnext.ConvNeXtBlock):
    """ConvNeXt: layer scale and drop-path come after attention."""

    attention_after = "mlp"
    width = "conv_dw.out_channels"

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C_in, H, W) to (N, C, H/stride, W/stride)."""
        y = self.conv_dw(x)
        if self.use_conv_mlp:
            y = self.mlp(self.norm(y))
        else:
            y = self.mlp(self.norm(y.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        y = tail(y, None, self.attention)
        if self.gamma is not None:
            y = y * self.gamma.reshape(1, -1, 1, 1)
        return tail(y, None, None, self.shortcut(x), drop_path=self.drop_path)


HOSTS: dict[type, type[Host]] = {
    host.__bases__[1]: host
    for host in (
        BasicBlock,
        Bottleneck,
        RegNetBlock,
        PreActRegNetBlock,
        PreActBasic,
        PreActBottleneck,
        PostActBottleneck,
        DepthwiseSeparable,
        InvertedResidual,
        EdgeResidual,
        UniversalInvertedResidual,
        ConvNormAct,
        ConvNeXtBlock,
    )
}
