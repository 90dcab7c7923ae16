"""A data set looked over before anything is trained on it: its labels, its classes, and every image decoded."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from recalib.data.annotations import Annotations, Problem, present, usable
from recalib.data.cifar import CifarName, read_cifar
from recalib.data.imagenet import read_folder
from recalib.data.parquet import Record
from recalib.data.pictures import open_picture
from recalib.errors import RecalibError

Watch = Callable[[Iterable[Any], int], Iterable[Any]]


def problems_of(annotations: Annotations) -> list[Problem]:
    """Faults of the labels, and images that are missing; masks are looked at where there are any."""
    masks = any(each.get("segmentation") for each in annotations.objects)
    empty = [
        Problem(f"no {what}", annotations.source.name, f"it lists no {what}")
        for what, those in (("images", annotations.images), ("objects", annotations.objects))
        if not those
    ]
    return [*empty, *present(annotations)[1], *usable(annotations, masks)[1]]


def broken_images(annotations: Annotations) -> Iterable[Problem | None]:
    """Decodes every image that is there, in order: a problem for each that cannot be read or is of another size."""
    there = present(annotations)[0]
    with ThreadPoolExecutor() as threads:
        yield from threads.map(partial(_broken, there), there.images)


def _broken(annotations: Annotations, image: Mapping[str, Any]) -> Problem | None:
    where, file = f"image {image['id']} ({image['file_name']})", annotations.file(image)
    picture = open_picture(file)
    if picture is None:
        return Problem("broken image", where, f"{file} cannot be decoded")
    if picture.size != (image["width"], image["height"]):
        told = f"{image['width']} x {image['height']}"
        return Problem("image of another size", where, f"{file} is {picture.width} x {picture.height}, not {told}")
    return None


@dataclass(frozen=True)
class Half:
    """One half of a classification data set, looked over.

    Attributes:
        name: "train" or "test".
        images: their number.
        classes: number of images of each class, by its name.
        problems: its faults.
    """

    name: str
    images: int
    classes: Mapping[str, int]
    problems: Sequence[Problem]


def check_cifar(root: Path, name: CifarName) -> list[Half]:
    """Both halves of CIFAR: whether the files are whole, and the images of each class."""
    return [_half_of_cifar(root, name, train=train) for train in (True, False)]


def _half_of_cifar(root: Path, name: CifarName, *, train: bool) -> Half:
    part = "train" if train else "test"
    try:
        images = read_cifar(root, name, train=train)
    except RecalibError as error:
        return Half(part, 0, {}, [Problem("broken file", part, str(error))])
    counts = dict(
        zip(images.classes, torch.bincount(images.labels, minlength=len(images.classes)).tolist(), strict=True)
    )
    return Half(part, len(images), counts, _uneven(part, counts))


def check_folder(root: Path, watch: Watch = lambda images, _: images) -> list[Half]:
    """Both halves of a data set in ImageNet's folders or shards: every image decoded, classes counted and compared.

    Args:
        root: the data set.
        watch: shows the progress of decoding; called with an iterable and its length.
    """
    halves = [_half_of_folder(root, train, watch) for train in (True, False)]
    train, test = (set(half.classes) for half in halves)
    differing = [
        Problem("classes differ", name, f"only {there} has {', '.join(sorted(names)[:5])}")
        for name, there, names in (("train", "train", train - test), ("test", "test", test - train))
        if names and train and test
    ]
    return [
        replace(half, problems=[*half.problems, *(p for p in differing if p.where == half.name)]) for half in halves
    ]


def _half_of_folder(root: Path, train: bool, watch: Watch) -> Half:
    name = "train" if train else "test"
    try:
        folder = read_folder(root, train=train)
    except RecalibError as error:
        return Half(name, 0, {}, [Problem("cannot be read", name, str(error))])
    with ThreadPoolExecutor() as threads:
        pictures = watch(threads.map(_unreadable, folder.files), len(folder))
        problems = [problem for problem in pictures if problem is not None]
    counts = dict.fromkeys(folder.classes, 0) | dict(Counter(folder.classes[label] for label in folder.labels))
    return Half(name, len(folder), counts, [*problems, *_uneven(name, counts)])


def _unreadable(file: Path | Record) -> Problem | None:
    """A problem where an image cannot be decoded; the picture itself is let go of at once."""
    return Problem("broken image", str(file), "it cannot be decoded") if open_picture(file) is None else None


def _uneven(name: str, counts: Mapping[str, int]) -> list[Problem]:
    empty = [each for each, count in counts.items() if count == 0]
    return [Problem("class without images", name, ", ".join(empty[:5]))] if empty else []
