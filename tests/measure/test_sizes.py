"""Sizes as people write them."""

import pytest

from recalib.errors import RecalibError
from recalib.measure.sizes import parse_size, sides


@pytest.mark.parametrize(("text", "size"), [("224", 224), ("320x192", (320, 192)), ("64x64", 64)])
def test_height_comes_first_and_a_square_is_one_number(text, size):
    assert parse_size(text) == size
    assert "x".join(map(str, sides(parse_size(text)))) in (text, f"{text}x{text}")


@pytest.mark.parametrize("text", ["0", "64y", "64x", "x64", "64x0", "-64", "6.4", ""])
def test_anything_else_is_refused_in_one_line_that_names_it(text):
    with pytest.raises(RecalibError, match=r"pixels such as 224, or height x width") as caught:
        parse_size(text)
    assert repr(text) in str(caught.value)
    assert "\n" not in str(caught.value)
