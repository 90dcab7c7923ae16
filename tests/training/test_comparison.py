"""Differences over seeds against SciPy's t tests and Dunnett's."""

import numpy as np
import pytest
from scipy.stats import dunnett, ttest_rel

from recalib.training.comparison import Comparison, critical


def drawn(means, seeds=5, deviation=0.2, seed=0):
    """Scores with a value for each network, one for each seed, and scatter."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(0, 1, seeds)
    return {n: dict(enumerate(m + shared + rng.normal(0, deviation, seeds))) for n, m in means.items()}


def test_one_module_against_the_baseline_is_the_paired_t_test():
    scores = drawn({"plain": 90.0, "eca": 90.4})
    gain = Comparison(scores, "plain").gains()["eca"]
    test = ttest_rel(list(scores["eca"].values()), list(scores["plain"].values()))
    expected = test.confidence_interval(0.95)
    assert (gain.low, gain.high) == pytest.approx((expected.low, expected.high), rel=1e-9)
    assert gain.points == pytest.approx(np.mean(list(scores["eca"].values())) - np.mean(list(scores["plain"].values())))


@pytest.mark.parametrize(("k", "n"), [(2, 4), (3, 5), (5, 3), (8, 3)])
def test_several_modules_are_corrected_as_by_dunnett(k, n):
    """SciPy's intervals are of groups without seeds; what they are wide by is the same with as much freedom."""
    rng = np.random.default_rng(0)
    control, *others = rng.normal(0, 1, (k + 1, n))
    interval = dunnett(*others, control=control, rng=1).confidence_interval(0.95)
    pooled = np.sqrt(np.mean([np.var(group, ddof=1) for group in (control, *others)]))
    expected = (interval.high - interval.low) / 2 / (pooled * np.sqrt(2 / n))
    found = critical(np.full((k, k), 0.5) + np.eye(k) / 2, (k + 1) * (n - 1))
    assert found == pytest.approx(expected.mean(), rel=0.01)


def test_what_a_seed_does_to_all_networks_cancels():
    scores = drawn({"plain": 90.0, "eca": 90.4, "se": 90.1})
    moved = {n: {s: v + 10 * s for s, v in found.items()} for n, found in scores.items()}
    a, b = Comparison(scores, "plain").gains(), Comparison(moved, "plain").gains()
    for name in a:
        assert (b[name].points, b[name].low, b[name].high) == pytest.approx((a[name].points, a[name].low, a[name].high))


def test_a_study_that_was_stopped_in_the_middle_of_a_seed_uses_what_there_is():
    scores = drawn({"plain": 90.0, "eca": 90.4, "se": 90.1}, seeds=3)
    whole = Comparison(scores, "plain").gains()
    del scores["se"][2]
    part = Comparison(scores, "plain").gains()
    assert part["eca"].points == pytest.approx(whole["eca"].points, abs=0.15)
    assert part["se"].high - part["se"].low > part["eca"].high - part["eca"].low


def test_one_seed_has_no_interval_and_decides_nothing():
    comparison = Comparison({"plain": {0: 90.0}, "eca": {0: 93.0}}, "plain")
    gain = comparison.gains()["eca"]
    assert (gain.points, gain.verdict, str(gain)) == (3.0, "open", "+3.00")
    assert comparison.seeds_for(0.5) is None


def test_verdicts_follow_the_intervals():
    gains = Comparison(drawn({"plain": 90.0, "good": 93.0, "bad": 87.0, "same": 90.0}), "plain").gains()
    assert {name: gain.verdict for name, gain in gains.items()} == {"good": "better", "bad": "worse", "same": "open"}


def test_intervals_hold_all_at_once_in_19_of_20_studies():
    held = 0
    for seed in range(300):
        gains = Comparison(drawn(dict.fromkeys("pabcd", 90.0), seeds=3, seed=seed), "p").gains()
        held += all(gain.low <= 0 <= gain.high for gain in gains.values())
    assert 0.92 <= held / 300 <= 0.98  # 0.95 with a standard error of 0.013


def test_so_many_seeds_show_a_gain_in_four_of_five_studies():
    plan = Comparison(drawn(dict.fromkeys("pabcd", 90.0), seeds=200), "p")
    assert plan.deviation == pytest.approx(0.2, rel=0.05)
    n = plan.seeds_for(0.3)
    assert plan.detectable(n) <= 0.3 < plan.detectable(n - 1)
    shown = 0
    for seed in range(300):
        means = dict.fromkeys("pabcd", 90.0) | {"a": 90.3}
        shown += Comparison(drawn(means, seeds=n, seed=seed), "p").gains()["a"].verdict == "better"
    assert 0.74 <= shown / 300 <= 0.92  # 0.8, or a little more, for whole seeds; standard error 0.023


def test_a_larger_network_is_better_use_of_the_time_where_modules_lie_below_its_line():
    scores = drawn({"plain": 90.0, "slow": 90.3, "quick": 90.3, "larger": 91.0}, deviation=0.02)
    over = Comparison(scores, "plain").over_line({"slow": (0.8, 0.7, 0.9), "quick": (0.1, 0.0, 0.2)}, "larger")
    assert over["slow"].points == pytest.approx(0.3 - 0.8, abs=0.05)
    assert over["quick"].points == pytest.approx(0.3 - 0.1, abs=0.05)
    assert (over["slow"].verdict, over["quick"].verdict) == ("worse", "better")


def test_times_that_are_not_known_decide_nothing():
    scores = drawn({"plain": 90.0, "eca": 90.3, "larger": 91.0}, deviation=0.02)
    over = Comparison(scores, "plain").over_line({"eca": (0.8, 0.0, 1.0)}, "larger")["eca"]
    assert over.verdict == "open"
    assert over.low < -0.7 + 0.05 < 0.3 - 0.05 < over.high
