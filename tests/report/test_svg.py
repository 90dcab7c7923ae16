"""Drawn charts hold what is seen and little else."""

import re

from recalib.report.figures import FIGURES
from recalib.report.svg import FONT


def test_no_number_is_finer_than_a_hundredth_of_a_pixel_and_the_font_is_named_once(cells):
    panels = [panel for number in ("2", "3", "4") for panel in FIGURES[number].panels(cells)]
    assert panels
    for panel in panels:
        assert not re.search(r'(?: d|transform|width|height)="[^"]*\.\d{3}', panel.svg)
        assert panel.svg.count(FONT) == 1
        assert "M0,0h0v0h0Z" not in panel.svg
