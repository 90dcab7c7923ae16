"""Cells of two protocols or machines are never one row, curve or panel; of one, neither is named."""

from dataclasses import replace

import pytest

from recalib.measure.cells import Latency
from recalib.report.figures import FIGURES, draw_figure
from recalib.report.page import main_setting, write_page
from recalib.report.rows import rows
from recalib.report.table2 import table2_rows

HERE, THERE = "Example CPU, 2 threads", "Example CPU, 1 threads"


@pytest.fixture(scope="module")
def mixed(cells_of_three):
    """The same cells at two resolutions, in two protocols here, and in one there at twice the time."""
    measured = [replace(cell, size=size) for cell in cells_of_three for size in (160, 224)]
    slow = [
        replace(cell, latency_ms=Latency(2 * ms.median, 2 * ms.min, [2 * value for value in ms.samples]))
        for cell in measured
        if (ms := cell.latency_ms)
    ]
    clean = [replace(cell, protocol="clean", machine=HERE) for cell in measured]
    paper = [replace(cell, protocol="paper", machine=HERE) for cell in slow]
    return [*clean, *paper, *(replace(cell, protocol="clean", machine=THERE) for cell in slow)]


def test_a_row_holds_cells_of_one_protocol_and_machine(mixed):
    pairs = [(row.before, row.after) for row in rows(mixed) if row.before and row.after]
    assert len(pairs) > 0
    assert all(getattr(a, name) == getattr(b, name) for a, b in pairs for name in ("protocol", "machine"))
    assert sum(bool(row.before) + bool(row.after) for row in rows(mixed)) == len(mixed)


@pytest.mark.parametrize("number", ["3", "4", "5", "6"])
def test_a_panel_holds_one_protocol_and_machine_and_says_which(number, mixed):
    grid = [*mixed, *(replace(cell, batch=8) for cell in mixed)]
    alone = FIGURES[number].panels([c for c in grid if (c.protocol, c.machine) == ("paper", HERE)])
    panels = draw_figure(number, grid, {"protocol": "paper", "machine": HERE})
    assert [panel.svg for panel in panels] == [panel.svg for panel in alone]
    assert all("paper protocol" in panel.title and HERE in panel.title for panel in panels)
    assert not any("protocol" in panel.title or HERE in panel.title for panel in alone)


def test_what_other_code_measured_is_never_joined(cells_of_three):
    old = [replace(cell, size=size) for cell in cells_of_three for size in (160, 224)]
    both = [*old, *(replace(cell, code="0.1.0+new") for cell in old)]
    for number in ("3", "4", "5", "6"):
        panels = FIGURES[number].panels(both)
        assert all(("code not recorded" in panel.title) != ("0.1.0+new" in panel.title) for panel in panels)
    assert all(row.before is None or row.after is None or row.before.code == row.after.code for row in rows(both))
    assert len({cell.code for cell in main_setting(both)}) == 1


def test_table_2_has_a_line_for_each_protocol_and_machine(mixed):
    lines = table2_rows(mixed)
    one = [line for line in lines if line.words[:2] == ["resnet50", "eca"] and line.facets["runtime"] == "openvino"]
    assert len({line.words[2] for line in one}) == len(one) == 6
    assert len({line.words[-2] for line in one}) == 2


def test_advice_is_about_one_protocol_and_machine(mixed):
    assert len({(cell.protocol, cell.machine) for cell in main_setting(mixed)}) == 1


def test_the_page_lets_a_reader_choose_both_and_describes_each_machine(mixed, tmp_path):
    page = tmp_path / "report.html"
    write_page(page, mixed, {"device": f"{HERE}; {THERE}", HERE: {"threads": 2}, THERE: {"threads": 1}}, [], "recalib")
    text = page.read_text()
    for facet in ("protocol", "machine"):
        assert f'data-facet="{facet}"' in text
    assert f"<dt>{THERE}</dt><dd>threads 1</dd>" in text


def test_one_protocol_and_machine_are_not_for_choice(mixed, tmp_path):
    page = tmp_path / "report.html"
    write_page(page, mixed[:40], {}, [], "recalib")
    assert 'data-facet="protocol"' not in page.read_text()
    assert 'data-facet="machine"' not in page.read_text()
