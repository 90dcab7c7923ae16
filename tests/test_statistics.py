"""Student's t against scipy's own interval, and what it says of how many seeds are needed."""

import math

import numpy as np
import pytest
from scipy import stats

from recalib.statistics import half_width, repetitions_to_decide


@pytest.mark.parametrize("count", [2, 3, 5, 20])
def test_the_interval_of_a_mean_is_scipys(count):
    values = np.random.default_rng(count).normal(90, 0.3, count)
    low, high = stats.t.interval(0.95, count - 1, values.mean(), stats.sem(values))
    assert half_width(values) == pytest.approx((high - low) / 2)


def test_two_values_are_12_7_standard_errors_wide():
    assert half_width([1.0, 3.0]) == pytest.approx(12.7062047 * 1.0)


def test_one_value_says_nothing_of_its_spread():
    assert half_width([5.0]) == math.inf


def test_as_many_are_needed_as_the_interval_takes_to_leave_out_zero():
    differences = [0.1, 0.5, 0.3, -0.1]
    needed = repetitions_to_decide(differences)
    mean, deviation = np.mean(differences), np.std(differences, ddof=1)
    widths = {n: stats.t.ppf(0.975, n - 1) * deviation / math.sqrt(n) for n in (needed - 1, needed)}
    assert widths[needed] < mean <= widths[needed - 1]


def test_no_number_decides_on_no_difference():
    assert repetitions_to_decide([0.2, -0.2]) is None


def test_two_equal_differences_are_decided():
    assert repetitions_to_decide([0.5, 0.5]) == 2
