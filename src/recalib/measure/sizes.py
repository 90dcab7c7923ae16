"""Sizes of images: a side in pixels, or height and width."""

import re

from recalib.errors import RecalibError

Size = int | tuple[int, int]


def parse_size(text: str) -> Size:
    """A size as people write it: ``"224"`` or ``"320x192"``, height first.

    Raises:
        RecalibError: for anything else.
    """
    found = re.fullmatch(r"([1-9]\d*)(?:x([1-9]\d*))?", text)
    if found is None:
        raise RecalibError(f"size {text!r}: pixels such as 224, or height x width such as 320x192")
    height, width = int(found[1]), int(found[2] or found[1])
    return height if height == width else (height, width)


def sides(size: Size) -> tuple[int, int]:
    """Height and width."""
    return (size, size) if isinstance(size, int) else size
