"""Every known block with attention, against its formula written out by hand, in float64."""

import sys

import pytest
import timm.models._efficientnet_blocks as mobile
import timm.models.convnext as timm_convnext
import timm.models.regnet as timm_regnet
import timm.models.resnet as timm_resnet
import timm.models.resnetv2 as timm_resnetv2
import torch
from timm.layers import BatchNormAct2d, BlurPool2d, DropPath, create_conv2d
from torch import nn
from torchvision.models import convnext, efficientnet, mnasnet, mobilenetv2, mobilenetv3, regnet, resnet

from recalib.models import cifar_resnet
from recalib.surgery import fuse_, insert_, remove_

relu = torch.relu


def projection(inputs, outputs, stride):
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))


def squeeze_excite(block):
    """y = x * sigmoid(W2 relu(W1 mean(x) + b1) + b2), from the weights that were inserted."""
    w1, b1, w2, b2 = (p.detach().clone() for p in block.attention.parameters())

    def a(x):
        hidden = relu(torch.einsum("hc,nc->nh", w1, x.mean((2, 3))) + b1)
        return x / (1 + torch.exp(-(torch.einsum("ch,nh->nc", w2, hidden) + b2)))[:, :, None, None]

    return a


def scaled(x, weight):
    return x * weight.reshape(1, -1, 1, 1)


def swish(x):
    return x * torch.sigmoid(x)


def version_1(b, x, a):
    y = b.conv2(relu(b.bn1(b.conv1(x))))
    if not hasattr(b, "conv3"):
        return relu(a(b.bn2(y)) + (x if b.downsample is None else b.downsample(x)))
    return relu(a(b.bn3(b.conv3(relu(b.bn2(y))))) + (x if b.downsample is None else b.downsample(x)))


def version_2(b, x, a):  # the norms carry their activation
    first = b.norm1(x)
    y = b.conv2(b.norm2(b.conv1(first)))
    y = b.conv3(b.norm3(y)) if hasattr(b, "conv3") else y
    return a(y) + (x if b.downsample is None else b.downsample(first))


def bn_alone(norm, x):
    return nn.functional.batch_norm(
        x, norm.running_mean, norm.running_var, norm.weight, norm.bias, norm.training, norm.momentum, norm.eps
    )


def in_sequence(modules, x):
    for module in modules:
        x = module(x)
    return x


PRE_ACTIVATION = {"act_layer": nn.ReLU, "conv_layer": create_conv2d, "norm_layer": BatchNormAct2d}
V3 = mobilenetv3.InvertedResidualConfig
MB, FUSED = efficientnet.MBConvConfig, efficientnet.FusedMBConvConfig

BLOCKS = {  # name: (block for 8 channels, its output as a function of the block, its input and the attention)
    "torchvision BasicBlock, strided": (
        lambda: resnet.BasicBlock(8, 16, 2, projection(8, 16, 2)),
        version_1,
    ),
    "torchvision Bottleneck, of ResNeXt": (lambda: resnet.Bottleneck(8, 2, groups=2, base_width=128), version_1),
    "torchvision RegNet-Y, strided": (
        lambda: regnet.ResBottleneckBlock(8, 16, 2, nn.BatchNorm2d, nn.ReLU, 8, 1.0, 0.25),
        lambda b, x, a: relu(b.proj(x) + a(b.f.c(b.f.se(b.f.b(b.f.a(x)))))),
    ),
    "torchvision RegNet-X with SiLU": (
        lambda: regnet.ResBottleneckBlock(8, 8, 1, nn.BatchNorm2d, nn.SiLU, 8),
        lambda b, x, a: swish(x + a(b.f.c(b.f.b(b.f.a(x))))),
    ),
    "torchvision MobileNetV2": (
        lambda: mobilenetv2.InvertedResidual(8, 8, 1, 2),
        lambda b, x, a: x + a(in_sequence(b.conv, x)),
    ),
    "torchvision MobileNetV2, without shortcut": (
        lambda: mobilenetv2.InvertedResidual(8, 16, 2, 1),
        lambda b, x, a: a(in_sequence(b.conv, x)),
    ),
    "torchvision MobileNetV3": (
        lambda: mobilenetv3.InvertedResidual(V3(8, 3, 16, 8, True, "HS", 1, 1, 1.0), nn.BatchNorm2d),
        lambda b, x, a: x + a(in_sequence(b.block, x)),
    ),
    "torchvision MBConv": (
        lambda: efficientnet.MBConv(MB(4, 3, 1, 8, 8, 1), 0.2, nn.BatchNorm2d),
        lambda b, x, a: x + b.stochastic_depth(a(in_sequence(b.block, x))),
    ),
    "torchvision MBConv, without shortcut": (
        lambda: efficientnet.MBConv(MB(4, 3, 2, 8, 16, 1), 0.2, nn.BatchNorm2d),
        lambda b, x, a: a(in_sequence(b.block, x)),
    ),
    "torchvision FusedMBConv": (
        lambda: efficientnet.FusedMBConv(FUSED(4, 3, 1, 8, 8, 1), 0.2, nn.BatchNorm2d),
        lambda b, x, a: x + b.stochastic_depth(a(in_sequence(b.block, x))),
    ),
    "torchvision FusedMBConv, without expansion": (
        lambda: efficientnet.FusedMBConv(FUSED(1, 3, 1, 8, 8, 1), 0.2, nn.BatchNorm2d),
        lambda b, x, a: x + b.stochastic_depth(a(swish(b.block[0][1](b.block[0][0](x))))),
    ),
    "torchvision MNASNet": (
        lambda: mnasnet._InvertedResidual(8, 8, 3, 1, 3),
        lambda b, x, a: x + a(in_sequence(b.layers, x)),
    ),
    "torchvision MNASNet, without shortcut": (
        lambda: mnasnet._InvertedResidual(8, 16, 5, 2, 3),
        lambda b, x, a: a(in_sequence(b.layers, x)),
    ),
    "torchvision ConvNeXt": (
        lambda: convnext.CNBlock(8, 0.1, 0.3),
        lambda b, x, a: x + b.stochastic_depth(scaled(a(in_sequence(b.block, x)), b.layer_scale)),
    ),
    "timm BasicBlock with SiLU and drop-path": (
        lambda: timm_resnet.BasicBlock(8, 8, act_layer=nn.SiLU, drop_path=DropPath(0.5)),
        lambda b, x, a: swish(b.drop_path(a(b.bn2(b.conv2(swish(b.bn1(b.conv1(x))))))) + x),
    ),
    "timm BasicBlock with ReLU and drop-path": (
        lambda: timm_resnet.BasicBlock(8, 8, drop_path=DropPath(0.5)),
        lambda b, x, a: relu(b.drop_path(a(b.bn2(b.conv2(relu(b.bn1(b.conv1(x))))))) + x),
    ),
    "timm Bottleneck, anti-aliased": (
        lambda: timm_resnet.Bottleneck(8, 4, 2, projection(8, 16, 2), aa_layer=BlurPool2d),
        lambda b, x, a: relu(a(b.bn3(b.conv3(b.aa(relu(b.bn2(b.conv2(relu(b.bn1(b.conv1(x)))))))))) + b.downsample(x)),
    ),
    "timm RegNet-Y": (
        lambda: timm_regnet.Bottleneck(8, 8, group_size=8, dilation=(1, 1), drop_path_rate=0.2),
        lambda b, x, a: relu(b.drop_path(a(b.conv3(b.se(b.conv2(b.conv1(x)))))) + x),
    ),
    "timm RegNet-Z, linear, without shortcut": (
        lambda: timm_regnet.Bottleneck(8, 16, 2, group_size=8, downsample=None, linear_out=True),
        lambda b, x, a: a(b.conv3(b.se(b.conv2(b.conv1(x))))),
    ),
    "timm RegNet-V": (
        lambda: timm_regnet.PreBottleneck(8, 16, 2, group_size=8, drop_path_rate=0.2),
        lambda b, x, a: (
            b.drop_path(a(b.conv3(b.norm3(b.se(b.conv2(b.norm2(b.conv1(b.norm1(x))))))))) + b.downsample(b.norm1(x))
        ),
    ),
    "timm PreActBasic": (lambda: timm_resnetv2.PreActBasic(8, 8, **PRE_ACTIVATION), version_2),
    "timm PreActBottleneck": (
        lambda: timm_resnetv2.PreActBottleneck(8, 16, proj_layer=timm_resnetv2.DownsampleConv, **PRE_ACTIVATION),
        version_2,
    ),
    "timm resnetv2 Bottleneck": (
        lambda: timm_resnetv2.Bottleneck(8, 8, **PRE_ACTIVATION),
        lambda b, x, a: relu(x + a(b.norm3(b.conv3(b.norm2(b.conv2(b.norm1(b.conv1(x)))))))),
    ),
    "timm DepthwiseSeparableConv": (
        lambda: mobile.DepthwiseSeparableConv(8, 8, se_layer=mobile.SqueezeExcite, drop_path_rate=0.2),
        lambda b, x, a: x + b.drop_path(a(b.bn2(b.conv_pw(b.se(b.bn1(b.conv_dw(x))))))),
    ),
    "timm DepthwiseSeparableConv with activation": (
        lambda: mobile.DepthwiseSeparableConv(8, 16, pw_act=True),
        lambda b, x, a: a(relu(bn_alone(b.bn2, b.conv_pw(b.bn1(b.conv_dw(x)))))),
    ),
    "timm InvertedResidual": (
        lambda: mobile.InvertedResidual(8, 8, exp_ratio=2, se_layer=mobile.SqueezeExcite, drop_path_rate=0.2),
        lambda b, x, a: x + b.drop_path(a(b.bn3(b.conv_pwl(b.se(b.bn2(b.conv_dw(b.bn1(b.conv_pw(x))))))))),
    ),
    "timm InvertedResidual, without shortcut": (
        lambda: mobile.InvertedResidual(8, 16, stride=2, exp_ratio=2),
        lambda b, x, a: a(b.bn3(b.conv_pwl(b.bn2(b.conv_dw(b.bn1(b.conv_pw(x))))))),
    ),
    "timm EdgeResidual": (
        lambda: mobile.EdgeResidual(8, 8, exp_ratio=2, drop_path_rate=0.2),
        lambda b, x, a: x + b.drop_path(a(b.bn2(b.conv_pwl(b.bn1(b.conv_exp(x)))))),
    ),
    "timm UniversalInvertedResidual": (
        lambda: mobile.UniversalInvertedResidual(8, 8, dw_kernel_size_end=3, exp_ratio=2, drop_path_rate=0.2),
        lambda b, x, a: x + b.drop_path(scaled(a(b.dw_end(b.pw_proj(b.dw_mid(b.pw_exp(x))))), b.layer_scale.gamma)),
    ),
    "timm ConvBnAct": (
        lambda: mobile.ConvBnAct(8, 8, 3, skip=True, drop_path_rate=0.2),
        lambda b, x, a: x + b.drop_path(a(relu(bn_alone(b.bn1, b.conv(x))))),
    ),
    "timm ConvNeXt, channels last": (
        lambda: timm_convnext.ConvNeXtBlock(8, drop_path=0.2),
        lambda b, x, a: (
            x + b.drop_path(scaled(a(b.mlp(b.norm(b.conv_dw(x).permute(0, 2, 3, 1))).permute(0, 3, 1, 2)), b.gamma))
        ),
    ),
    "timm ConvNeXt, convolutions and new width": (
        lambda: timm_convnext.ConvNeXtBlock(8, 16, stride=2, conv_mlp=True, ls_init_value=None),
        lambda b, x, a: b.shortcut(x) + a(b.mlp(b.norm(b.conv_dw(x)))),
    ),
    "CIFAR ResNet, version 1": (lambda: cifar_resnet(8).layer2[0], version_1),
    "CIFAR ResNet, version 2, bottleneck": (
        lambda: cifar_resnet(11, block="bottleneck", version=2).layer1[0],
        lambda b, x, a: (
            a(b.conv3(relu(b.bn3(b.conv2(relu(b.bn2(b.conv1(relu(b.bn1(x)))))))))) + b.downsample(relu(b.bn1(x)))
        ),
    ),
}


@pytest.fixture(params=BLOCKS)
def case(request, lively):
    make, formula = BLOCKS[request.param]
    torch.manual_seed(0)
    block = lively(make()).double()
    inputs = next(module for module in block.modules() if isinstance(module, nn.Conv2d)).in_channels
    return block, formula, torch.randn(3, inputs, 9, 9, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("two_passes", [False, True], ids=["modules", "two passes"])
@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
def test_a_block_with_attention_computes_its_formula_and_gradient(case, lively, training, two_passes, monkeypatch):
    if two_passes:  # small maps as well
        monkeypatch.setattr(sys.modules["recalib.ops.recalibrate"], "_WORTHWHILE", 0)
    block, formula, x = case
    insert_(block, "se", reduction=4)
    lively(block.attention)
    block.train(training)
    results = []
    for compute in (block, lambda x: formula(block, x, squeeze_excite(block))):
        torch.manual_seed(1)  # drop-path
        y = compute(x)
        results.append((y, *torch.autograd.grad(y.square().sum(), x)))
    for ours, by_hand in zip(*results, strict=True):
        torch.testing.assert_close(ours, by_hand, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
def test_a_fused_block_computes_what_it_did(case, training):
    block, _, x = case
    block.train(training)
    torch.manual_seed(1)
    plain = block(x)
    fuse_(block)
    torch.manual_seed(1)
    torch.testing.assert_close(block(x), plain, rtol=1e-12, atol=1e-12)


def test_a_block_is_exactly_itself_again_after_removal(case):
    block, _, x = case
    before, kind, keys = block.eval()(x), type(block), list(block.state_dict())
    children, attributes = dict(block.named_modules()), set(vars(block))
    fuse_(block)
    insert_(block, "srm")
    remove_(block)
    assert type(block) is kind
    assert list(block.state_dict()) == keys
    assert dict(block.named_modules()) == children
    assert set(vars(block)) == attributes
    assert torch.equal(block(x), before)
