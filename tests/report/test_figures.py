"""The paper's figures from made-up grids."""

import re
from dataclasses import replace

import pytest

from recalib.errors import RecalibError
from recalib.measure.cells import Overhead, fastest_forms
from recalib.report.figures import FIGURES, draw_figure
from recalib.report.page import main_setting
from recalib.report.picture import write_picture
from recalib.report.series import by_depth, is_distinguishable, overheads, side
from recalib.report.table2 import table2

CHOSEN = {"runtime": "openvino"}


@pytest.fixture(scope="module")
def grid(cells):
    """The made-up run at two resolutions and two batch sizes, of one runtime."""
    return [
        replace(cell, size=size, batch=batch)
        for size in (64, (320, 192))
        for batch in (1, 8)
        for cell in cells
        if cell.runtime == "openvino"
    ]


def test_deployed_forms_stand_for_networks_and_what_failed_falls_back_to_the_inserted_form(cells):
    forms = {(c.module, c.runtime): c.deployed for c in fastest_forms(cells) if c.model == "resnet50"}
    assert forms["se", "openvino"] is True
    assert forms["gct", "openvino"] is False


def test_overheads_run_along_the_resolution_with_the_deeper_network_beside_them(grid):
    spots = overheads([c for c in fastest_forms(grid) if c.batch == 1], "resnet50", side)
    eca = [spot for spot in spots if spot.curve == "eca"]
    assert [spot.x for spot in eca] == [64, pytest.approx((320 * 192) ** 0.5)]
    assert eca[0].y == pytest.approx(5.1)
    deeper = [spot for spot in spots if spot.reference]
    assert [spot.curve for spot in deeper] == ["plain resnet101"] * 2
    assert deeper[0].y == pytest.approx(100 * (36.4 / 20.3 - 1), rel=0.05)


def test_networks_stand_by_their_cost_not_by_their_name(cells):
    spots = by_depth(fastest_forms(cells), lambda cell: cell.macs, "MACs")
    assert list(dict.fromkeys(spot.x for spot in spots)) == ["resnet50", "resnet101"]


@pytest.mark.parametrize(
    ("overhead", "expected"),
    [
        ({"ratio": 1.01, "low": 0.99, "high": 1.03}, False),
        ({"ratio": 1.02, "low": 1.01, "high": 1.03}, True),
        ({"ratio": 1.02, "low": 1.01, "high": 1.03, "distinguishable": False}, False),
    ],
)
def test_an_overhead_is_grey_where_the_cell_says_so_or_its_interval_holds_none(cells, overhead, expected):
    assert is_distinguishable(replace(cells[0], overhead=Overhead(**overhead))) is expected


def test_an_overhead_that_is_not_distinguishable_is_drawn_hollow_and_grey(grid):
    flat = [replace(c, overhead=Overhead(1.0, 0.9, 1.1)) if c.module == "eca" else c for c in grid]
    svg = draw_figure("5", flat, CHOSEN)[0].svg
    mark = re.search(r"<path[^>]*aria-label=\"eca in resnet50[^>]*>", svg)
    assert mark is not None
    assert "not distinguishable" in mark[0]
    assert 'stroke="var(--muted)"' in mark[0]
    assert 'fill="var(--paper)"' in mark[0]


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_a_picture_without_colours_that_only_a_page_knows(name, grid, tmp_path):
    panels = draw_figure(name, grid, CHOSEN | {"resolution": "64"})
    write_picture(tmp_path / "figure.svg", panels[:1])
    text = (tmp_path / "figure.svg").read_text()
    assert "var(" not in text
    assert "color-mix" not in text
    assert "<path" in text


def test_a_picture_can_be_a_png(grid, tmp_path):
    write_picture(tmp_path / "figure.png", draw_figure("5", grid, CHOSEN)[:1])
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_another_kind_of_file_is_refused(grid, tmp_path):
    with pytest.raises(RecalibError, match=r"\*.svg or \*.png"):
        write_picture(tmp_path / "figure.pdf", draw_figure("5", grid, CHOSEN)[:1])


def test_a_figure_for_which_nothing_was_measured_says_what_is_needed(cells):
    with pytest.raises(RecalibError, match="two resolutions"):
        draw_figure("5", cells, {})
    with pytest.raises(RecalibError, match="unknown figure"):
        draw_figure("7", cells, {})


def test_table_2_names_the_source_of_every_accuracy_and_brackets_what_is_not_distinguishable(cells):
    flat = [replace(c, overhead=Overhead(1.0, 0.9, 1.1)) if c.module == "ab" else c for c in cells]
    lines = [line for line in table2(flat).splitlines() if "| openvino |" in line]
    eca = next(line for line in lines if "| eca |" in line)
    assert "77.01 / 93.44 | Klomp 2023" in eca
    assert "(+0.0 % [-10, 10]" in next(line for line in lines if "| ab |" in line).replace("10.0", "10")


def test_the_page_s_single_charts_show_the_setting_that_most_cells_have(cells):
    assert main_setting([*cells, replace(cells[0], batch=2)]) == cells
