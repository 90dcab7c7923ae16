"""Objects in the images of a detection data set, in COCO's own form, and their faults."""

from collections import Counter
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any

from recalib.data.masks import is_mask

Object = dict[str, Any]  # one of COCO's annotations
SLACK = 1.0  # pixels that a box may reach over the edge before it is a mistake
THIN = 0.01  # pixels; a box of less has no size left in float32


@dataclass(frozen=True)
class Annotations:
    """Images and the objects in them.

    Attributes:
        source: file of the labels.
        folder: place of the images.
        images: each with ``id``, ``file_name``, ``width``, ``height`` and, where known, ``attributes``
            such as ``{"timeofday": "night"}``.
        objects: each with ``id``, ``image_id``, ``category_id``, ``bbox`` (x, y, width, height in pixels), and, where
            known, ``area``, ``iscrowd`` and ``segmentation`` (polygons, or a mask in either of COCO's run lengths).
        categories: names by id, in the order of ids.
        misread: faults seen while reading, such as two categories of one id.
    """

    source: Path
    folder: Path
    images: tuple[dict[str, Any], ...]
    objects: tuple[Object, ...]
    categories: Mapping[int, str]
    misread: "tuple[Problem, ...]" = ()

    def file(self, image: Mapping[str, Any]) -> Path:
        """Path of an image."""
        return self.folder / image["file_name"]


@dataclass(frozen=True)
class Problem:
    """Something that is wrong with a data set.

    Attributes:
        kind: such as ``"inverted box"``.
        where: the image or object.
        detail: the fault, in words.
    """

    kind: str
    where: str
    detail: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.where}: {self.detail}"


def usable(annotations: Annotations, masks: bool = False) -> tuple[Annotations, list[Problem]]:
    """The sound objects, and the faults of the rest.

    Objects of unknown images or categories, with a box that is not finite, inverted, empty or outside of its image, are
    left out; of two objects or images with one id, and of two images of one file, the first is kept; a box that reaches
    out of its image by more than a pixel is cut off at the edge, and so is a mask.

    Args:
        annotations: as read.
        masks: leave out objects without a mask too.
    """
    problems = list(annotations.misread)
    images: dict[Any, dict[str, Any]] = {}
    files: dict[str, Any] = {}
    again: set[Any] = set()
    for image in annotations.images:
        where = f"image {image['id']} ({image['file_name']})"
        if image["id"] in images:
            problems.append(Problem("duplicate id", where, f"{images[image['id']]['file_name']} has it"))
        elif image["file_name"] in files:
            again.add(image["id"])
            problems.append(Problem("duplicate frame", where, f"image {files[image['file_name']]} is the same file"))
        else:
            images[image["id"]], files[image["file_name"]] = image, image["id"]
    there = replace(annotations, objects=tuple(o for o in annotations.objects if o.get("image_id") not in again))
    objects = tuple(_sound_objects(there, images, masks, problems))
    return replace(annotations, images=tuple(images.values()), objects=objects), problems


def present(annotations: Annotations) -> tuple[Annotations, list[Problem]]:
    """The part whose files are there, and the files that are missing."""
    missing = {
        image["id"]: annotations.file(image) for image in annotations.images if not annotations.file(image).is_file()
    }
    problems = [Problem("missing image", f"image {image} ({file.name})", str(file)) for image, file in missing.items()]
    return only(annotations, {image["id"] for image in annotations.images} - missing.keys()), problems


def only(annotations: Annotations, image_ids: Set[int]) -> Annotations:
    """The part that belongs to some of the images."""
    images = tuple(image for image in annotations.images if image["id"] in image_ids)
    objects = tuple(each for each in annotations.objects if each["image_id"] in image_ids)
    return replace(annotations, images=images, objects=objects)


def counts(problems: list[Problem]) -> dict[str, int]:
    """Number of problems of each kind."""
    return dict(Counter(problem.kind for problem in problems))


def _sound_objects(
    annotations: Annotations, images: Mapping[int, Mapping[str, Any]], masks: bool, problems: list[Problem]
) -> Iterator[Object]:
    seen: set[Any] = set()
    for each in annotations.objects:
        where = _where(each, images)
        if each.get("id") is not None and each["id"] in seen:
            problems.append(Problem("duplicate id", where, "an earlier object has it"))
        elif each.get("image_id") not in images:
            problems.append(Problem("unknown image", where, f"{annotations.source.name} lists no such image"))
        elif each.get("category_id") not in annotations.categories:
            problems.append(Problem("unknown category", where, repr(each.get("category_id"))))
        elif masks and not _has_mask(each, images[each["image_id"]]):
            problems.append(
                Problem("no mask", where, "its segmentation is neither polygons nor run lengths of its image")
            )
        else:
            if masks and _reaches_out(each["segmentation"], images[each["image_id"]]):
                problems.append(Problem("polygon outside of the image", where, "it is cut off at the edge"))
            seen.add(each.get("id"))
            yield from _sound_box(each, images[each["image_id"]], where, problems)


def _where(each: Object, images: Mapping[int, Mapping[str, Any]]) -> str:
    image = images.get(each.get("image_id", -1))
    return f"object {each.get('id')} in image {each.get('image_id')}" + (f" ({image['file_name']})" if image else "")


def _reaches_out(segmentation: Any, image: Mapping[str, Any]) -> bool:
    """True where a corner of a polygon lies outside of its image by more than a pixel."""
    if not isinstance(segmentation, list):
        return False
    return any(
        min(corners) < -SLACK
        or max(corners[::2]) > image["width"] + SLACK
        or max(corners[1::2]) > image["height"] + SLACK
        for corners in segmentation
    )


def _has_mask(each: Object, image: Mapping[str, Any]) -> bool:
    return is_mask(each.get("segmentation"), image["height"], image["width"])


def _sound_box(each: Object, image: Mapping[str, Any], where: str, problems: list[Problem]) -> Iterator[Object]:
    box = each.get("bbox")
    kind = _mistake(box)
    if kind is not None:
        problems.append(Problem(kind, where, f"{box}"))
        return
    inside = _inside(each["bbox"], image["width"], image["height"])
    if inside != each["bbox"]:
        size = f"{image['width']} x {image['height']}"
        problems.append(Problem("box outside of the image", where, f"{box} in an image of {size}"))
    if min(inside[2:]) >= THIN:
        yield each if inside == each["bbox"] else {**each, "bbox": inside}


def _mistake(box: Any) -> str | None:
    if not isinstance(box, list | tuple) or len(box) != 4 or not all(isinstance(n, int | float) for n in box):
        return "no box"
    if not all(map(isfinite, box)):
        return "box not finite"
    if min(box[2:]) < 0:
        return "inverted box"
    return "empty box" if min(box[2:]) < THIN else None


def _inside(box: list[float], width: int, height: int) -> list[float]:
    """The box itself, or where it reaches out of the image, the part that does not; width or height 0 if none."""
    x, y, w, h = box
    if x >= -SLACK and y >= -SLACK and x + w <= width + SLACK and y + h <= height + SLACK:
        return box
    left, top = max(x, 0), max(y, 0)
    return [left, top, max(min(x + w, width) - left, 0), max(min(y + h, height) - top, 0)]
