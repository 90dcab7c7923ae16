"""A detector's parts, and what they cost for a set number of proposals."""

from typing import Any

from torch import Tensor, nn

PROPOSALS, INSTANCES = 1000, 100  # what torchvision's and mmdetection's detectors keep of an image when they are tested
PARTS = ("transform", "backbone", "neck", "rpn", "roi_heads", "head")
FAMILIES = ("fasterrcnn", "maskrcnn", "retinanet", "ssd512")


def is_detector(name: str) -> bool:
    """True if a name is meant for `recalib.detection.detectors.build_detector`, not for a classifier."""
    return name.startswith(FAMILIES)


class FixedWork(nn.Module):
    """The convolutions and matrix products of a detector, for a set number of proposals, whatever the images show.

    `recalib.cost` takes it where it refuses the detector, and counts its parts under ``backbone``, ``neck``, ``rpn``
    and ``roi_heads``, or ``head`` of a detector with one stage. The images are taken in the size they have. Choosing
    proposals, cutting them out (RoI align) and suppressing doubles are left out: they have no multiply-adds.

    Args:
        detector: one of torchvision's; its modules are shared.
        proposals: boxes an image that the second stage classifies.
        instances: boxes an image that get masks.
    """

    def __init__(self, detector: nn.Module, proposals: int = PROPOSALS, instances: int = INSTANCES) -> None:
        super().__init__()
        whole: Any = detector
        parts = parts_of(detector)
        self.backbone, self.neck = parts["backbone"], parts.get("neck")
        self.two_stages = "rpn" in parts
        if self.two_stages:
            self.rpn, self.roi_heads = whole.rpn.head, _RoiHeads(whole.roi_heads, proposals, instances)
        else:
            self.head = parts["head"]

    def forward(self, images: Tensor) -> Any:
        """Images (N, 3, H, W) to what the heads give."""
        maps = self.backbone(images)
        features = list((maps if self.neck is None else self.neck(maps)).values())
        return (self.rpn(features), self.roi_heads(features[0])) if self.two_stages else self.head(features)


class _RoiHeads(nn.Module):
    def __init__(self, heads: Any, proposals: int, instances: int) -> None:
        super().__init__()
        self.box = nn.Sequential(heads.box_head, heads.box_predictor)
        self.work = {"box": (proposals, heads.box_roi_pool.output_size)}
        if heads.has_mask():
            self.mask = nn.Sequential(heads.mask_head, heads.mask_predictor)
            self.work["mask"] = (instances, heads.mask_roi_pool.output_size)

    def forward(self, features: Tensor) -> list[Any]:
        images, channels = features.shape[:2]
        pooled = {name: features.new_empty(images * n, channels, *side) for name, (n, side) in self.work.items()}
        return [self.get_submodule(name)(part) for name, part in pooled.items()]


def parts_of(detector: Any) -> dict[str, nn.Module]:
    """Parts of torchvision's detectors by name; the backbone of an SSD has no neck."""
    there = {name: getattr(detector, name) for name in PARTS if hasattr(detector, name)}
    if hasattr(detector.backbone, "fpn"):
        there |= {"backbone": detector.backbone.body, "neck": detector.backbone.fpn}
    return there
