"""A detection data set looked over before anything is trained on it: its labels, and every image decoded."""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from recalib.data.annotations import Annotations, Problem, present, usable
from recalib.data.pictures import open_picture


def problems_of(annotations: Annotations) -> list[Problem]:
    """What is wrong with the labels, and images that are missing; masks are looked at where there are any."""
    masks = any(each.get("segmentation") for each in annotations.objects)
    return present(annotations)[1] + usable(annotations, masks)[1]


def broken_images(annotations: Annotations) -> Iterable[Problem | None]:
    """Decodes every image that is there, in order: a problem for each that cannot be read or is of another size."""
    there = present(annotations)[0]
    with ThreadPoolExecutor() as threads:
        yield from threads.map(partial(_broken, there), there.images)


def _broken(annotations: Annotations, image: Mapping[str, Any]) -> Problem | None:
    where, file = f"image {image['id']}", annotations.file(image)
    picture = open_picture(file)
    if picture is None:
        return Problem("broken image", where, f"{file} cannot be decoded")
    if picture.size != (image["width"], image["height"]):
        told = f"{image['width']} x {image['height']}"
        return Problem("image of another size", where, f"{file} is {picture.width} x {picture.height}, not {told}")
    return None
