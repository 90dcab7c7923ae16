"""Network that a state dict belongs to, told from its keys and shapes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from recalib.errors import RecalibError, unknown
from recalib.models.create import create_known

DEPTHS: dict[str, dict[tuple[int, ...], int]] = {  # blocks of each stage, by block, of the networks that have a name
    "basic": {(2, 2, 2, 2): 18, (3, 4, 6, 3): 34},
    "bottleneck": {
        (2, 2, 2, 2): 26,
        (3, 4, 6, 3): 50,
        (3, 4, 23, 3): 101,
        (3, 8, 36, 3): 152,
        (3, 24, 36, 3): 200,
    },
}
OPTIONS = frozenset({
    "layers", "cardinality", "base_width", "stem_type", "stem_width", "avg_down", "width_mult",
    "encoder_depth", "decoder_channels", "decoder_attention_type", "in_channels",
})  # fmt: skip
CLASSIFIERS = ("fc", "classifier.1", "head.fc", "classifier", "segmentation_head.0")  # of the networks told by keys


@dataclass(frozen=True)
class Architecture:
    """Recipe of a network: ``create_known(name, **options)``.

    Attributes:
        name: as `recalib.models.create.create_known` takes it: never a path to code, since files come from anyone.
        options: further arguments of the constructor; of `OPTIONS` only, since headers of files come from anyone.
        stride_in_1x1: bottlenecks stride in their first convolution, as the first ResNets did, not in the 3x3.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    stride_in_1x1: bool = False

    def __post_init__(self) -> None:
        for option in self.options:
            if option not in OPTIONS:
                raise unknown("option of a stored network", option, OPTIONS)

    def build(self, num_classes: int | None = None) -> nn.Module:
        """The network with fresh weights.

        Raises:
            RecalibError: for a name or option that does not exist.
        """
        options = self.options if num_classes is None else {**self.options, "num_classes": num_classes}
        network = create_known(self.name, **options)
        if self.stride_in_1x1:
            bottlenecks: list[Any] = [block for block in network.modules() if hasattr(block, "conv3")]
            for block in bottlenecks:
                block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride
        return network

    def outline(self, num_classes: int | None = None) -> nn.Module:
        """The network without memory for its weights; a few networks cannot be built so, and get it."""
        try:
            with torch.device("meta"):
                return self.build(num_classes)
        except RecalibError:
            return self.build(num_classes)

    def __str__(self) -> str:
        options = [f"{key}={value}" for key, value in self.options.items()]
        notes = [*options, *(["stride in the 1x1 convolutions"] if self.stride_in_1x1 else [])]
        return f"{self.name} ({', '.join(notes)})" if notes else self.name


def recognise(tensors: Mapping[str, Tensor]) -> Architecture | None:
    """The network whose keys these are (attention keys aside); None where it is none of those told by keys.

    Told are torchvision's ResNets, ResNeXts and Wide ResNets, timm's with deep stems and pooled shortcuts, timm's own
    networks with global context, MobileNetV2 with torchvision's names, the CIFAR ResNets, and U-Nets of
    segmentation_models.pytorch with encoders of those.
    """
    if "encoder.conv1.weight" in tensors and any(f"{first}.conv1.0.weight" in tensors for first in _DECODERS):
        return _unet(tensors)
    if any(key.endswith(".conv_attn.weight") for key in tensors) and "layer1.0.conv1.weight" not in tensors:
        return _with_context(tensors)
    if "features.0.0.weight" in tensors and "features.1.conv.0.0.weight" in tensors:
        return _mobilenet(tensors)
    if "layer1.0.conv1.weight" not in tensors:
        return None
    stages = _stages(tensors)
    return _cifar_resnet(tensors, stages) if len(stages) == 3 else _resnet(tensors, stages)


def num_classes_of(tensors: Mapping[str, Tensor]) -> int | None:
    """Outputs of the classifier in a state dict; None where there is none, as in a backbone's."""
    return next((tensors[f"{name}.weight"].shape[0] for name in CLASSIFIERS if f"{name}.weight" in tensors), None)


def classifier_of(network: nn.Module) -> tuple[str, nn.Linear] | None:
    """The classifier of a network and its name: the last linear layer outside attention; None for a backbone."""
    linears = [
        (name, module)
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) and ".attention." not in name
    ]
    return linears[-1] if linears else None


def _mobilenet(tensors: Mapping[str, Tensor]) -> Architecture:
    width = tensors["features.0.0.weight"].shape[0] / 32
    return Architecture("torchvision:mobilenet_v2", {} if width == 1 else {"width_mult": width})


def _stages(tensors: Mapping[str, Tensor]) -> tuple[int, ...]:
    blocks = {(int(m[1]), int(m[2])) for key in tensors if (m := re.match(r"layer(\d)\.(\d+)\.", key))}
    stages = [stage for stage, _ in blocks]
    return tuple(stages.count(stage) for stage in sorted(set(stages)))


def _cifar_resnet(tensors: Mapping[str, Tensor], stages: tuple[int, ...]) -> Architecture:
    bottleneck = "layer1.0.conv3.weight" in tensors
    depth = sum(stages) * (3 if bottleneck else 2) + 2
    kinds = {
        "_bottleneck": bottleneck,
        "_v2": "bn1.weight" not in tensors,
        "_pad": not any(".downsample." in key for key in tensors),
    }
    return Architecture(f"cifar_resnet{depth}" + "".join(kind for kind, present in kinds.items() if present))


def _resnet(tensors: Mapping[str, Tensor], stages: tuple[int, ...]) -> Architecture:
    block = "bottleneck" if "layer1.0.conv3.weight" in tensors else "basic"
    out, inner = tensors["layer1.0.conv2.weight"].shape[:2]
    groups = out // inner
    widths = {} if (groups, out) == (1, 64) else {"cardinality": groups, "base_width": out // groups}
    stem = _stem(tensors)
    pooled = f"layer{len(stages)}.0.downsample.1.weight"
    if pooled in tensors and tensors[pooled].ndim == 4:
        stem["avg_down"] = True
    depth = DEPTHS[block].get(stages, 0)
    if not stem and (depth, groups, out) in _TORCHVISION:
        return Architecture(f"torchvision:{_TORCHVISION[depth, groups, out]}")
    base = "resnet50" if block == "bottleneck" else "resnet34"
    layers = {} if depth in (34, 50) else {"layers": list(stages)}
    return Architecture(base, {**layers, **widths, **stem})


def _stem(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    if "conv1.3.weight" not in tensors:
        return {}
    first, second = tensors["conv1.0.weight"].shape[0], tensors["conv1.3.weight"].shape[0]
    return {"stem_type": "deep" if first == second else "deep_tiered", "stem_width": second}


def _unet(tensors: Mapping[str, Tensor]) -> Architecture | None:
    inner = {key.removeprefix("encoder."): t for key, t in tensors.items() if key.startswith("encoder.")}
    encoder = recognise(inner)
    if encoder is None or not encoder.name.startswith("torchvision:") or encoder.options:
        return None
    name = encoder.name.removeprefix("torchvision:")
    first, kind = next((first, kind) for first, kind in _DECODERS.items() if f"{first}.conv1.0.weight" in tensors)
    stem = first.removesuffix("0")
    widths: list[int] = []
    while f"{stem}{len(widths)}.conv2.0.weight" in tensors:
        widths.append(tensors[f"{stem}{len(widths)}.conv2.0.weight"].shape[0])
    options: dict[str, Any] = {"encoder_depth": len(widths), "decoder_channels": widths}
    if f"{first}.attention1.attention.cSE.1.weight" in tensors:
        options["decoder_attention_type"] = "scse"
    if inner["conv1.weight"].shape[1] != 3:
        options["in_channels"] = inner["conv1.weight"].shape[1]
    return Architecture(f"smp:{kind}:{name}", options)


_DECODERS = {"decoder.blocks.0": "unet", "decoder.blocks.x_0_0": "unetplusplus"}  # by their first block


def _with_context(tensors: Mapping[str, Tensor]) -> Architecture | None:
    """The one of timm's with these names and shapes, whatever the classes."""
    shapes = {key: tensor.shape for key, tensor in tensors.items()}
    for name in _WITH_CONTEXT:
        made = Architecture(name).outline(num_classes_of(tensors)).state_dict()
        if made.keys() == shapes.keys() and all(made[key].shape == shape for key, shape in shapes.items()):
            return Architecture(name)
    return None


_WITH_CONTEXT = ("gcresnet33ts", "gcresnet50t", "gcresnext26ts", "gcresnext50ts", "gc_efficientnetv2_rw_t")

# torchvision's ResNets by depth, groups and channels of the first block's middle convolution.
_TORCHVISION = {
    (18, 1, 64): "resnet18",
    (34, 1, 64): "resnet34",
    (50, 1, 64): "resnet50",
    (101, 1, 64): "resnet101",
    (152, 1, 64): "resnet152",
    (50, 32, 128): "resnext50_32x4d",
    (101, 32, 256): "resnext101_32x8d",
    (101, 64, 256): "resnext101_64x4d",
    (50, 1, 128): "wide_resnet50_2",
    (101, 1, 128): "wide_resnet101_2",
}
