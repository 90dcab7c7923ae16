"""The terminal's table: everything in 100 columns, less where there is less room."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from recalib.report import terminal_table


@pytest.fixture
def render(machine):
    def render_at(width, cells):
        console = Console(width=width, file=io.StringIO())
        console.print(terminal_table(cells, machine, width))
        return console.file.getvalue().splitlines()

    return render_at


def test_in_100_columns_a_module_takes_one_line_with_cost_time_and_interval(render, cells):
    lines = render(100, cells)
    assert max(map(len, lines)) <= 100
    row = next(line for line in lines if "multi_se" in line)
    assert " ".join(row.split()) == "multi_se 33,195,320 4.097 231.7 69.95 +20.4 [19.6, 21.2] 66.70 +14.8 [13.4, 16.2]"


def test_a_network_and_its_runtime_head_their_rows(render, cells):
    lines = render(100, cells)
    starts = [line.split()[0] for line in lines[4:] if line[:1].strip()]
    assert starts[:2] == ["resnet50", "eager"]
    assert starts.count("resnet50") == starts.count("resnet101") == 3


def test_the_plain_networks_fastest_form_is_the_reference(render, cells):
    plain = [line for line in render(100, cells) if line.split()[1:2] == ["plain"]]
    assert len(plain) == 6
    assert all(line.rstrip().endswith("reference") for line in plain)


def test_a_cell_without_a_time_shows_its_status(render, cells):
    assert sum("unsupported" in line for line in render(100, cells)) == 1
    oom = [replace(cells[0], status="oom", latency_ms=None, overhead=None)]
    assert any("out of memory" in line for line in render(100, oom))


@pytest.mark.parametrize("width", [70, 80, 95])
def test_with_less_room_the_costs_go_and_the_times_stay_on_one_line(render, cells, width):
    lines = render(width, cells)
    assert max(map(len, lines)) <= width
    row = next(line for line in lines if "multi_se" in line)
    assert " ".join(row.split()) == "multi_se 69.95 +20.4 [19.6, 21.2] 66.70 +14.8 [13.4, 16.2]"


def test_names_are_shown_as_they_are(render, cells):
    odd = [replace(cell, model="[red]net[/]") for cell in cells[:2]]
    assert any("[red]net[/]" in line for line in render(100, odd))


def test_nothing_measured_is_said(render):
    assert any("nothing measured" in line for line in render(100, []))


def test_rows_of_several_settings_say_which(render, cells):
    grid = [replace(cell, batch=batch) for batch in (1, 8) for cell in cells if cell.runtime == "eager"]
    text = "\n".join(render(100, grid))
    assert [text.count(words) for words in ("batch 1 ", "batch 8 ")] == [2, 2]  # resnet50's and resnet101's


def test_an_overhead_that_cannot_be_told_from_none_is_marked(render, cells):
    same = replace(cells[2].overhead, distinguishable=False)
    text = " ".join(render(100, [*cells[:2], replace(cells[2], overhead=same)]))
    assert text.count("~+10.2 [") == 1
    assert "cannot be told" in text
