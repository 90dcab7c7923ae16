"""COCO: instances json and folders of images."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from math import isfinite
from pathlib import Path
from typing import Any

from recalib.data.annotations import Annotations, Object, Problem
from recalib.errors import RecalibError


def find_coco(root: Path) -> dict[str, Path]:
    """Instances files of a folder laid out as COCO is, by split: ``annotations/instances_train2017.json`` and the like.

    The files may also lie in the folder itself.
    """
    files = [*root.glob("annotations/instances_*.json"), *root.glob("instances_*.json")]
    return {file.stem.removeprefix("instances_"): file for file in sorted(files, reverse=True)}


def is_coco(content: Any) -> bool:
    """True for the content of an instances file."""
    return isinstance(content, Mapping) and {"images", "annotations", "categories"} <= content.keys()


def from_coco(content: Any, file: Path, folder: Path | None = None) -> Annotations:
    """Annotations of an instances file.

    Args:
        content: the file's images, annotations and categories.
        file: its path, for messages.
        folder: theirs; by default the one named as the split (``train2017`` for ``instances_train2017.json``)
            beside the file, above it, or in ``images`` there; it need not exist.

    Raises:
        RecalibError: where the content is not of COCO's form.
    """
    if not is_coco(content):
        raise RecalibError(f"{file} is no COCO instances file: it should have images, annotations and categories")
    try:
        categories = {int(each["id"]): str(each["name"]) for each in content["categories"]}
        images = tuple(map(_image, content["images"]))
        objects = tuple(map(_object, content["annotations"]))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RecalibError(f"{file} is no COCO instances file: an entry lacks {error}") from None
    for image in images:
        if not all(isinstance(image.get(side), int) and image[side] > 0 for side in ("width", "height")):
            raise RecalibError(f"{file}: image {image['id']} has no width and height")
    misread = tuple(_twins(content["categories"], file))
    return Annotations(file, folder or _images_of(file), images, objects, dict(sorted(categories.items())), misread)


def _twins(categories: Any, file: Path) -> Iterator[Problem]:
    """Categories that share an id, of which the last counts, or a name, which is then two classes."""
    ids, names = Counter(int(each["id"]) for each in categories), Counter(str(each["name"]) for each in categories)
    for number, count in ids.items():
        if count > 1:
            said = ", ".join(str(each["name"]) for each in categories if int(each["id"]) == number)
            yield Problem("duplicate category", f"{file.name}, category {number}", f"{count} have this id: {said}")
    for name, count in names.items():
        numbers = sorted({int(each["id"]) for each in categories if str(each["name"]) == name})
        if count > 1 and len(numbers) > 1:
            said = ", ".join(map(str, numbers))
            yield Problem("duplicate category", f"{file.name}, category {name!r}", f"{count} have this name: {said}")


def _image(each: Mapping[str, Any]) -> dict[str, Any]:
    told = each.get("attributes")
    attributes = {name: value for name, value in told.items() if isinstance(value, str)} if told else {}
    return {**each, "id": int(each["id"]), "file_name": str(each["file_name"]), "attributes": attributes}


def _object(each: Mapping[str, Any]) -> Object:
    """With a crowd flag, and with an area only where that is a number."""
    for key in ("id", "image_id", "category_id"):
        if isinstance(each.get(key), list | dict):
            raise TypeError(f"a number as {key}: it has {each[key]!r}")
    area = each.get("area")
    told = {"area": area} if isinstance(area, int | float) and isfinite(area) else {}
    rest = {key: value for key, value in each.items() if key != "area"}
    return {**rest, **told, "iscrowd": int(bool(each.get("iscrowd")))}


def read_labels(file: Path) -> Any:
    """Content of a json file.

    Raises:
        RecalibError: where it cannot be read.
    """
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise RecalibError(f"{file} cannot be read: {str(error).splitlines()[0]}") from None


def _images_of(file: Path) -> Path:
    split = file.stem.removeprefix("instances_")
    places = [root / part / split for root in (file.parent, file.parent.parent) for part in ("", "images")]
    return next((place for place in (*places, file.parent / "images") if place.is_dir()), places[0])
