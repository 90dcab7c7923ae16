"""The interval of a ratio is right as often as it says, and as narrow as pairing makes it."""

import numpy as np
import pytest
from scipy.stats import bootstrap

from recalib.benchmark.statistics import distinguishable, ratio_interval


def interleaved(rng, rounds=20, ratio=1.05, own=0.01, shared=0.0):
    """Latencies of a network and its baseline; `shared` is what disturbs a whole round."""
    disturbance = np.exp(rng.normal(0, shared, rounds))
    baseline = 40 * disturbance * np.exp(rng.normal(0, own, rounds))
    return 40 * ratio * disturbance * np.exp(rng.normal(0, own, rounds)), baseline


def coverage(**noise):
    rng = np.random.default_rng(0)
    intervals = [ratio_interval(*interleaved(rng, **noise)) for _ in range(300)]
    return np.mean([low <= 1.05 <= high for _, low, high in intervals])


@pytest.mark.parametrize("rounds", [10, 40])
def test_95_percent_intervals_cover_the_true_ratio_95_percent_of_the_time(rounds):
    assert 0.92 <= coverage(rounds=rounds) <= 0.985  # three standard deviations of 300 trials are 0.038


def test_intervals_are_too_wide_rather_than_too_narrow_where_whole_rounds_are_disturbed():
    assert coverage(shared=0.1) >= 0.95


def test_it_is_the_percentile_bootstrap_of_paired_samples():
    samples, baseline = interleaved(np.random.default_rng(1), shared=0.05)
    ours = ratio_interval(samples, baseline)
    theirs = bootstrap(
        (samples, baseline),
        lambda a, b, axis: np.median(a, axis) / np.median(b, axis),
        paired=True,
        method="percentile",
        n_resamples=20000,
    ).confidence_interval
    assert ours.ratio == np.median(samples) / np.median(baseline)
    width = theirs.high - theirs.low
    assert ours.low == pytest.approx(theirs.low, abs=0.1 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.1 * width)


def test_what_disturbs_a_whole_round_cancels():
    samples, baseline = interleaved(np.random.default_rng(2), rounds=50, own=0.002, shared=0.2)
    paired = ratio_interval(samples, baseline)
    shuffled = ratio_interval(samples, np.random.default_rng(3).permutation(baseline))
    assert paired.high - paired.low < 0.6 * (shuffled.high - shuffled.low)


def test_the_same_samples_give_the_same_interval_and_a_network_is_exactly_as_fast_as_itself():
    samples, baseline = interleaved(np.random.default_rng(4))
    assert ratio_interval(samples, baseline) == ratio_interval(samples, baseline)
    assert ratio_interval(baseline, baseline) == (1.0, 1.0, 1.0)


def test_the_papers_protocol_compares_minima():
    assert ratio_interval([6.0, 9.0, 9.0], [5.0, 4.0, 5.0], np.min).ratio == 1.5


def test_what_differs_is_found_and_few_of_those_called_different_are_not():
    rng = np.random.default_rng(5)
    wrong = []
    for _ in range(200):
        pairs = [interleaved(rng, ratio=ratio) for ratio in (1.05, 1.0, 1.0, 1.05)]
        first, *equal, last = (differs for _, differs in distinguishable(pairs))
        assert first
        assert last
        wrong.append(sum(equal) / (2 + sum(equal)))
    assert np.mean(wrong) <= 0.05  # Benjamini and Hochberg promise half of it where half of the pairs are equal


def test_among_many_equal_pairs_hardly_any_is_called_different():
    rng = np.random.default_rng(6)
    groups = [distinguishable([interleaved(rng, ratio=1.0) for _ in range(12)]) for _ in range(100)]
    assert np.mean([any(differs for _, differs in group) for group in groups]) <= 0.12  # 0.05, three deviations


def test_a_network_does_not_differ_from_itself_and_five_rounds_are_too_few():
    assert distinguishable([([1.0, 2.0], [1.0, 2.0])]) == [(1.0, False)]
    assert not distinguishable([([2.0, 4.0, 6.0, 8.0, 10.0], [1.0, 1.0, 1.0, 1.0, 1.0])])[0][1]
