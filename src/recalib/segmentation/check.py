"""Folders of label images looked over before anything is trained on them."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from recalib.data.annotations import Problem
from recalib.data.check import Half, Watch
from recalib.errors import RecalibError
from recalib.segmentation.data import IGNORED, Pictures, open_pictures


def is_labelled(root: Path) -> bool:
    """True for a folder that is laid out as `open_pictures` reads one."""
    return (root / "classes.txt").is_file() and (root / "images").is_dir() and (root / "labels").is_dir()


def check_pictures(root: Path, watch: Watch = lambda images, _: images) -> list[Half]:
    """Every part of a data set in folders: each image and its labels decoded and compared.

    The images of a class are those in which a pixel has it.

    Args:
        root: the data set.
        watch: shows the progress; called with an iterable and its length.
    """
    return [_half(root, part.name, watch) for part in sorted((root / "images").iterdir()) if part.is_dir()]


def _half(root: Path, split: str, watch: Watch) -> Half:
    try:
        pictures = open_pictures(root, split)
    except RecalibError as error:
        return Half(split, 0, {}, [Problem("cannot be read", split, str(error))])
    seen: Counter[str] = Counter()
    problems = []
    for found in watch(_looked_at(pictures), len(pictures)):
        if isinstance(found, Problem):
            problems.append(found)
        else:
            seen.update(pictures.classes[number] for number in found if number != IGNORED)
    nowhere = [name for name in pictures.classes if not seen[name]]
    if nowhere:
        problems.append(Problem("class without images", split, ", ".join(nowhere[:5])))
    return Half(split, len(pictures), {name: seen[name] for name in pictures.classes}, problems)


def _looked_at(pictures: Pictures) -> Iterator[Problem | list[int]]:
    """A problem, or the classes that are there, of each image."""

    def look(place: int) -> Problem | list[int]:
        try:
            pair = pictures.read(place)
        except RecalibError as error:
            return Problem("wrong labels", pictures.names[place], str(error))
        if pair is None:
            return Problem("broken image", pictures.names[place], "it cannot be decoded")
        classes: list[int] = pair[1].unique().tolist()
        return classes

    with ThreadPoolExecutor() as threads:
        yield from threads.map(look, pictures.places)
