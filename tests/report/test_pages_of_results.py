"""The pages of results/ are what today's code draws of what was measured."""

import pytest
from examples import pages


@pytest.mark.slow
def test_no_page_is_stale(tmp_path):
    assert pages.stale(tmp_path) == [], "python examples/pages.py draws them anew"


def test_every_page_is_small():
    assert pages.pages()
    assert all(page.stat().st_size < 1_000_000 for page in pages.pages())
