"""One naming rule for every network, used by every command."""

import inspect
import re
from typing import Any

from torch import nn

from recalib.errors import RecalibError, unknown
from recalib.models.cifar_resnet import cifar_resnet

_CIFAR = re.compile(r"(?:cifar_)?resnet(?P<depth>\d+)(?P<bottleneck>_bottleneck)?(?P<pre>_v2)?(?P<pad>_pad)?")


def create_model(name: str, *, num_classes: int | None = None, **options: Any) -> nn.Module:
    """Make a network by name, with fresh weights; nothing is downloaded.

    =====================  ==========================================================================================
    ``resnet50``           timm's network of that name (every name of ``timm.list_models()``)
    ``torchvision:NAME``   torchvision's, such as ``torchvision:mobilenet_v2``
    ``cifar_resnet56``     `cifar_resnet`, with ``_bottleneck``, ``_v2`` and ``_pad`` (option A) added in this order
    ``resnet20``           short for ``cifar_resnet20``, where timm has no network of that name (56, 110, ...)
    =====================  ==========================================================================================

    Args:
        name: the network.
        num_classes: number of classes; None for the network's own (1000, or 10 for the CIFAR ResNets).
        **options: further arguments of the network's constructor.

    Raises:
        RecalibError: for an unknown name, naming the nearest, or an option that the network does not take.
    """
    given = options if num_classes is None else {**options, "num_classes": num_classes}
    try:
        return _create(name, given)
    except (TypeError, RuntimeError) as error:  # an unknown argument; timm's unknown pretrained tag
        raise RecalibError(f"model {name!r}: {str(error).splitlines()[0]}") from None


def _create(name: str, options: dict[str, Any]) -> nn.Module:
    import timm
    from torchvision.models import list_models

    torchvision_names = [f"torchvision:{known}" for known in list_models()]
    if name in torchvision_names:
        return _create_torchvision(name.removeprefix("torchvision:"), options)
    if timm.is_model(name):
        return timm.create_model(name, pretrained=False, **options)
    match = _CIFAR.fullmatch(name)
    if match and (name.startswith("cifar_") or (int(match["depth"]) - 2) % (9 if match["bottleneck"] else 6) == 0):
        return _create_cifar(match, options)
    if f"torchvision:{name}" in torchvision_names:
        raise RecalibError(f"unknown model {name!r}: timm has none of that name; did you mean torchvision:{name}?")
    cifar_names = [f"cifar_resnet{depth}" for depth in (20, 32, 44, 56, 110)]
    raise unknown("model", name, [*timm.list_models(), *cifar_names, *torchvision_names])


def _create_torchvision(name: str, options: dict[str, Any]) -> nn.Module:
    from torchvision.models import get_model_builder

    build = get_model_builder(name)
    if "weights_backbone" in inspect.signature(build).parameters:  # detectors would download a backbone
        options = {"weights_backbone": None, **options}
    return build(weights=None, **options)


def _create_cifar(match: re.Match[str], options: dict[str, Any]) -> nn.Module:
    return cifar_resnet(
        int(match["depth"]),
        block="bottleneck" if match["bottleneck"] else "basic",
        version=2 if match["pre"] else 1,
        shortcut="pad" if match["pad"] else "projection",
        **options,
    )
