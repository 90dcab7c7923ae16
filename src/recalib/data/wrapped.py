"""Any torchvision-style detection data set, with the same checks, evaluation and result files as COCO."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor, to_dtype

from recalib.data.annotations import Annotations, Object, Problem, usable
from recalib.data.detection_data import DetectionDataset
from recalib.data.masks import runs_of
from recalib.errors import RecalibError, WorkFailed


def wrap_detection(
    dataset: Any, classes: Sequence[str], *, masks: bool = False, strict: bool = False
) -> DetectionDataset:
    """A `DetectionDataset` of a data set whose items are an image and a target, as torchvision's detectors take them.

    Every item is read once for it, so that what is wrong is known before training.

    Args:
        dataset: has a length, and items (image, target): a PIL image or a tensor (3, H, W), uint8 or from 0 to 1; and a
            dict with ``boxes`` (n, 4), xyxy in pixels, ``labels`` (n,) from 1, and where there are such ``masks``
            (n, H, W), ``area``, ``iscrowd`` and ``image_id``. `torchvision.datasets.wrap_dataset_for_transforms_v2`
            makes such targets of torchvision's own.
        classes: names of the labels 1, 2, ...
        masks: give masks too.
        strict: refuse whatever is wrong, instead of leaving it out and telling so in ``dropped``.

    Raises:
        RecalibError: for targets without boxes or labels, or where no item can be used.
        WorkFailed: if strict, at the first problem.
    """
    images: list[dict[str, Any]] = []
    objects: list[Object] = []
    broken: list[Problem] = []
    for place in range(len(dataset)):
        try:
            image, target = dataset[place]
        except (OSError, ValueError, SyntaxError) as error:
            broken.append(Problem("broken image", f"item {place}", str(error)))
            continue
        images.append(_image(_pixels(image), target, place))
        objects += _objects(target, images[-1]["id"], place)
    names = dict(enumerate(classes, 1))
    whole = Annotations(Path(type(dataset).__name__), Path(), tuple(images), tuple(objects), names)
    found, wrong = usable(whole, masks)
    problems = broken + wrong
    if strict and problems:
        raise WorkFailed(f"{whole.source}: {problems[0]}")
    if not found.images:
        raise RecalibError(f"{whole.source} leaves no image to use")
    return _Wrapped(dataset, found, problems, masks=masks, strict=strict)


class _Wrapped(DetectionDataset):
    def __init__(self, items: Any, annotations: Annotations, dropped: Sequence[Problem], **options: bool) -> None:
        super().__init__(annotations, dropped, **options)
        self.items = items

    def read(self, index: int) -> Tensor | None:
        """An image (3, H, W), uint8; None where it cannot be read."""
        try:
            return _pixels(self.items[self.images[index]["place"]][0])
        except (OSError, ValueError, SyntaxError):
            return None


def _pixels(image: Any) -> Tensor:
    if not isinstance(image, Tensor):
        return pil_to_tensor(image.convert("RGB"))
    return to_dtype(image.as_subclass(Tensor), torch.uint8, scale=True)


def _image(pixels: Tensor, target: Mapping[str, Any], place: int) -> dict[str, Any]:
    height, width = pixels.shape[-2:]
    number = int(target.get("image_id", place))
    return {"id": number, "file_name": f"item {place}", "width": width, "height": height, "place": place}


def _objects(target: Mapping[str, Any], image_id: int, place: int) -> Iterator[Object]:
    if not {"boxes", "labels"} <= target.keys():
        raise RecalibError(f"item {place}: its target has {', '.join(map(str, target))}; boxes and labels are needed")
    for i, (box, label) in enumerate(zip(target["boxes"].tolist(), target["labels"].tolist(), strict=True)):
        x, y, right, bottom = box
        each = {"image_id": image_id, "category_id": label, "bbox": [x, y, right - x, bottom - y]}
        if "masks" in target:
            each["segmentation"] = runs_of(target["masks"][i].numpy())
        told = {name: target[name][i].item() for name in ("area", "iscrowd") if name in target}
        yield {**each, **told}
