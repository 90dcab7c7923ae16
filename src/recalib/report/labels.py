"""Direct labels beside points, placed so that they cover neither each other nor a mark."""

from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float64]  # (..., 4): left, top, right, bottom in px, y downwards

CHARACTER, HEIGHT = 6.6, 14.0  # px of a 12 px sans-serif
CLEARANCE = 7.0  # px from a point's centre to where its label may begin
_DIRECTIONS = ((1, 0), (1, -1), (1, 1), (0, -1), (0, 1), (-1, -1), (-1, 1), (-1, 0))  # right of the point first
_RINGS = (0, 8, 16, 26, 38, 52, 68, 86, 106)  # px further out
_DISTANCE = 4.0  # px^2 of something hidden that a label accepts rather than go one px further out


def place_labels(
    points: Sequence[tuple[float, float]], texts: Sequence[str], obstacles: Boxes, width: float, height: float
) -> Boxes:
    """Where each text goes: as near to its point as it can without covering an obstacle or an earlier label.

    Args:
        points: (x, y) in px, y downwards.
        texts: one a point.
        obstacles: boxes that no label should cover, the points' own marks among them.
        width: of the plot, in px; labels stay inside.
        height: of the plot, in px.

    Returns:
        The box of each text, in the order given.
    """
    plot, taken = np.array([0.0, 0.0, width, height]), obstacles.reshape(-1, 4)
    places = list(product(_RINGS, _DIRECTIONS))
    distance = np.array([_DISTANCE * ring for ring, _ in places])
    for point, text in zip(points, texts, strict=True):
        size = CHARACTER * len(text), HEIGHT
        candidates = np.array([_beside(point, size, *place) for place in places])
        cut_off = size[0] * size[1] - _overlaps(candidates, plot[None])[:, 0]
        hidden = cut_off + _overlaps(candidates, taken).sum(1)
        best = candidates[(hidden + distance).round(3).argmin()]  # rounded, so that the first of equal places wins
        taken = np.vstack([taken, best])
    return taken[taken.shape[0] - len(texts) :]


def _overlaps(boxes: Boxes, others: Boxes) -> NDArray[np.float64]:
    """Common area in px^2 of each of (B, 4) boxes with each of (M, 4) others: (B, M)."""
    corner = np.maximum(boxes[:, None, :2], others[None, :, :2])
    opposite = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    return np.clip(opposite - corner, 0, None).prod(-1)


def _beside(
    point: tuple[float, float], size: tuple[float, float], ring: float, direction: tuple[int, int]
) -> tuple[float, float, float, float]:
    (x, y), (width, height), (dx, dy) = point, size, direction
    away = (CLEARANCE + ring) * (0.6 if dx and dy else 1)
    left = x + dx * (away + width / 2) - width / 2
    top = y + dy * (away + height / 2) - height / 2
    return left, top, left + width, top + height
