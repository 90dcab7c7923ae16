"""The backbone of ScratchDet's SSD512 (Zhu et al. 2019): a ResNet-34 made to be trained from scratch."""

from collections import OrderedDict
from typing import Any

from torch import Tensor, nn


class RootResNet34(nn.Module):
    """ResNet-34 with a stem that keeps small objects, and stages that shrink the map further.

    As in the authors' SSDRES512: three 3x3 convolutions of stride 1 and a 2x2 pooling as the stem, stages of 3, 4, 6
    and 3 blocks, four single blocks of 128 channels with stride 2, and two convolutions to a map of one pixel; Xavier
    initial weights. ``body`` is what attention goes into; its keys are those of a ResNet with a deep stem.

    Attributes:
        out_channels: of the seven maps.
    """

    def __init__(self) -> None:
        super().__init__()
        from torchvision.models import resnet34

        plain: Any = resnet34()
        stages = OrderedDict((f"layer{i}", getattr(plain, f"layer{i}")) for i in range(1, 5))
        stem = {"conv1": _stem(), "bn1": nn.BatchNorm2d(64), "relu": nn.ReLU(inplace=True), "maxpool": nn.MaxPool2d(2)}
        self.body = nn.Sequential(OrderedDict(stem) | stages)
        self.extra = nn.ModuleList([_shrinking_block(512), *(_shrinking_block(128) for _ in range(3)), _last()])
        self.out_channels = [256, 512, 128, 128, 128, 128, 128]
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Images (N, 3, 512, 512) to maps with sides of 64, 32, 16, 8, 4, 2 and 1."""
        maps = []
        for name, part in self.body.named_children():
            x = part(x)
            if name in ("layer3", "layer4"):
                maps.append(x)
        for part in self.extra:
            x = part(x)
            maps.append(x)
        return OrderedDict((str(i), feature) for i, feature in enumerate(maps))


def _stem() -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs in (3, 64):
        layers += [nn.Conv2d(inputs, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Conv2d(64, 64, 3, padding=1, bias=False))


def _shrinking_block(inputs: int) -> nn.Module:
    from torchvision.models.resnet import BasicBlock

    shortcut = nn.Sequential(nn.Conv2d(inputs, 128, 1, 2, bias=False), nn.BatchNorm2d(128))
    return BasicBlock(inputs, 128, 2, shortcut)


def _last() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(128, 128, 3, padding=1, bias=False), nn.BatchNorm2d(128), nn.ReLU(inplace=True),
        nn.Conv2d(128, 128, 4, padding=1, bias=False), nn.BatchNorm2d(128), nn.ReLU(inplace=True),
    )  # fmt: skip
