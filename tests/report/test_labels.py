"""Labels beside points cover neither each other nor what they must not."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recalib.report.labels import place_labels

PLOT = (420.0, 330.0)


def around(points, reach=6.0):
    return np.array([(x - reach, y - reach, x + reach, y + reach) for x, y in points])


def common_area(a, b):
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    return float(np.clip(sides, 0, None).prod())


def test_a_label_alone_goes_right_beside_its_point():
    ((left, top, right, bottom),) = place_labels([(100, 100)], ["eca"], around([(100, 100)]), *PLOT)
    assert 106 <= left < right < 140
    assert (top + bottom) / 2 == 100


def test_a_label_at_the_right_edge_goes_to_the_other_side():
    ((left, _, right, _),) = place_labels([(415, 100)], ["resnet101"], around([(415, 100)]), *PLOT)
    assert left >= 0
    assert right <= 420


coordinates = st.tuples(st.floats(100, 300), st.floats(100, 230))


@settings(max_examples=40, deadline=None)
@given(st.lists(coordinates, min_size=1, max_size=6))
def test_crowded_points_get_labels_inside_the_plot_of_which_little_is_hidden(points):
    obstacles = around(points)
    boxes = place_labels(points, ["multi_se"] * len(points), obstacles, *PLOT)
    for index, box in enumerate(boxes):
        assert (box[:2] >= -1e-9).all()
        assert (box[2:] <= PLOT).all()
        hidden = sum(common_area(box, other) for other in [*obstacles, *boxes[:index]])
        assert hidden < 0.3 * (box[2:] - box[:2]).prod()
