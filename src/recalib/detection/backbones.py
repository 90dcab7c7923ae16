"""ResNet backbones of detectors: from which weights, with which norms, trained from which layer on."""

from pathlib import Path
from typing import Any, Literal

from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from recalib.attention.base import Attention, PlainAttention
from recalib.errors import RecalibError, unknown
from recalib.models import create_model
from recalib.surgery import checked_name, insert_, inserted, inspect_checkpoint, load_checkpoint, repeat_

Norms = Literal["auto", "frozen", "batch", "group"]
LAYERS = ("conv1", "layer1", "layer2", "layer3", "layer4")


def scratch_resnet(depth: int) -> nn.Module:
    """A ResNet of torchvision's, with random weights and without a classifier."""
    network: Any = create_model(f"torchvision:resnet{depth}")
    del network.fc
    return network


def pretrained_resnet(depth: int, weights: Path) -> nn.Module:
    """A ResNet of torchvision's with weights and attention of a classification checkpoint, without its classifier.

    Args:
        depth: the ResNet's.
        weights: a file that `recalib.load_checkpoint` reads.

    Raises:
        RecalibError: for what is no checkpoint, or one of another network.
    """
    held = inspect_checkpoint(weights)
    source: Any = load_checkpoint(weights, num_classes=1 if held.num_classes is None else None)
    network = scratch_resnet(depth)
    try:
        repeat_(network, inserted(source))
    except RecalibError as error:
        raise _another(weights, held.architecture, depth) from error
    tensors = {key: tensor for key, tensor in source.state_dict().items() if not key.startswith("fc.")}
    own = network.state_dict()
    if own.keys() != tensors.keys() or any(own[key].shape != tensor.shape for key, tensor in tensors.items()):
        raise _another(weights, held.architecture, depth)
    network.load_state_dict(tensors)
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            module.stride = source.get_submodule(name).stride  # the first ResNets stride in the 1x1 convolutions
    return network


def normalization_of(weights: Path | None) -> dict[str, list[float]]:
    """Mean and std for torchvision's detectors, from weights that may say them; or nothing."""
    form = None if weights is None else inspect_checkpoint(weights).normalization
    return {} if form is None else {"image_mean": list(form[0]), "image_std": list(form[1])}


def insert_once(network: nn.Module, attention: str | None, identity: bool, options: dict[str, Any]) -> None:
    """Insert attention, except where the network's weights brought it.

    Raises:
        RecalibError: where they brought another one.
    """
    present = {placement.attention for placement in inserted(network).placements}
    if attention is None or present == {checked_name(attention)}:
        return
    if present:
        raise RecalibError(f"attention {attention!r}: the backbone's weights have {', '.join(sorted(present))} already")
    insert_(network, attention, identity=identity, **options)


def set_norms(network: nn.Module, norms: Norms) -> None:
    """Replace the batch norms of a backbone, in place; those inside attention modules stay, and are trained.

    Args:
        network: with plain batch norms.
        norms: ``"frozen"`` keeps their affine maps as constants; ``"group"`` forgets them.
    """
    if norms not in ("frozen", "batch", "group"):
        raise unknown("kind of norms", norms, ("auto", "frozen", "batch", "group"))
    spared = {id(m) for a in network.modules() if isinstance(a, Attention | PlainAttention) for m in a.modules()}
    for name, module in list(network.named_modules()):
        if type(module) is nn.BatchNorm2d and id(module) not in spared and norms != "batch":
            network.set_submodule(name, _frozen(module) if norms == "frozen" else _grouped(module))


def freeze_layers(network: nn.Module, trained: int) -> None:
    """Train the last so many of conv1, layer1, ..., layer4, in place; call it before attention is inserted.

    Raises:
        RecalibError: for a number that is not from 0 to 5.
    """
    if not 0 <= trained <= len(LAYERS):
        raise RecalibError(f"trainable_layers {trained}: should be from 0 to {len(LAYERS)}")
    still = LAYERS[: len(LAYERS) - trained]
    for name, parameter in network.named_parameters():
        layer = "conv1" if name.startswith("bn1") else name.split(".")[0]
        if layer in still and ".attention." not in name:
            parameter.requires_grad_(False)


def _frozen(norm: nn.BatchNorm2d) -> nn.Module:
    frozen = FrozenBatchNorm2d(norm.num_features, norm.eps)
    frozen.load_state_dict(norm.state_dict())
    return frozen


def _grouped(norm: nn.BatchNorm2d) -> nn.Module:
    return nn.GroupNorm(32, norm.num_features)


def _another(weights: Path, architecture: str | None, depth: int) -> RecalibError:
    return RecalibError(f"{weights} is of {architecture or 'an unknown network'}; the backbone is a ResNet-{depth}")
