import numpy as np
import pytest

from recalib.data.masks import as_runs, is_mask, mask_of, runs_of
from recalib.errors import RecalibError

H, W = 40, 60
NO_MASKS = {
    "nothing": None,
    "no polygon": [],
    "two corners": [[1, 2, 3, 4]],
    "half a corner": [[1, 2, 3, 4, 5, 6, 7]],
    "a corner that is no number": [[1, 2, 3, 4, 5, float("nan")]],
    "text": [["a"] * 6],
    "another size": {"size": [W, H], "counts": [H * W]},
    "too few pixels": {"size": [H, W], "counts": [5, 6]},
    "negative runs": {"size": [H, W], "counts": [-1, H * W + 1]},
    "compressed nonsense": {"size": [H, W], "counts": "zzzzzz"},
    "no counts": {"size": [H, W]},
}


@pytest.fixture
def mask():
    ys, xs = np.mgrid[:H, :W]
    return ((xs - 25) ** 2 + (ys - 20) ** 2 < 200).astype(np.uint8)


def plain_runs(mask):
    flat = mask.flatten(order="F")
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat, [1 - flat[-1]]])))
    return {"size": [H, W], "counts": np.diff(np.concatenate([[0], edges])).tolist()}


def test_both_run_lengths_are_the_mask_they_were_made_of(mask):
    assert np.array_equal(mask_of(plain_runs(mask), H, W), mask)
    assert np.array_equal(mask_of(runs_of(mask), H, W), mask)
    assert as_runs(plain_runs(mask), H, W) == runs_of(mask)


def test_polygons_are_filled_and_joined():
    corners = [[5, 5, 15, 5, 15, 15, 5, 15], [30, 10, 50, 10, 50, 30, 30, 30]]
    expected = np.zeros((H, W), np.uint8)
    expected[5:15, 5:15] = expected[10:30, 30:50] = 1
    assert np.array_equal(mask_of(corners, H, W), expected)


@pytest.mark.parametrize("kind", NO_MASKS)
def test_anything_else_is_no_mask(kind):
    assert not is_mask(NO_MASKS[kind], H, W)


@pytest.mark.parametrize(
    "kind", ["another size", "too few pixels", "negative runs", "compressed nonsense", "no counts"]
)
def test_what_cannot_be_decoded_is_an_error_and_no_crash(kind):
    with pytest.raises(RecalibError, match="a mask is not of COCO's form"):
        mask_of(NO_MASKS[kind], H, W)


def test_all_three_forms_are_masks(mask):
    for form in (plain_runs(mask), runs_of(mask), [[5, 5, 15, 5, 15, 15]]):
        assert is_mask(form, H, W)
