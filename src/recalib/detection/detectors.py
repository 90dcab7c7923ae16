"""torchvision's detectors by name, with attention in the backbone."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from torch import nn
from torchvision.models.detection import FasterRCNN, MaskRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.ssd import SSD
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, LastLevelMaxPool, LastLevelP6P7

from recalib.detection.backbones import (
    Norms,
    freeze_layers,
    insert_once,
    normalization_of,
    pretrained_resnet,
    scratch_resnet,
    set_norms,
)
from recalib.detection.recipes import DetectionRecipe
from recalib.errors import RecalibError, unknown
from recalib.models.ibn import ibn_
from recalib.models.ssd_resnet import RootResNet34
from recalib.runs.folder import weights_of
from recalib.training.recipe import attention_options

DEPTHS = (18, 34, 50, 101, 152)
SSD_SIDE = 512
Finish = Callable[[int, dict[str, Any]], nn.Module]  # the detector with so many classes, and further settings


@dataclass(frozen=True)
class DetectorSpec:
    """Facts of a detector before it is built.

    Attributes:
        name: the detector's.
        depth: its ResNet's.
        begin: from the backbone's weights and norms, the ResNet, and what makes the detector of it.
        masks: true where it segments what it finds.
        two_stages: true where it looks at proposals.
        side: side of the images that it scales everything to; None where they keep their shape, within two sizes.
        from_scratch: true where it takes no weights, and batch norms only.
    """

    name: str
    depth: int
    begin: Callable[[Path | None, Norms], tuple[nn.Module, Finish]]
    masks: bool = False
    two_stages: bool = False
    side: int | None = None
    from_scratch: bool = False


def detector_spec(name: str) -> DetectorSpec:
    """Facts of the detector of that name.

    Raises:
        RecalibError: for an unknown name, naming the nearest.
    """
    if name not in DETECTORS:
        raise unknown("detector", name, DETECTORS)
    return DETECTORS[name]


def build_detector(
    name: str,
    *,
    num_classes: int,
    attention: str | None = None,
    identity: bool = False,
    options: dict[str, Any] | None = None,
    backbone_weights: Path | None = None,
    norms: Norms = "auto",
    trainable_layers: int | None = None,
    ibn: Literal["none", "a", "b"] = "none",
    **settings: Any,
) -> nn.Module:
    """A detector with attention at the end of every residual block of its backbone, and nowhere else.

    It is called as torchvision's are: with a list of images (3, H, W) in [0, 1] and, in training, targets; it returns
    a dict of losses in training, and a list of dicts with boxes, labels and scores in evaluation.

    Args:
        name: one of `DETECTORS`.
        num_classes: classes, the background included.
        attention: module to insert; where the weights of the backbone have it already, theirs stays.
        identity: start fresh attention as the identity.
        options: settings of fresh attention.
        backbone_weights: a classification checkpoint that `recalib.load_checkpoint` reads; None for random weights.
        norms: the backbone's: ``"frozen"`` to affine maps, ``"batch"``, or ``"group"`` of 32; by default frozen where
            there are weights and batch where there are none. What attention brings is trained in any case.
        trainable_layers: number of trained layers among conv1, layer1, ..., layer4, from the last; by default 3 of a
            backbone with weights, and all of one without. Attention in the others is trained all the same.
        ibn: instance normalization by the scheme ``"a"`` or ``"b"``; see `recalib.models.ibn`.
        **settings: further arguments of torchvision's detector, such as ``min_size``.

    Raises:
        RecalibError: for an unknown name or setting, or weights of another network.
    """
    spec = detector_spec(name)
    norms = norms if norms != "auto" else "batch" if backbone_weights is None else "frozen"
    if spec.from_scratch and (backbone_weights is not None or norms != "batch" or trainable_layers is not None):
        raise RecalibError(f"{name} is trained from scratch: it takes no weights, batch norms only, and all its layers")
    body, finish = spec.begin(backbone_weights, norms)
    freeze_layers(body, (5 if backbone_weights is None else 3) if trainable_layers is None else trainable_layers)
    if ibn != "none":
        ibn_(body, ibn)
    insert_once(body, attention, identity, options or {})
    try:
        return finish(num_classes, {**normalization_of(backbone_weights), **settings})
    except TypeError as error:
        raise RecalibError(f"{name}: {error}") from None


def norms_of(detector: nn.Module) -> str:
    """Kind of norms that the backbone of a detector was built with."""
    kinds = {type(module) for module in detector.get_submodule("backbone.body").modules()}
    return "frozen" if FrozenBatchNorm2d in kinds else "group" if nn.GroupNorm in kinds else "batch"


def _pyramid(
    kind: type[nn.Module],
    depth: int,
    first: int,
    extra: Callable[[], ExtraFPNBlock],
    weights: Path | None,
    norms: Norms,
) -> tuple[nn.Module, Finish]:
    """A detector of torchvision's on a pyramid over the stages from a first one on."""
    body = scratch_resnet(depth) if weights is None else pretrained_resnet(depth, weights)
    set_norms(body, norms)

    def finish(num_classes: int, settings: dict[str, Any]) -> nn.Module:
        stages = range(first, 5)
        widths = [(64 if depth < 50 else 256) * 2 ** (stage - 1) for stage in stages]
        pyramid = BackboneWithFPN(body, {f"layer{s}": str(i) for i, s in enumerate(stages)}, widths, 256, extra())
        return kind(pyramid, num_classes, **settings)

    return body, finish


def _ssd512(_weights: Path | None, _norms: Norms) -> tuple[nn.Module, Finish]:
    backbone = RootResNet34()
    body: Any = backbone.body
    return body, partial(_finish_ssd512, backbone)


def _finish_ssd512(backbone: nn.Module, num_classes: int, settings: dict[str, Any]) -> nn.Module:
    """SSD as ScratchDet has it: sizes of boxes as SSD512 on COCO, a norm after each layer of the heads."""
    boxes = DefaultBoxGenerator(
        [[2], [2, 3], [2, 3], [2, 3], [2, 3], [2], [2]],
        scales=[0.04, 0.10, 0.26, 0.42, 0.58, 0.74, 0.90, 1.06],
        steps=[8, 16, 32, 64, 128, 256, 512],
    )
    usual = {"image_mean": [0.485, 0.456, 0.406], "image_std": [1 / 255] * 3, "score_thresh": 0.02}
    detector: Any = SSD(backbone, boxes, (SSD_SIDE, SSD_SIDE), num_classes, **{**usual, **settings})
    for head in (detector.head.classification_head, detector.head.regression_head):
        for i, layer in enumerate(head.module_list):
            bare = nn.Conv2d(layer.in_channels, layer.out_channels, 3, padding=1, bias=False)
            nn.init.xavier_uniform_(bare.weight)
            head.module_list[i] = nn.Sequential(bare, nn.BatchNorm2d(layer.out_channels))
    return detector


def build_from_recipe(recipe: DetectionRecipe, num_classes: int) -> nn.Module:
    """The detector that a recipe begins with.

    Args:
        recipe: its model, attention, weights, norms and sizes.
        num_classes: classes, the background included.

    Raises:
        RecalibError: as `build_detector`.
    """
    spec = detector_spec(recipe.model)
    ignored = [
        *(("min_size", "max_size") if spec.side else ()),
        *(() if spec.two_stages else ("proposals", "regions")),
    ]
    for name in ignored:
        usual = getattr(DetectionRecipe, name)
        if getattr(recipe, name) != usual:
            flag = name.replace("_", "-")
            raise RecalibError(f"{name} {getattr(recipe, name)}: {recipe.model} has none; leave --{flag} at {usual}")
    weights = None if recipe.weights is None else weights_of(recipe.weights)
    settings: dict[str, Any] = {}
    if spec.side is None:
        settings = {"min_size": recipe.min_size, "max_size": recipe.max_size}
    if spec.two_stages:
        settings |= {"rpn_post_nms_top_n_train": recipe.proposals, "box_batch_size_per_image": recipe.regions}
    return build_detector(
        recipe.model, num_classes=num_classes, attention=recipe.attention, identity=recipe.identity,
        options=attention_options(recipe.options), backbone_weights=weights, norms=recipe.norms,
        trainable_layers=recipe.trainable_layers, ibn=recipe.ibn, **settings,
    )  # fmt: skip


def _all_specs() -> Iterator[DetectorSpec]:
    for depth in DEPTHS:
        two_stages: dict[str, Any] = {"depth": depth, "two_stages": True}
        pyramid = partial(_pyramid, FasterRCNN, depth, 1, LastLevelMaxPool)
        yield DetectorSpec(f"fasterrcnn_resnet{depth}_fpn", begin=pyramid, **two_stages)
        pyramid = partial(_pyramid, MaskRCNN, depth, 1, LastLevelMaxPool)
        yield DetectorSpec(f"maskrcnn_resnet{depth}_fpn", begin=pyramid, masks=True, **two_stages)
        pyramid = partial(_pyramid, RetinaNet, depth, 2, partial(LastLevelP6P7, 256, 256))
        yield DetectorSpec(f"retinanet_resnet{depth}_fpn", depth, pyramid)
    yield DetectorSpec("ssd512_resnet34", 34, _ssd512, side=SSD_SIDE, from_scratch=True)


DETECTORS = {spec.name: spec for spec in _all_specs()}
