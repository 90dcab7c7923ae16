"""The loss between two networks on the same images, against SciPy's bootstrap of the images themselves."""

import numpy as np
import pytest
from scipy.stats import bootstrap

from recalib.study.paired import loss_between


def answers(n=2000, lost=30, won=10):
    before, after = np.ones(n, bool), np.ones(n, bool)
    after[:lost] = False
    before[lost : lost + won] = False
    return before, after


def test_the_loss_is_the_difference_of_accuracies_in_points():
    loss = loss_between(*answers())
    assert (loss.points, loss.images, loss.differing) == (1.0, 2000, 40)


def test_the_interval_is_the_bootstrap_over_pairs():
    before, after = answers()
    difference = 100 * (before.astype(float) - after)
    expected = bootstrap((difference,), np.mean, n_resamples=5000, method="percentile", rng=1).confidence_interval
    loss = loss_between(before, after)
    assert (loss.low, loss.high) == pytest.approx((expected.low, expected.high), abs=0.05)


def test_images_on_which_both_agree_add_no_noise():
    few, many = loss_between(*answers(2000)), loss_between(*answers(20_000))
    assert many.high - many.low == pytest.approx((few.high - few.low) / 10, rel=0.05)


def test_so_many_images_would_tell_the_loss_to_a_point():
    loss = loss_between(*answers())
    n = loss.images_for(0.1)
    assert n == pytest.approx(0.02 * (196 / 0.1) ** 2, rel=1e-3)
    scale = n // 2000
    finer = loss_between(*answers(2000 * scale, 30 * scale, 10 * scale))
    assert (finer.high - finer.low) / 2 == pytest.approx(0.1, rel=0.05)
