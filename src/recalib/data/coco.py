"""COCO: instances json and folders of images, and its three ways to write a mask."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from recalib.data.annotations import Annotations
from recalib.errors import RecalibError


def find_coco(root: Path) -> dict[str, Path]:
    """Instances files of a folder laid out as COCO is, by split: ``annotations/instances_train2017.json`` and the like.

    The files may also lie in the folder itself.
    """
    files = [*root.glob("annotations/instances_*.json"), *root.glob("instances_*.json")]
    return {file.stem.removeprefix("instances_"): file for file in sorted(files, reverse=True)}


def is_coco(content: Any) -> bool:
    """Whether this is what an instances file holds."""
    return isinstance(content, Mapping) and {"images", "annotations", "categories"} <= content.keys()


def from_coco(content: Any, file: Path, folder: Path | None = None) -> Annotations:
    """Annotations of an instances file.

    Args:
        content: of the file: images, annotations and categories.
        file: where it is from.
        folder: of the images; by default the one named as the split (``train2017`` for ``instances_train2017.json``)
            beside the file, above it, or in ``images`` there.

    Raises:
        RecalibError: where the content is not of COCO's form, or the folder is not found.
    """
    if not is_coco(content):
        raise RecalibError(f"{file} is no COCO instances file: it should have images, annotations and categories")
    try:
        categories = {int(each["id"]): str(each["name"]) for each in content["categories"]}
        images = tuple(
            {**each, "id": int(each["id"]), "file_name": str(each["file_name"])} for each in content["images"]
        )
        objects = tuple({**each} for each in content["annotations"])
    except (KeyError, TypeError, ValueError) as error:
        raise RecalibError(f"{file} is no COCO instances file: an entry lacks {error}") from None
    for image in images:
        if not all(isinstance(image.get(side), int) and image[side] > 0 for side in ("width", "height")):
            raise RecalibError(f"{file}: image {image['id']} has no width and height")
    return Annotations(file, folder or _images_of(file), images, objects, dict(sorted(categories.items())))


def read_labels(file: Path) -> Any:
    """Content of a json file.

    Raises:
        RecalibError: where it cannot be read.
    """
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise RecalibError(f"{file} cannot be read: {str(error).splitlines()[0]}") from None


def _images_of(file: Path) -> Path:
    split = file.stem.removeprefix("instances_")
    roots = (file.parent, file.parent.parent)
    places = [root / part / split for root in roots for part in ("", "images")]
    for place in (*places, file.parent / "images"):
        if place.is_dir():
            return place
    raise RecalibError(f"{file}: no folder of its images; expected {places[0]} or {places[2]}")


def mask_of(segmentation: Any, height: int, width: int) -> np.ndarray:
    """A mask (H, W), uint8, of COCO's polygons, of run lengths, or of compressed run lengths.

    Raises:
        RecalibError: for anything else, or where faster-coco-eval is not installed.
    """
    mask: np.ndarray = _masks().decode(as_runs(segmentation, height, width))
    return mask


def as_runs(segmentation: Any, height: int, width: int) -> dict[str, Any]:
    """Compressed run lengths of a segmentation in any of COCO's forms.

    Raises:
        RecalibError: for anything else, or where faster-coco-eval is not installed.
    """
    masks = _masks()
    try:
        if isinstance(segmentation, list):
            return _text(masks.merge(masks.frPyObjects(segmentation, height, width)))
        if list(segmentation["size"]) != [height, width]:
            raise ValueError(f"its size is {segmentation['size']}, that of its image [{height}, {width}]")
        if isinstance(segmentation["counts"], str | bytes):
            return _text(segmentation)
        if sum(segmentation["counts"]) != height * width:
            raise ValueError("its run lengths do not add up to its size")
        return _text(masks.frPyObjects(segmentation, height, width))
    except (KeyError, TypeError, ValueError, IndexError, RuntimeError) as error:
        raise RecalibError(f"a mask is not of COCO's form: {error}") from None


def runs_of(mask: np.ndarray) -> dict[str, Any]:
    """Compressed run lengths, as COCO's result files have them, of a mask (H, W)."""
    return _text(_masks().encode(np.asfortranarray(mask, dtype=np.uint8)))


def _text(runs: Mapping[str, Any]) -> dict[str, Any]:
    """With counts that json can hold."""
    counts = runs["counts"]
    size = [int(n) for n in runs["size"]]
    return {"size": size, "counts": counts.decode("ascii") if isinstance(counts, bytes) else counts}


def _masks() -> Any:
    try:
        from faster_coco_eval.core import mask
    except ImportError:
        raise RecalibError("masks need the package faster-coco-eval: pip install 'recalib[detect]'") from None
    return mask
