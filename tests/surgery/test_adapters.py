"""Networks built as others build theirs: detectron2 and mmdetection, timm's features, torchvision's quantisation.

The first two are plain modules of the same structure. Those of segmentation_models.pytorch and MONAI are in
tests/deploy/test_networks.py.
"""

import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

import recalib

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


class WithNorm(nn.Conv2d):
    """detectron2's ``Conv2d``: a convolution that runs its own norm and activation."""

    def __init__(self, *sizes, norm=None, activation=None, **options):
        super().__init__(*sizes, **options)
        self.norm, self.activation = norm, activation

    def forward(self, x):
        x = F.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)
        x = x if self.norm is None else self.norm(x)
        return x if self.activation is None else self.activation(x)


class BottleneckBlock(nn.Module):
    """detectron2's."""

    def __init__(self, inputs, outputs, stride=1):
        super().__init__()
        frozen, plain = torchvision.ops.FrozenBatchNorm2d, {"bias": False}
        self.shortcut = None
        if inputs != outputs:
            self.shortcut = WithNorm(inputs, outputs, 1, stride, norm=frozen(outputs), **plain)
        middle = outputs // 4
        self.conv1 = WithNorm(inputs, middle, 1, stride, norm=frozen(middle), **plain)
        self.conv2 = WithNorm(middle, middle, 3, 1, 1, norm=frozen(middle), **plain)
        self.conv3 = WithNorm(middle, outputs, 1, norm=frozen(outputs), **plain)

    def forward(self, x):
        out = F.relu_(self.conv1(x))
        out = self.conv3(F.relu_(self.conv2(out)))
        out += x if self.shortcut is None else self.shortcut(x)
        return F.relu_(out)


class Detectron2(nn.Module):
    """detectron2's ResNet: stages by name in a list, a dictionary of features."""

    def __init__(self):
        super().__init__()
        self.stem = WithNorm(3, 16, 3, 2, 1, norm=nn.BatchNorm2d(16), activation=nn.ReLU())
        self.stage_names, self.stages = ("res2", "res3"), []
        for i, name in enumerate(self.stage_names):
            blocks = (BottleneckBlock(inputs * 2**i, 32 * 2**i) for inputs in (16, 32))
            self.add_module(name, nn.Sequential(*blocks))
            self.stages.append(getattr(self, name))

    def forward(self, x):
        outputs, x = {}, self.stem(x)
        for name, stage in zip(self.stage_names, self.stages, strict=True):
            x = stage(x)
            outputs[name] = x
        return outputs


class ConvModule(nn.Module):
    """mmcv's: convolution, norm by the name ``bn``, activation, in an order that is data."""

    def __init__(self, inputs, outputs, kernel, act=True):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        self.add_module("bn", nn.BatchNorm2d(outputs))
        self.activate, self.order = nn.SiLU(inplace=True) if act else None, ("conv", "norm", "act")

    @property
    def norm(self):
        return self.bn

    def forward(self, x, activate=True):
        for layer in self.order:
            if layer == "conv":
                x = self.conv(x)
            elif layer == "norm":
                x = self.norm(x)
            elif activate and self.activate is not None:
                x = self.activate(x)
        return x


class MmBottleneck(nn.Module):
    """mmdetection's ResNet block: norms by computed names, the branch in a closure for checkpointing."""

    def __init__(self, channels, with_cp=False):
        super().__init__()
        self.with_cp = with_cp
        self.norm1_name, self.norm2_name = "bn1", "bn2"
        self.conv1, self.conv2 = (nn.Conv2d(channels, channels, 3, padding=1, bias=False) for _ in range(2))
        for name in (self.norm1_name, self.norm2_name):
            self.add_module(name, nn.BatchNorm2d(channels))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        def inner(x):
            out = self.relu(getattr(self, self.norm1_name)(self.conv1(x)))
            return getattr(self, self.norm2_name)(self.conv2(out)) + x

        if self.with_cp and x.requires_grad:
            return self.relu(torch.utils.checkpoint.checkpoint(inner, x, use_reentrant=False))
        return self.relu(inner(x))


class Darknet(nn.Module):
    """mmdetection's DarknetBottleneck."""

    def __init__(self, channels):
        super().__init__()
        self.conv1, self.conv2 = ConvModule(channels, channels, 1), ConvModule(channels, channels, 3)

    def forward(self, x):
        return self.conv2(self.conv1(x)) + x


class MmCsp(nn.Module):
    """mmdetection's CSPLayer: two ways, one through residual blocks, concatenated."""

    def __init__(self, channels):
        super().__init__()
        half = channels // 2
        self.main_conv, self.short_conv = ConvModule(channels, half, 1), ConvModule(channels, half, 1)
        self.final_conv, self.blocks = ConvModule(channels, channels, 1), nn.Sequential(Darknet(half))

    def forward(self, x):
        return self.final_conv(torch.cat((self.blocks(self.main_conv(x)), self.short_conv(x)), 1))


class MmDetection(nn.Module):
    """A backbone as mmdetection's: a tuple of stages."""

    def __init__(self):
        super().__init__()
        self.stem = ConvModule(3, 16, 3)
        self.stage1, self.stage2 = nn.Sequential(MmBottleneck(16, with_cp=True)), nn.Sequential(MmCsp(16), MmCsp(16))

    def forward(self, x):
        x = self.stem(x)
        outputs = []
        for name in ("stage1", "stage2"):
            x = getattr(self, name)(x)
            outputs.append(x)
        return tuple(outputs)


CASES = {
    "detectron2": (Detectron2, 4, "res2.0.conv3"),
    "mmdetection": (MmDetection, 3, "stage1.0.bn2"),
    "timm features_only": (lambda: timm.create_model("resnet10t", features_only=True), 4, "layer1.0"),
    "torchvision quantisation": (lambda: torchvision.models.quantization.resnet18(quantize=False), 8, "layer1.0.bn2"),
}


def tensors(output):
    items = output.values() if isinstance(output, dict) else output if isinstance(output, (list, tuple)) else [output]
    return list(items)


@pytest.mark.parametrize("case", CASES)
def test_sites_identity_keys_deployment_and_removal(case, lively):
    make, count, first = CASES[case]
    torch.manual_seed(0)
    model = lively(make()).eval()
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        expected, keys, order = tensors(model(x)), set(model.state_dict()), list(model.state_dict())
        insertion = recalib.insert_(model, "eca", identity=True)
        assert (len(insertion.sites), insertion.sites[0].name) == (count, first)
        assert all(map(torch.equal, tensors(model(x)), expected))
        assert all(".attention." in key for key in set(model.state_dict()) - keys)
        lively(model)
        attended = tensors(model(x))
        for found, wanted in zip(tensors(recalib.deploy(model, x)(x)), attended, strict=True):
            assert float((found - wanted).abs().max()) <= 1e-4 * float(wanted.abs().max())
        recalib.remove_(model)
        assert list(model.state_dict()) == order


def test_torchvisions_quantised_networks_are_fused_first_and_then_take_attention(lively):
    torch.manual_seed(0)
    model = lively(torchvision.models.quantization.resnet18(quantize=False)).eval()
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        model.fuse_model()
        expected = model(x)
        assert len(recalib.insert_(model, "eca", identity=True).sites) == 8
        assert torch.equal(model(x), expected)


def test_checkpointed_blocks_train_with_attention():
    model = MmDetection()
    recalib.insert_(model, "se")
    loss = sum(map(torch.sum, model(torch.randn(2, 3, 16, 16, requires_grad=True))))
    loss.backward()
    assert all(p.grad is not None for p in model.parameters())
