"""A detector's backbone, neck and heads: what each costs, and how long each takes."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

PROPOSALS, INSTANCES = 1000, 100  # what torchvision's and mmdetection's detectors keep of an image when they are tested
PARTS = ("transform", "backbone", "neck", "rpn", "roi_heads", "head")
FAMILIES = ("fasterrcnn", "maskrcnn", "retinanet", "ssd512")


def is_detector(name: str) -> bool:
    """Whether a name is meant for `recalib.detection.detectors.build_detector`, not for a classifier."""
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
        parts = _parts(detector)
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


def _parts(detector: Any) -> dict[str, nn.Module]:
    """Parts of torchvision's detectors by name; the backbone of an SSD has no neck."""
    there = {name: getattr(detector, name) for name in PARTS if hasattr(detector, name)}
    if hasattr(detector.backbone, "fpn"):
        there |= {"backbone": detector.backbone.body, "neck": detector.backbone.fpn}
    return there


def parts_latency(
    detector: nn.Module, images: Sequence[Tensor], rounds: int = 20, warm_up: int = 3
) -> dict[str, list[float]]:
    """How long each part of a detector takes, in every one of some calls.

    The detector runs as a whole, in evaluation mode, and the clock is read where its parts begin and end, on a GPU
    after it has finished what it was given, so that a call takes somewhat longer than one that is not looked at.

    Args:
        detector: one of torchvision's; its mode is left as it is.
        images: each (3, H, W) in [0, 1], where its weights are.
        rounds: calls that are timed.
        warm_up: calls before, that are not.

    Returns:
        Milliseconds of every call, by part: ``transform``, ``backbone``, ``neck``, ``rpn`` with its choice of
        proposals, ``roi_heads`` with RoI align and suppression, or ``head``; ``rest`` of the whole; and ``total``.
    """
    times: dict[str, list[float]] = {}
    was_training = detector.training
    detector.eval()
    try:
        with torch.inference_mode():
            for _ in range(warm_up):
                detector(list(images))
            for _ in range(rounds):
                for part, milliseconds in _one_call(detector, list(images)).items():
                    times.setdefault(part, []).append(milliseconds)
    finally:
        detector.train(was_training)
    return times


def _one_call(detector: nn.Module, images: list[Tensor]) -> dict[str, float]:
    spent: dict[str, float] = {}
    with _clocks(detector, spent):
        start = _now(images[0])
        detector(images)
        total = _now(images[0]) - start
    return {**spent, "rest": total - sum(spent.values()), "total": total}


@contextmanager
def _clocks(detector: nn.Module, spent: dict[str, float]) -> Iterator[None]:
    """Adds up the milliseconds that each part takes meanwhile."""
    weight = next(detector.parameters())
    handles: list[Any] = []
    for part, module in _parts(detector).items():
        begin, end = _clock(part, spent, weight)
        handles += [module.register_forward_pre_hook(begin), module.register_forward_hook(end)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _clock(part: str, spent: dict[str, float], weight: Tensor) -> tuple[Callable[..., None], Callable[..., None]]:
    def begin(*_: Any) -> None:
        spent[part] = spent.get(part, 0.0) - _now(weight)

    def end(*_: Any) -> None:
        spent[part] += _now(weight)

    return begin, end


def _now(like: Tensor) -> float:
    if like.is_cuda:
        torch.cuda.synchronize(like.device)
    return time.perf_counter() * 1e3
