"""Accuracy and time of the same file: made-up numbers, shaped as `recalib.measure.agreement.Judge` gives them."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from recalib.choose.accuracy import evaluated, measured_accuracy
from recalib.report import accuracy_table, write_page


def judged(top1, only_here, only_fp32, p):
    return {"images": 1000, "source": "validation images", "top1": top1, "top1_interval": [top1 - 3.1, top1 + 2.5],
            "top1_fp32": 76.0, "only_here": only_here, "only_fp32": only_fp32, "p": p}  # fmt: skip


@pytest.fixture(scope="module")
def files(cells):
    """SE's files in OpenVINO: float32 as PyTorch has it, int8 that lost something, and others that nobody evaluated."""
    of_se = [cell for cell in cells if (cell.module, cell.runtime) == ("se", "openvino")]
    whole = [replace(cell, accuracy=judged(76.0, 0, 0, 1.0)) for cell in of_se]
    small = [replace(cell, accuracy=judged(71.5, 5, 50, 1e-10), precision="int8") for cell in of_se]
    return [*(cell for cell in cells if cell.module != "se"), *whole, *small]


def test_a_file_differs_from_float32_only_where_the_paired_test_says_so(files):
    assert [(one.cell.precision, one.differs) for one in evaluated(files)] == [("fp32", False)] * 2 + [
        ("int8", True)
    ] * 2
    assert evaluated([cell for cell in files if not cell.accuracy]) == []
    # one of forty such tests is expected to be this small where nothing differs
    many = [replace(files[-1], accuracy=judged(76.0, 2, 9, 0.04)), *([files[-3]] * 39)]
    assert not any(one.differs for one in evaluated(many))


def test_the_terminals_table_has_time_and_top1_of_every_file_that_was_evaluated(files):
    console = Console(width=80, file=io.StringIO())
    console.print(accuracy_table(files))
    lines = [" ".join(line.split()) for line in console.file.getvalue().splitlines()]
    assert "accuracy and time of the same file, on 1000 validation images" in lines
    assert "resnet50 se as inserted 22.57 76.00 [72.9, 78.5] ~+0.00 (+0 -0) 1" in lines
    assert "openvino, int8 se deployed 21.52 71.50 [68.4, 74.0] -4.50 (+5 -50) 1e-10" in lines
    assert sum("(+" in line for line in lines) == 4
    assert accuracy_table([cell for cell in files if not cell.accuracy]) is None


def test_the_page_has_the_same_table_and_none_where_nothing_was_evaluated(files, machine, tmp_path):
    write_page(tmp_path / "with.html", files, machine, [], "recalib latency")
    page = (tmp_path / "with.html").read_text()
    section = page[page.index('id="same-file"') :].partition("</section>")[0]
    assert "71.50 [68.4, 74.0]" in section
    assert "-4.50 (+5 -50)" in section
    assert section.count("<tr data-panel") == 4
    assert section.count("number same") == 2 * 2  # points and p of what cannot be told from float32
    write_page(tmp_path / "without.html", [c for c in files if not c.accuracy], machine, [], "recalib latency")
    assert 'id="same-file"' not in (tmp_path / "without.html").read_text()


def test_the_interval_of_a_measured_accuracy_is_the_one_that_was_recorded(files):
    found = measured_accuracy(files[-1])
    assert (found.top1, found.error, found.kind) == (71.5, pytest.approx(2.8), "measured")
