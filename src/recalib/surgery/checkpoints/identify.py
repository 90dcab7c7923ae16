"""By what name a given network can be built again."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Size, nn

from recalib.errors import RecalibError
from recalib.surgery.checkpoints.networks import Architecture, classifier_of, recognise
from recalib.surgery.insertion import inserted
from recalib.surgery.wrap import without_wrappers


def architecture_of(network: nn.Module) -> Architecture | None:
    """Builder of a network with these names, shapes and strides, attention aside; None where that cannot be told."""
    form = _form(network)
    classifier = classifier_of(network)
    num_classes = None if classifier is None else classifier[1].out_features
    for candidate in _candidates(network):
        with torch.device("meta"), contextlib.suppress(RecalibError):  # a few are not built without memory
            if _form(candidate.build(num_classes)) == form:
                return candidate
    return None


def _candidates(network: nn.Module) -> Iterator[Architecture]:
    if name := timm_config(network).get("architecture"):
        yield Architecture(name)
    if recognised := recognise(network.state_dict()):
        yield recognised
        yield replace(recognised, stride_in_1x1=True)
    family = type(network).__module__
    if family.startswith("torchvision.models."):
        from torchvision.models import get_model_builder, list_models

        relatives = (name for name in list_models() if get_model_builder(name).__module__ == family)
        yield from (Architecture(f"torchvision:{name}") for name in relatives)


def _form(network: nn.Module) -> tuple[dict[str, Size], dict[str, Any]]:
    """Shapes of a network's state and strides of its convolutions, attention aside."""
    attention = tuple(f"{placement.site.name}.attention." for placement in inserted(network).placements)
    modules = {without_wrappers(name): module for name, module in network.named_modules()}
    return (
        {key: tensor.shape for key, tensor in network.state_dict().items() if not key.startswith(attention)},
        {
            name: (module.stride, module.dilation)
            for name, module in modules.items()
            if isinstance(module, nn.Conv2d) and not name.startswith(attention)
        },
    )


def timm_config(network: nn.Module) -> dict[str, Any]:
    """Configuration that timm has of a network of its own; empty for others."""
    config = getattr(network, "pretrained_cfg", None)
    return config if isinstance(config, dict) else {}
