"""What is drawn of accuracy against time: each line within one source."""

import pytest

from recalib.report.marks import marks
from recalib.report.tradeoff import depth_points, module_points, sources


@pytest.fixture
def look(cells_of_three):
    return marks(["baseline", *(cell.module for cell in cells_of_three)])


def test_modules_stand_at_their_overhead_and_published_accuracy(cells, look):
    points = {point.label: point for point in module_points(cells, "resnet50", "openvino", look)}
    eca = next(c for c in cells if (c.module, c.runtime, c.deployed) == ("eca", "openvino", True))
    assert points["eca"].x == pytest.approx([100 * (end - 1) for end in (eca.over.ratio, eca.over.low, eca.over.high)])
    assert points["eca"].y == pytest.approx(77.01)
    assert points["eca"].origin == (0.0, 75.69)
    assert "Klomp 2023" in points["eca"].title


def test_a_module_without_comparable_accuracy_or_time_is_not_drawn(cells_of_three, look):
    drawn = {point.label for point in module_points(cells_of_three, "resnet50", "openvino", look)}
    assert drawn == {"plain", "ab", "eca", "se", "srm", "multi_se"}


def test_a_module_behind_the_front_is_faded(cells, look):
    faded = {point.label for point in module_points(cells, "resnet50", "openvino", look) if point.faded}
    assert faded == {"srm", "multi_se"}


def test_the_ladder_goes_through_the_depths_of_its_own_source(cells_of_three, look):
    ladder = [point for point in depth_points(cells_of_three, "eager", look) if point.on_ladder]
    assert {point.label: point.y for point in ladder} == {
        "resnet18": 69.758,
        "resnet34": 73.314,
        "resnet50": 76.130,
        "resnet101": 77.374,
    }
    assert all("torchvision" in point.title for point in ladder)
    assert next(point.x[0] for point in ladder if point.label == "resnet50") == 58.1


def test_a_network_without_published_accuracy_is_not_drawn(cells_of_three, look):
    hostile = cells_of_three[-1].model
    assert module_points(cells_of_three, hostile, "eager", look) == []
    only = [cell for cell in cells_of_three if cell.model == hostile]
    assert depth_points(only, "eager", look) == []


def test_the_sources_of_what_is_drawn_are_known(cells):
    assert [source.key for source in sources(cells, ["eager"])] == ["klomp2023", "torchvision"]
