"""Checkpoints of other projects give networks that compute what those projects' networks compute.

Each project's module is written here from its formula, under the names that its checkpoints have; the networks around
them are torchvision's, whose names all these projects use.
"""

from collections import OrderedDict

import pytest
import timm
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import mobilenet_v2
from torchvision.models import resnet as tv

from recalib import RecalibError
from recalib.models import cifar_resnet
from recalib.surgery import insert_, inserted, inspect_checkpoint, load_checkpoint, save_checkpoint

CLASSES = 11


# ---- the projects' modules -------------------------------------------------------------------------------------------


class SE(nn.Module):
    """Linear layers as Klomp, SRM (biases), moskomule (none)."""

    def __init__(self, channels, bias=True):
        super().__init__()
        hidden = max(1, channels // 16)
        self.fc = nn.Sequential(nn.Linear(channels, hidden, bias), nn.ReLU(), nn.Linear(hidden, channels, bias))

    def forward(self, x):
        return x * self.fc(x.mean((2, 3))).sigmoid()[:, :, None, None]


class EchoSE(nn.Module):
    def __init__(self, channels):
        super().__init__()
        hidden = max(1, channels // 16)
        self.ChannelGate = nn.Module()
        self.ChannelGate.gate_c = nn.Sequential()
        self.ChannelGate.gate_c.add_module("flatten", nn.Flatten())
        self.ChannelGate.gate_c.add_module("gate_c_fc_0", nn.Linear(channels, hidden))
        self.ChannelGate.gate_c.add_module("gate_c_relu_1", nn.ReLU())
        self.ChannelGate.gate_c.add_module("gate_c_fc_final", nn.Linear(hidden, channels))

    def forward(self, x):
        return x * self.ChannelGate.gate_c(x.mean((2, 3), keepdim=True)).sigmoid()[:, :, None, None]


class AB(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.cfc = nn.Parameter(torch.randn(channels))

    def forward(self, x):
        return x + x.mean((2, 3), keepdim=True) * self.cfc[:, None, None]


class ECA(nn.Module):
    def __init__(self, kernel=3):
        super().__init__()
        self.conv = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, x):
        return x * self.conv(x.mean((2, 3))[:, None]).transpose(1, 2).sigmoid()[..., None]


class SRM(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.cfc = nn.Parameter(torch.randn(channels, 2))
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x):
        pixels = x.flatten(2)
        z = pixels.mean(2) * self.cfc[:, 0] + pixels.std(2) * self.cfc[:, 1]
        return x * self.bn(z[:, :, None, None]).sigmoid()


class ConvSRM(nn.Module):
    """EvgenyKashin's."""

    def __init__(self, channels):
        super().__init__()
        self.cfc = nn.Conv1d(channels, channels, 2, groups=channels, bias=False)
        self.bn = nn.BatchNorm1d(channels)

    def forward(self, x):
        pixels = x.flatten(2)
        return x * self.bn(self.cfc(torch.stack([pixels.mean(2), pixels.std(2)], 2))).sigmoid()[..., None]


class MultiSE(nn.Module):
    """Three branches as grouped 1x1 convolutions of the mean repeated three times."""

    def __init__(self, channels):
        super().__init__()
        hidden = 3 * channels // 16
        self.fc = nn.Sequential(
            nn.Conv2d(3 * channels, hidden, 1, groups=3), nn.ReLU(), nn.Conv2d(hidden, 3 * channels, 1, groups=3)
        )
        self.style_assigner = nn.Linear(channels, 3, bias=False)

    def forward(self, x):
        m = x.mean((2, 3), keepdim=True)
        a = self.style_assigner(m.flatten(1)).softmax(1)
        branches = self.fc(m.repeat(1, 3, 1, 1)).view(len(x), 3, -1)
        return x * (a[:, :, None] * branches).sum(1).sigmoid()[:, :, None, None]


class Multi3SE(nn.Module):
    """Three branches as three pairs of linear layers."""

    def __init__(self, channels):
        super().__init__()
        self.fc1, self.fc2, self.fc3 = (
            nn.Sequential(nn.Linear(channels, channels // 16), nn.ReLU(), nn.Linear(channels // 16, channels))
            for _ in range(3)
        )
        self.style_assigner = nn.Linear(channels, 3, bias=False)

    def forward(self, x):
        m = x.mean((2, 3))
        branches = torch.stack([self.fc1(m), self.fc2(m), self.fc3(m)], 2)
        return x * (branches * self.style_assigner(m).softmax(1)[:, None]).sum(2).sigmoid()[:, :, None, None]


class GE(nn.Module):
    def __init__(self, channels, size):
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(channels, channels, size, groups=channels), nn.BatchNorm2d(channels))

    def forward(self, x):
        return x * self.conv(x).sigmoid()


class GCT(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.alpha, self.gamma, self.beta = (nn.Parameter(torch.randn(1, channels, 1, 1)) for _ in range(3))

    def forward(self, x):
        e = self.alpha * (x.square().sum((2, 3), keepdim=True) + 1e-5).sqrt()
        n = self.gamma / (e.square().mean(1, keepdim=True) + 1e-5).sqrt()
        return x * (1 + torch.tanh(e * n + self.beta))


def plane_layers(kernel):
    layers = nn.Module()
    layers.conv, layers.bn = nn.Conv2d(2, 1, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(1)
    return layers


def plane_gate(layers, x):
    return layers.bn(layers.conv(torch.stack([x.amax(1), x.mean(1)], 1))).sigmoid()


def named(**children):
    """A module with children of these dotted names, underscores for the dots."""
    module = nn.Module()
    for name, child in children.items():
        module.add_module(name, child)
    return module


class CBAM(nn.Module):
    """Jongchan's."""

    def __init__(self, channels):
        super().__init__()
        hidden = channels // 16
        mlp = nn.Sequential(nn.Flatten(), nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))
        self.ChannelGate = named(mlp=mlp)
        self.SpatialGate = named(spatial=plane_layers(7))

    def forward(self, x):
        z = self.ChannelGate.mlp(x.mean((2, 3), keepdim=True)) + self.ChannelGate.mlp(x.amax((2, 3), keepdim=True))
        x = x * z.sigmoid()[:, :, None, None]
        return x * plane_gate(self.SpatialGate.spatial, x)


class EchoCBAM(EchoSE):
    def __init__(self, channels):
        super().__init__(channels)
        self.SpatialGate = named(conv=plane_layers(3))

    def forward(self, x):
        gate = self.ChannelGate.gate_c
        z = gate(x.mean((2, 3), keepdim=True)) + gate(x.amax((2, 3), keepdim=True))
        x = x * z.sigmoid()[:, :, None, None]
        return x * plane_gate(self.SpatialGate.conv, x)


class BAM(nn.Module):
    def __init__(self, channels):
        super().__init__()
        hidden = channels // 16
        gate_c = {
            "gate_c_fc_0": nn.Linear(channels, hidden), "gate_c_bn_1": nn.BatchNorm1d(hidden), "relu": nn.ReLU(),
            "gate_c_fc_final": nn.Linear(hidden, channels),
        }  # fmt: skip
        gate_s = {"gate_s_conv_reduce0": nn.Conv2d(channels, hidden, 1), "gate_s_bn_reduce0": nn.BatchNorm2d(hidden)}
        gate_s["relu"] = nn.ReLU()
        for i in (0, 1):
            gate_s[f"gate_s_conv_di_{i}"] = nn.Conv2d(hidden, hidden, 3, padding=4, dilation=4)
            gate_s[f"gate_s_bn_di_{i}"], gate_s[f"relu{i}"] = nn.BatchNorm2d(hidden), nn.ReLU()
        gate_s["gate_s_conv_final"] = nn.Conv2d(hidden, 1, 1)
        self.channel_att = named(gate_c=nn.Sequential(OrderedDict(gate_c)))
        self.spatial_att = named(gate_s=nn.Sequential(OrderedDict(gate_s)))

    def forward(self, x):
        c = self.channel_att.gate_c(x.mean((2, 3)))[:, :, None, None]
        return x * (1 + (c * self.spatial_att.gate_s(x)).sigmoid())


class Triplet(nn.Module):
    """landskape-ai's in the names of its released files, or, by `cw`, `hc` and `hw`, of its root file and Echo."""

    def __init__(self, new=False):
        super().__init__()
        self.called = ("cw", "hc", "hw", "conv") if new else ("ChannelGateH", "ChannelGateW", "SpatialGate", "spatial")
        for name in self.called[:3]:
            self.add_module(name, named(**{self.called[3]: plane_layers(7)}))

    def forward(self, x):
        turns = ((0, 2, 1, 3), (0, 3, 2, 1), (0, 1, 2, 3))
        total = 0
        for name, turn in zip(self.called, turns, strict=False):
            turned = x.permute(turn)
            total = total + (turned * plane_gate(getattr(getattr(self, name), self.called[3]), turned)).permute(turn)
        return total / 3


class SimAM(nn.Module):
    def forward(self, x):
        d = (x - x.mean((2, 3), keepdim=True)).square()
        v = d.sum((2, 3), keepdim=True) / (x.shape[2] * x.shape[3] - 1)
        return x * (d / (4 * (v + 1e-4)) + 0.5).sigmoid()


class CoordAtt(nn.Module):
    def __init__(self, channels, last=("conv2", "conv3")):
        super().__init__()
        hidden = max(8, channels // 32)
        self.conv1, self.bn1 = nn.Conv2d(channels, hidden, 1), nn.BatchNorm2d(hidden)
        self.last = last
        for name in last:
            self.add_module(name, nn.Conv2d(hidden, channels, 1))

    def forward(self, x):
        z = torch.cat([x.mean(3, keepdim=True), x.mean(2, keepdim=True).mT], 2)
        rows, columns = F.hardswish(self.bn1(self.conv1(z))).split(x.shape[2:], 2)
        rows, columns = getattr(self, self.last[0])(rows), getattr(self, self.last[1])(columns.mT)
        return x * rows.sigmoid() * columns.sigmoid()


class Fca(nn.Module):
    def __init__(self, channels, size):
        super().__init__()
        u = [0, 0, 6, 0, 0, 1, 1, 4, 5, 1, 3, 0, 0, 0, 3, 2]
        v = [0, 1, 0, 5, 2, 0, 2, 0, 0, 6, 0, 4, 6, 3, 5, 2]
        t = torch.arange(size) + 0.5

        def cosine(f):
            f = f * (size // 7)
            return torch.cos(torch.pi * f * t / size) * (2 if f else 1) ** 0.5 / size**0.5

        weight = torch.stack([cosine(a)[:, None] * cosine(b) for a, b in zip(u, v, strict=True)])
        self.dct_layer = nn.Module()
        self.dct_layer.register_buffer("weight", weight.repeat_interleave(channels // 16, 0))
        self.fc = nn.Sequential(
            nn.Linear(channels, channels // 16, bias=False), nn.ReLU(), nn.Linear(channels // 16, channels, bias=False)
        )

    def forward(self, x):
        pooled = F.adaptive_avg_pool2d(x, self.dct_layer.weight.shape[1:])
        return x * self.fc((pooled * self.dct_layer.weight).sum((2, 3))).sigmoid()[:, :, None, None]


class SGE(nn.Module):
    def __init__(self, _channels, groups=64):
        super().__init__()
        self.weight, self.bias = (nn.Parameter(torch.randn(1, groups, 1, 1)) for _ in range(2))

    def forward(self, x):
        grouped = x.flatten(0, 1).view(len(x), self.weight.numel(), -1, *x.shape[2:])
        t = (grouped * grouped.mean((3, 4), keepdim=True)).sum(2)
        t = (t - t.mean((2, 3), keepdim=True)) / (t.flatten(2).std(2)[..., None, None] + 1e-5)
        return (grouped * (t * self.weight + self.bias).sigmoid().unsqueeze(2)).view_as(x)


def bam_resnet():
    network = tv.ResNet(tv.BasicBlock, [2, 2, 2, 2], num_classes=CLASSES)
    for stage in (1, 2, 3):
        bam = BAM(32 * 2**stage)
        network.add_module(f"bam{stage}", bam)
        network.get_submodule(f"layer{stage}").register_forward_hook(lambda _m, _x, y, bam=bam: bam(y))
    return network


def simam_resnet():
    network = tv.ResNet(tv.Bottleneck, [3, 4, 6, 3], num_classes=CLASSES)
    for block in (block for stage in range(4) for block in network.get_submodule(f"layer{stage + 1}")):
        block.conv2 = nn.Sequential(block.conv2, SimAM())
    return network


class CoordMobileNet(nn.Module):
    """houqb's: everything of a block in one Sequential, the last convolution beside the features."""

    def __init__(self, last=("conv2", "conv3")):
        super().__init__()

        def conv(i, o, k=1, s=1, groups=1):
            return [nn.Conv2d(i, o, k, s, k // 2, groups=groups, bias=False), nn.BatchNorm2d(o)]

        self.features = nn.Sequential(nn.Sequential(*conv(3, 32, 3, 2), nn.ReLU6()))
        inputs = 32
        for t, c, n, s in ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)):  # noqa: E501 # fmt: skip
            for i in range(n):
                hidden, stride = t * inputs, s if i == 0 else 1
                body = [] if t == 1 else [*conv(inputs, hidden), nn.ReLU6()]
                body += [*conv(hidden, hidden, 3, stride, hidden), nn.ReLU6()]
                body += [] if t == 1 else [CoordAtt(hidden, last)]
                block = named(conv=nn.Sequential(*body, *conv(hidden, c)))
                block.skips = stride == 1 and inputs == c
                self.features.append(block)
                inputs = c
        self.conv = nn.Sequential(*conv(320, 1280), nn.ReLU6())
        self.classifier = nn.Sequential(nn.Dropout(0.1), nn.Linear(1280, CLASSES))

    def forward(self, x):
        x = self.features[0](x)
        for block in self.features[1:]:
            y = block.conv(x)
            x = x + y if block.skips else y
        return self.classifier(self.conv(x).mean((2, 3)))


# ---- the projects' networks ------------------------------------------------------------------------------------------


class BasicBlock(tv.BasicBlock):
    def forward(self, x):
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return F.relu(getattr(self, self.called)(y) + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(tv.Bottleneck):
    def forward(self, x):
        y = self.relu(self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))))
        y = self.bn3(self.conv3(y))
        return F.relu(getattr(self, self.called)(y) + (x if self.downsample is None else self.downsample(x)))


def resnet(called, make, block=BasicBlock, layers=(2, 2, 2, 2)):
    """A ResNet whose blocks call ``make(channels, stage)`` by a project's name for it."""
    network = tv.ResNet(block, list(layers), num_classes=CLASSES)
    for stage in range(4):
        for residual in network.get_submodule(f"layer{stage + 1}"):
            residual.called = called
            residual.add_module(called, make(64 * 2**stage * block.expansion, stage))
    return network


class CifarResNet(nn.Module):
    """akamaster's (option A, or B under ``shortcut``, ``linear``) or moskomule's (``downsample``, ``fc``)."""

    def __init__(self, n, called="", make=None, shortcut="", classifier="linear"):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.classifier = classifier
        inputs = 16
        for stage, planes in enumerate((16, 32, 64)):
            blocks = nn.Sequential()
            for i in range(n):
                blocks.append(CifarBlock(inputs, planes, 2 if stage and not i else 1, called, make, shortcut))
                inputs = planes
            self.add_module(f"layer{stage + 1}", blocks)
        self.add_module(classifier, nn.Linear(64, 10))

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x))))))
        return getattr(self, self.classifier)(x.mean((2, 3)))


class CifarBlock(nn.Module):
    def __init__(self, inputs, planes, stride, called, make, shortcut):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, planes, 3, stride, 1, bias=False), nn.BatchNorm2d(planes)
        self.conv2, self.bn2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False), nn.BatchNorm2d(planes)
        self.called, self.shortcut_called, self.stride = called, shortcut, stride
        if called:
            self.add_module(called, make(planes))
        if shortcut and stride > 1:
            conv = nn.Conv2d(inputs, planes, 1, stride, bias=False)
            self.add_module(shortcut, nn.Sequential(conv, nn.BatchNorm2d(planes)))

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.called:
            y = getattr(self, self.called)(y)
        if self.stride > 1:
            zeros = x.new_zeros(len(y), y.shape[1] // 4, *y.shape[2:])
            pad = torch.cat([zeros, x[:, :, ::2, ::2], zeros], 1) if not self.shortcut_called else None
            x = getattr(self, self.shortcut_called)(x) if pad is None else pad
        return F.relu(y + x)


class GCTResNet(nn.Module):
    """z-x-yang's ResNet-50: GCT before every convolution, stride in the first 1x1 of a block."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Module()
        self.stem.conv1 = nn.Sequential(GCT(3), nn.Conv2d(3, 64, 7, 2, 3, bias=False))
        self.stem.bn1 = nn.BatchNorm2d(64)
        inputs = 64
        for stage, blocks in enumerate((3, 4, 6, 3)):
            layer = nn.Sequential()
            for i in range(blocks):
                layer.append(GCTBottleneck(inputs, 64 * 2**stage, 2 if stage and not i else 1))
                inputs = 256 * 2**stage
            self.add_module(f"layer{stage + 1}", layer)
        self.fc = nn.Linear(2048, 1000)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.stem.bn1(self.stem.conv1(x))), 3, 2, 1)
        return self.fc(self.layer4(self.layer3(self.layer2(self.layer1(x)))).mean((2, 3)))


class GCTBottleneck(nn.Module):
    def __init__(self, inputs, planes, stride):
        super().__init__()

        def conv(i, o, k, s=1):
            return nn.Sequential(GCT(i), nn.Conv2d(i, o, k, s, k // 2, bias=False))

        self.conv1, self.bn1 = conv(inputs, planes, 1, stride), nn.BatchNorm2d(planes)
        self.conv2, self.bn2 = conv(planes, planes, 3), nn.BatchNorm2d(planes)
        self.conv3, self.bn3 = conv(planes, 4 * planes, 1), nn.BatchNorm2d(4 * planes)
        self.downsample = None
        if inputs != 4 * planes:
            self.downsample = conv(inputs, 4 * planes, 1, stride).append(nn.BatchNorm2d(4 * planes))

    def forward(self, x):
        y = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        return F.relu(self.bn3(self.conv3(y)) + (x if self.downsample is None else self.downsample(x)))


def eca_mobilenet():
    network = mobilenet_v2(num_classes=CLASSES)
    for i in range(1, 18):
        block = network.features[i]
        block.conv.append(ECA(1 if block.out_channels < 96 else 3))
    return network


# ---- the projects' files ---------------------------------------------------------------------------------------------


def bare(state):
    return state


def ddp(state):
    return {f"module.{key}": tensor for key, tensor in state.items()}


def klomp(state):
    return {"epoch": 90, "state_dict": ddp(state), "acc": 70.05, "best_acc": 70.1, "optimizer": {"param_groups": []}}


def bangguwu(state):
    best = torch.tensor(77.5)
    return {"epoch": 100, "arch": "se_resnet50", "state_dict": ddp(state), "best_prec1": best, "optimizer": {}}


def digantamisra(state):
    return {**bangguwu(state), "run_id": "1x2y3z"}


def lively_(network):
    """Values that a mistake would show in, exact in float32."""
    torch.manual_seed(0)
    for module in network.modules():
        if getattr(module, "running_var", None) is not None:
            nn.init.normal_(module.running_mean, 0, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.1)
        if isinstance(module, (nn.Linear, nn.Conv1d)):
            nn.init.normal_(module.weight, 0, 1 / module.weight[0].numel() ** 0.5)
    return network


def state_of(network):
    return {key: tensor.clone() for key, tensor in network.state_dict().items()}


def assert_same(loaded, reference, size):
    x = torch.randn(2, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, found = reference.double().eval()(x), loaded.double().eval()(x)
    assert expected.std(0).min() > 0
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9 * expected.abs().max().item())


def stages(*values):
    return lambda _channels, stage: ECA(values[stage])


ATTENDED = {
    "klomp ab": (lambda: resnet("rclb", lambda C, _: AB(C)), klomp, "klomp", "ab"),
    "klomp se": (lambda: resnet("rclb", lambda C, _: SE(C)), klomp, "klomp", "se"),
    "klomp se, bare": (lambda: resnet("rclb", lambda C, _: SE(C)), bare, "klomp", "se"),
    "klomp eca": (lambda: resnet("rclb", stages(3, 3, 3, 3)), klomp, "klomp", "eca"),
    "klomp srm": (lambda: resnet("rclb", lambda C, _: SRM(C)), klomp, "klomp", "srm"),
    "klomp multise": (lambda: resnet("rclb", lambda C, _: MultiSE(C)), klomp, "klomp multi-se", "multi_se"),
    "klomp multise3": (lambda: resnet("rclb", lambda C, _: Multi3SE(C)), klomp, "klomp multi-se", "multi_se"),
    "klomp ge": (lambda: resnet("rclb", lambda C, stage: GE(C, 16 >> stage)), klomp, "klomp", "ge"),
    "bangguwu r18": (lambda: resnet("eca", stages(3, 5, 7, 7)), bangguwu, "bangguwu", "eca"),
    "bangguwu mobilenet": (eca_mobilenet, bangguwu, "bangguwu", "eca"),
    "moskomule": (lambda: resnet("se", lambda C, _: SE(C, bias=False)), bare, "moskomule", "se"),
    "digantamisra eca": (lambda: resnet("eca", stages(3, 5, 5, 7)), digantamisra, "digantamisra", "eca"),
    "digantamisra se": (lambda: resnet("att", lambda C, _: EchoSE(C)), digantamisra, "digantamisra", "se"),
    "digantamisra cifar": (lambda: CifarResNet(1, "att", EchoSE), bare, "digantamisra", "se"),
    "evgenykashin": (
        lambda: CifarResNet(1, "se", ConvSRM, "downsample", "fc"),
        ddp,
        "evgenykashin",
        "srm",
    ),
    "evgenykashin head": (
        lambda: CifarResNet(1, "layer_block", ConvSRM, "downsample", "fc"),
        ddp,
        "evgenykashin",
        "srm",
    ),
    "evgenykashin se": (
        lambda: CifarResNet(1, "layer_block", lambda C: SE(C, bias=False), "downsample", "fc"),
        ddp,
        "moskomule",
        "se",
    ),
    "digantamisra cbam": (lambda: resnet("att", lambda C, _: EchoCBAM(C)), digantamisra, "digantamisra", "cbam"),
    "digantamisra triplet": (lambda: CifarResNet(1, "att", lambda _: Triplet(True)), bare, "digantamisra", "triplet"),
    "jongchan cbam": (lambda: resnet("cbam", lambda C, _: CBAM(C)), bangguwu, "jongchan", "cbam"),
    "jongchan bam": (bam_resnet, bangguwu, "jongchan", "bam"),
    "triplet": (lambda: resnet("triplet_attention", lambda *_: Triplet()), bangguwu, "triplet", "triplet"),
    "triplet, new": (lambda: resnet("triplet_attention", lambda *_: Triplet(True)), ddp, "triplet", "triplet"),
    "simam": (simam_resnet, bare, "simam", "simam"),
    "coordatt": (CoordMobileNet, bare, "coordatt", "coord"),
    "coordatt, new": (lambda: CoordMobileNet(("conv_h", "conv_w")), ddp, "coordatt", "coord"),
    "fcanet": (lambda: resnet("att", lambda C, stage: Fca(C, 56 >> stage)), bare, "fcanet", "fca"),
    "pytorch-insight": (lambda: resnet("sge", lambda C, _: SGE(C)), bangguwu, "pytorch-insight", "sge"),
    "akamaster a": (lambda: CifarResNet(1), klomp, "akamaster", None),
    "akamaster b": (lambda: CifarResNet(1, shortcut="shortcut"), klomp, "akamaster", None),
}


@pytest.mark.parametrize("case", ATTENDED)
def test_a_projects_checkpoint_gives_the_network_it_came_from(case):
    make, wrap, name, attention = ATTENDED[case]
    reference = lively_(make())
    file = wrap(state_of(reference))
    info = inspect_checkpoint(file)
    assert (info.format, info.attention) == (name, attention)
    assert info.missing == info.unexpected == info.differing == ()
    assert_same(load_checkpoint(file), reference, 64 if info.num_classes == CLASSES else 32)


def test_bottlenecks_get_the_kernels_of_the_weights_whatever_the_file_says():
    reference = lively_(resnet("eca", stages(3, 5, 5, 7), Bottleneck, (3, 4, 6, 3)))
    file = bangguwu(state_of(reference))
    info = inspect_checkpoint(file)
    assert (info.architecture, info.kernels, info.modules) == ("torchvision:resnet50", (3, 5, 5, 7), 16)
    assert {"epoch": 100, "arch": "se_resnet50", "best_prec1": 77.5}.items() <= info.metadata.items()
    loaded = load_checkpoint(file)
    assert inserted(loaded).parameters == 80  # ECANet's README: "80 parameters"
    assert_same(loaded, reference, 32)


def test_mobilenets_kernels_are_one_a_stage_of_its_widths():
    info = inspect_checkpoint(bangguwu(eca_mobilenet().state_dict()))
    assert (info.architecture, info.modules) == ("torchvision:mobilenet_v2", 17)
    assert info.kernels == (1, 1, 1, 1, 3, 3, 3)  # 16, 24, 32, 64 | 96, 160, 320 channels
    assert inserted(load_checkpoint(bangguwu(eca_mobilenet().state_dict()))).parameters == 31


@pytest.mark.parametrize("name", ["ecaresnet26t", "ecaresnetlight", "seresnet18", "seresnext26d_32x4d"])
def test_timms_attentive_resnets_become_its_resnets_with_our_modules(name):
    reference = lively_(timm.create_model(name, num_classes=CLASSES))
    info = inspect_checkpoint(reference.state_dict())
    assert (info.format, info.attention) == ("timm", "eca" if "eca" in name else "se")
    assert info.missing == info.unexpected == info.differing == ()
    assert_same(load_checkpoint(state_of(reference)), reference, 64)


@pytest.mark.parametrize(("layer", "name"), [("ecam", "ecam"), ("gca", "gc"), ("ceca", "eca")])
def test_timms_layers_in_a_resnet_of_timms_become_ours(layer, name):
    reference = lively_(timm.create_model("resnet18", num_classes=CLASSES, block_args={"attn_layer": layer}))
    info = inspect_checkpoint(reference.state_dict())
    assert (info.format, info.attention) == ("timm", name)
    if layer != "ceca":  # its keys are ECA's, whose ends differ: its network is known by name only
        assert_same(load_checkpoint(state_of(reference)), reference, 64)


def test_gct_stands_before_every_convolution_of_a_resnet_that_strides_in_the_1x1():
    reference = lively_(GCTResNet())
    assert sum(p.numel() for p in reference.parameters()) == 25_624_625
    file = klomp(state_of(reference))
    info = inspect_checkpoint(file)
    assert (info.format, info.attention, info.modules) == ("gct", "gct", 53)
    assert "stride in the 1x1 convolutions" in info.architecture
    assert info.missing == info.unexpected == info.differing == ()
    loaded = load_checkpoint(file)
    assert inserted(loaded).parameters == 67_593
    assert_same(loaded, reference, 64)


def test_a_converted_network_is_saved_and_comes_back(tmp_path):
    for case in ("klomp multise", "evgenykashin", "bangguwu mobilenet"):
        make, wrap, _, _ = ATTENDED[case]
        reference = lively_(make())
        save_checkpoint(load_checkpoint(wrap(state_of(reference))), tmp_path / "x.safetensors")
        assert_same(load_checkpoint(tmp_path / "x.safetensors"), reference, 64)


def test_gcts_strides_survive_saving(tmp_path):
    reference = lively_(GCTResNet())
    save_checkpoint(load_checkpoint(state_of(reference)), tmp_path / "x.safetensors")
    assert_same(load_checkpoint(tmp_path / "x.safetensors"), reference, 64)


def test_attention_goes_into_a_given_network_of_another_package():
    reference = lively_(resnet("eca", stages(3, 5, 7, 7)))
    model = timm.create_model("resnet18", num_classes=CLASSES)
    assert load_checkpoint(bangguwu(state_of(reference)), model=model) is model
    assert_same(model, reference, 64)


def test_a_projects_own_network_takes_its_checkpoint_unchanged():
    reference = lively_(timm.create_model("seresnet18", num_classes=CLASSES))
    model = timm.create_model("seresnet18", num_classes=CLASSES)
    load_checkpoint(state_of(reference), model=model)
    assert not any(".attention." in key for key in model.state_dict())
    assert_same(model, reference, 64)


def test_attention_that_no_mechanism_has_is_named():
    state = resnet("eca", stages(3, 3, 3, 3)).state_dict()
    strange = {key.replace("eca.conv.weight", "attention.theta"): tensor for key, tensor in state.items()}
    with pytest.raises(RecalibError, match=r"no attention module has the tensors attention\.theta"):
        load_checkpoint(strange)


@pytest.mark.parametrize("identity", [False, True])
@pytest.mark.parametrize("name", ["eca", "eca_ns", "gct", "multi_se", "se", "se_var3", "srm"])
def test_our_own_keys_without_a_header_show_the_mechanism(name, identity):
    reference = cifar_resnet(8)
    insert_(reference, name, identity=identity)
    info = inspect_checkpoint(lively_(reference).state_dict())
    assert (info.format, info.architecture, info.attention) == ("plain", "cifar_resnet8", name)
    assert_same(load_checkpoint(state_of(reference)), reference, 32)


def test_a_bare_state_dict_that_may_be_one_of_two_mechanisms_asks_for_the_model():
    for name in ("ab", "se_var2"):
        network = cifar_resnet(8, attention=name)
        with pytest.raises(RecalibError, match=r"may be of ab or se_var2; .* model="):
            load_checkpoint(network.state_dict())
        load_checkpoint(network.state_dict(), model=cifar_resnet(8, attention=name))


def test_se_of_a_width_that_no_reduction_gives_is_refused():
    state = resnet("se", lambda C, _: SE(C, bias=False)).state_dict()
    state["layer1.0.se.fc.0.weight"] = torch.zeros(30, 64)
    with pytest.raises(RecalibError, match="30 of 64 channels: no reduction gives this width"):
        load_checkpoint(state)


def test_branches_that_do_not_go_together_are_named():
    state = resnet("rclb", lambda C, _: Multi3SE(C)).state_dict()
    state["layer1.0.rclb.fc2.0.weight"] = torch.zeros(4, 65)
    with pytest.raises(RecalibError, match=r"layer1\.0\.rclb\.fc1\.0\.weight \(4, 64\), .* does not fit the format"):
        load_checkpoint(state)


def test_half_of_a_mechanism_of_echo_is_refused():
    state = resnet("att", lambda C, _: EchoSE(C)).state_dict()
    state["layer1.0.att.SpatialGate.conv.conv.weight"] = torch.zeros(1, 2, 7, 7)
    for verb in (inspect_checkpoint, load_checkpoint):
        with pytest.raises(RecalibError, match=r"layer1\.0: no attention module has the tensors .*conv\.weight"):
            verb(state)


@pytest.mark.parametrize("kind", ["Unet", "UnetPlusPlus"])
def test_scse_decoders_of_segmentation_models_load_from_the_file_alone(kind):
    smp = pytest.importorskip("segmentation_models_pytorch")
    widths = {"encoder_depth": 3, "decoder_channels": (32, 24, 16)}
    make = getattr(smp, kind)
    reference = lively_(make("resnet18", encoder_weights=None, decoder_attention_type="scse", classes=5, **widths))
    file = ddp(state_of(reference))
    info = inspect_checkpoint(file)
    assert (info.format, info.num_classes) == ("smp", 5)
    assert info.architecture.startswith(f"smp:{kind.lower()}:resnet18")
    assert info.missing == info.unexpected == info.differing == ()
    assert_same(load_checkpoint(file), reference, 64)


def test_timms_own_networks_with_global_context_load_from_the_file_alone():
    reference = lively_(timm.create_model("gcresnext26ts", num_classes=CLASSES))
    info = inspect_checkpoint(state_of(reference))
    assert (info.format, info.architecture, info.num_classes) == ("timm", "gcresnext26ts", CLASSES)
    assert_same(load_checkpoint(state_of(reference)), reference, 64)
    with pytest.raises(RecalibError, match="give it as model="):
        load_checkpoint({**state_of(reference), "stages.9.0.weight": torch.ones(1)})


def test_eca_in_a_circle_comes_back_from_our_own_file_where_its_keys_are_plain_ecas(tmp_path):
    reference = cifar_resnet(8)
    insert_(reference, "eca", circular=True)
    save_checkpoint(lively_(reference), tmp_path / "x.safetensors")
    loaded = load_checkpoint(tmp_path / "x.safetensors")
    assert all(placement.options["circular"] for placement in inserted(loaded).placements)
    assert_same(loaded, reference, 32)
