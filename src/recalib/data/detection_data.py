"""Detection data sets as PyTorch's: an image and what is in it, whatever the layout on the disk."""

from collections import defaultdict
from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2.functional import pil_to_tensor

from recalib.data.annotations import Annotations, Object, Problem, only, present, usable
from recalib.data.labels import Domain, in_domain, read_annotations
from recalib.data.masks import mask_of
from recalib.data.pictures import open_picture
from recalib.errors import RecalibError, WorkFailed

Target = dict[str, Any]


def open_detection(
    path: Path | str,
    *,
    split: str | None = None,
    domain: Domain | None = None,
    masks: bool = False,
    strict: bool = False,
) -> "DetectionDataset":
    """Open COCO or BDD100K in one of their official layouts, or a label file of either.

    Args:
        path: folder of the data set, or its label file.
        split: one of the label files of a folder, such as ``"train"`` or ``"val2017"``.
        domain: keep images with one of these values of an attribute, such as ``{"timeofday": ("daytime",)}``.
        masks: give masks too; objects without one are left out.
        strict: refuse whatever is wrong, instead of leaving it out and telling so in ``dropped``.

    Raises:
        RecalibError: where there is no data set, split, attribute or value of this name, or no image is left.
        WorkFailed: if strict, at the first problem.
    """
    sound, wrong = usable(read_annotations(Path(path), split), masks)
    found, missing = present(sound)
    problems = missing + wrong
    if strict and problems:
        more = f" (and {len(problems) - 1} more problems)" if len(problems) > 1 else ""
        raise WorkFailed(f"{found.source}: {problems[0]}{more}")
    found = in_domain(found, domain or {})
    if not found.images:
        raise RecalibError(f"{found.source} leaves no image to use" + (f": {problems[0]}" if problems else ""))
    return DetectionDataset(found, problems, masks=masks, strict=strict)


class DetectionDataset(Dataset[tuple[Tensor, Target]]):
    """Images (3, H, W), uint8, and their targets, in the order of image ids.

    A target holds ``boxes`` (n, 4), float32, xyxy in pixels; ``labels`` (n,), int64, 1 to K, the background being 0;
    ``area`` (n,), float64, in pixels; ``iscrowd`` (n,), int64; ``image_id``; and with masks ``masks`` (n, H, W), uint8.
    An image that cannot be read is replaced by the next that can, whose target then has ``instead_of``, the id of the
    image that was wanted: pass targets to `note`, which counts and names these also when other processes read.

    Args:
        annotations: the usable part.
        dropped: the rest, with reasons.
        masks: true where targets hold masks.
        strict: stop at the first image that cannot be read.

    Attributes:
        classes: names, the first being ``"__background__"``; labels are indices of it.
        category_ids: the data set's own id of each class, in the same order.
        image_ids: the data set's own, of each image in order.
        unreadable: files that could not be read so far.
    """

    def __init__(
        self, annotations: Annotations, dropped: Sequence[Problem] = (), *, masks: bool = False, strict: bool = False
    ) -> None:
        self.annotations, self.dropped, self.masks, self.strict = annotations, list(dropped), masks, strict
        self.images = sorted(annotations.images, key=lambda image: image["id"])
        self.image_ids: list[int] = [image["id"] for image in self.images]
        self.classes = ("__background__", *annotations.categories.values())
        self.category_ids = (0, *annotations.categories)
        self.unreadable: list[str] = []
        self._index = {image_id: i for i, image_id in enumerate(self.image_ids)}
        self._labels = {category: label for label, category in enumerate(annotations.categories, 1)}
        self._objects: dict[int, list[Object]] = defaultdict(list)
        for each in annotations.objects:
            self._objects[each["image_id"]].append(each)

    def subset(self, places: Sequence[int]) -> "DetectionDataset":
        """The images at some places, and what is in them."""
        chosen = copy(self)
        inside = only(self.annotations, {self.image_ids[place] for place in places})
        DetectionDataset.__init__(chosen, inside, self.dropped, masks=self.masks, strict=self.strict)
        return chosen

    def __len__(self) -> int:
        """Number of images."""
        return len(self.images)

    def __getitem__(self, wanted: int) -> tuple[Tensor, Target]:
        """An image and its target.

        Raises:
            WorkFailed: where no image can be read, or if strict, this one cannot.
        """
        for index in ((wanted + i) % len(self) for i in range(len(self))):
            image = self.read(index)
            if image is not None:
                replaced = {} if index == wanted else {"instead_of": self.image_ids[wanted]}
                return image, {**self.target(index), **replaced}
            if self.strict:
                raise WorkFailed(f"{self.file(index)} cannot be read, or is not of the size its label tells")
        raise WorkFailed(f"no image in {self.annotations.folder} can be read")

    def read(self, index: int) -> Tensor | None:
        """An image (3, H, W), uint8; None where it cannot be read or is not of the size that its label tells."""
        picture, image = open_picture(self.file(index)), self.images[index]
        return pil_to_tensor(picture) if picture and picture.size == (image["width"], image["height"]) else None

    def file(self, index: int) -> Path:
        """Path of an image."""
        return self.annotations.file(self.images[index])

    def attributes(self, index: int) -> dict[str, str]:
        """Attributes of an image, such as ``{"timeofday": "night"}``."""
        return {name: value for name, value in self.images[index].get("attributes", {}).items() if value is not None}

    def target(self, index: int) -> Target:
        """The target of an image, which is not read for it."""
        objects, image = self._objects[self.image_ids[index]], self.images[index]
        boxes = torch.tensor([each["bbox"] for each in objects], dtype=torch.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        areas = [each.get("area", each["bbox"][2] * each["bbox"][3]) for each in objects]
        target = {
            "boxes": boxes.float(),
            "labels": torch.tensor([self._labels[each["category_id"]] for each in objects], dtype=torch.int64),
            "area": torch.tensor(areas, dtype=torch.float64),
            "iscrowd": torch.tensor([int(each.get("iscrowd", 0)) for each in objects], dtype=torch.int64),
            "image_id": self.image_ids[index],
        }
        if self.masks:
            height, width = image["height"], image["width"]
            each_mask = [mask_of(each["segmentation"], height, width) for each in objects]
            target["masks"] = torch.from_numpy(
                np.stack(each_mask) if each_mask else np.zeros((0, height, width), np.uint8)
            )
        return target

    def note(self, targets: Sequence[Target]) -> None:
        """Count and name the images that a batch should have had but that could not be read."""
        for target in targets:
            if "instead_of" in target:
                name = str(self.file(self._index[target["instead_of"]]))
                if name not in self.unreadable:
                    self.unreadable.append(name)


def learnable(target: Target) -> Target:
    """A target without its crowd regions, which COCO neither trains on nor counts as background."""
    one = target["iscrowd"] == 0
    return {key: value[one] if isinstance(value, Tensor) else value for key, value in target.items()}
