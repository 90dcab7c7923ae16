"""COCO's three ways to write a mask: polygons, run lengths, and compressed run lengths."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from recalib.errors import RecalibError, require_packages

FAR = 1e6  # pixels; no corner of a polygon is that far away


def is_mask(segmentation: Any, height: int, width: int) -> bool:
    """True for a mask of an image of this size, in one of the three forms."""
    if isinstance(segmentation, list):
        return bool(segmentation) and all(map(_is_polygon, segmentation))
    if not isinstance(segmentation, Mapping) or segmentation.get("size") not in ([height, width], (height, width)):
        return False
    counts = segmentation.get("counts")
    if isinstance(counts, list):
        return all(isinstance(n, int) and n >= 0 for n in counts) and sum(counts) == height * width
    try:
        mask_of(segmentation, height, width)
    except RecalibError:
        return False
    return True


def _is_polygon(corners: Any) -> bool:
    if not isinstance(corners, list) or len(corners) < 6 or len(corners) % 2:
        return False
    return all(isinstance(n, int | float) and abs(n) < FAR for n in corners)


def mask_of(segmentation: Any, height: int, width: int) -> np.ndarray:
    """A mask (H, W), uint8, of COCO's polygons, of run lengths, or of compressed run lengths.

    Raises:
        RecalibError: for anything else, or where faster-coco-eval is not installed.
    """
    runs = as_runs(segmentation, height, width)
    try:
        mask: np.ndarray = _masks().decode(runs)
    except ValueError as error:
        raise RecalibError(f"a mask is not of COCO's form: {error}") from None
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
    require_packages(("faster_coco_eval",), "detect", "masks")
    from faster_coco_eval.core import mask

    return mask
