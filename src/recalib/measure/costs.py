"""Costs of networks and detectors on paper, by name: plain, and with each module."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from recalib.cost.count import Cost, cost
from recalib.cost.detectors import FixedWork, is_detector
from recalib.measure.cells import BASELINE
from recalib.measure.sizes import Size, sides
from recalib.models import CifarResNet, create_model
from recalib.surgery import insert_

COCO_CLASSES = 81  # with the background


def costs_of(
    model: str,
    modules: Sequence[str],
    options: Mapping[str, Any],
    *,
    size: Size | None = None,
    batch: int = 1,
    convention: str = "standard",
) -> dict[str, tuple[Size, Cost]]:
    """The cost of a network with each of some modules, the plain one first, each with the size of its images.

    Args:
        model: a network, or a detector, which then has COCO's classes and 1000 proposals.
        modules: attention modules, a network for each.
        options: of the modules.
        size: of the images; None for what is usual: 224, 32 for the CIFAR ResNets, a detector's own.
        batch: images in one forward pass.
        convention: what counts as a FLOP.

    Raises:
        RecalibError: for an unknown model or module, or an option that is not right.
    """
    found = {}
    for module in dict.fromkeys((BASELINE, *modules)):
        network, usual = (_detector if is_detector(model) else _network)(model, module, options)
        asked = size or usual
        found[module] = asked, cost(network, (batch, 3, *sides(asked)), convention=convention)
    return found


def _network(model: str, module: str, options: Mapping[str, Any]) -> tuple[nn.Module, Size]:
    network = create_model(model)
    if module != BASELINE:
        insert_(network, module, **options)
    return network, 32 if isinstance(network, CifarResNet) else 224


def _detector(model: str, module: str, options: Mapping[str, Any]) -> tuple[nn.Module, Size]:
    from recalib.detection.detectors import build_detector, detector_spec

    attention = None if module == BASELINE else module
    detector = build_detector(model, num_classes=COCO_CLASSES, attention=attention, options=dict(options))
    return FixedWork(detector), detector_spec(model).side or (800, 1280)
