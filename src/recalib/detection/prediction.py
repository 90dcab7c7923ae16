"""Objects that a detector sees in a picture, as data and drawn into it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import torch
from PIL import ImageFont
from torch import Tensor, nn
from torchvision.utils import draw_bounding_boxes, draw_segmentation_masks

from recalib.data.masks import runs_of
from recalib.detection.results import MASK_THRESHOLD

# Okabe and Ito's colours, which the colour-blind tell apart, without black, so that black text is read on them
COLORS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#cc79a7", "#d55e00", "#0072b2")


def makes_masks(model: nn.Module) -> bool:
    """True for a detector of torchvision that segments what it finds."""
    heads: Any = getattr(model, "roi_heads", None)
    return heads is not None and heads.has_mask()


@dataclass(frozen=True)
class Seen:
    """Objects found in an image, best first.

    Attributes:
        boxes: (n, 4), xyxy in pixels.
        labels: (n,), indices of the classes.
        scores: (n,), from 0 to 1.
        masks: (n, H, W), of bool; None of a detector that makes none.
    """

    boxes: Tensor
    labels: Tensor
    scores: Tensor
    masks: Tensor | None

    def objects(self, classes: Sequence[str]) -> list[dict[str, Any]]:
        """Each object for a json file: box as COCO writes it (x, y, width, height), mask as compressed run lengths."""
        boxes = torch.cat([self.boxes[:, :2], self.boxes[:, 2:] - self.boxes[:, :2]], 1).tolist()
        found = [
            {"category": classes[label], "score": score, "bbox": box}
            for label, score, box in zip(self.labels.tolist(), self.scores.tolist(), boxes, strict=True)
        ]
        if self.masks is None:
            return found
        return [{**each, "segmentation": runs_of(mask.numpy())} for each, mask in zip(found, self.masks, strict=True)]


def see(model: nn.Module, image: Tensor, score: float = 0.5) -> Seen:
    """Run a detector on an image.

    Args:
        model: torchvision's calling convention; it runs where its weights are, and is left in the mode it is in.
        image: (3, H, W), uint8.
        score: least certainty of an object.
    """
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    try:
        with torch.inference_mode():
            found: Mapping[str, Tensor] = model([image.to(device) / 255])[0]
    finally:
        model.train(was_training)
    kept = found["scores"] >= score
    boxes, labels, scores = (found[name][kept].cpu() for name in ("boxes", "labels", "scores"))
    masks = (found["masks"][kept, 0] > MASK_THRESHOLD).cpu() if "masks" in found else None
    return Seen(boxes, labels, scores, masks)


def draw(image: Tensor, seen: Seen, classes: Sequence[str]) -> Tensor:
    """The image (3, H, W), uint8, with boxes, masks, names and scores; a class has the same colour everywhere."""
    if not len(seen.boxes):
        return image
    labels, scores = seen.labels.flip(0).tolist(), seen.scores.flip(0).tolist()  # the best on top
    colors = [COLORS[(label - 1) % len(COLORS)] for label in labels]
    texts = [f"{classes[label]} {score:.2f}" for label, score in zip(labels, scores, strict=True)]
    if seen.masks is not None:
        image = draw_segmentation_masks(image, seen.masks.flip(0), alpha=0.5, colors=colors)
    short = min(image.shape[1:])
    drawn: Tensor = draw_bounding_boxes(
        image, seen.boxes.flip(0), texts, colors, width=max(2, short // 250), fill_labels=True,
        font=_font(max(10, short // 40)), font_size=max(10, short // 40),
    )  # fmt: skip
    return drawn


def _font(size: int) -> BytesIO:
    """Pillow's own font, which torchvision draws in one size only unless it is given as a file."""
    face: Any = ImageFont.load_default(size)
    return BytesIO(face.font_bytes)
