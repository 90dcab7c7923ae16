"""Student's t against scipy's own interval."""

import math

import numpy as np
import pytest
from scipy import stats

from recalib.statistics import half_width


@pytest.mark.parametrize("count", [2, 3, 5, 20])
def test_the_interval_of_a_mean_is_scipys(count):
    values = np.random.default_rng(count).normal(90, 0.3, count)
    low, high = stats.t.interval(0.95, count - 1, values.mean(), stats.sem(values))
    assert half_width(values) == pytest.approx((high - low) / 2)


def test_two_values_are_12_7_standard_errors_wide():
    assert half_width([1.0, 3.0]) == pytest.approx(12.7062047 * 1.0)


def test_one_value_says_nothing_of_its_spread():
    assert half_width([5.0]) == math.inf
