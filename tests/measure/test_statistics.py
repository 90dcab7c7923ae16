"""The interval of a ratio is right as often as it says, and as narrow as pairing makes it."""

import numpy as np
import pytest
from scipy.stats import bootstrap, ttest_1samp

from recalib.measure.cells import Latency
from recalib.measure.statistics import FEWEST_PROCESSES, distinguishable, ratio_interval, ratio_of
from recalib.statistics import half_width_of


def interleaved(rng, rounds=20, ratio=1.05, own=0.01, shared=0.0):
    """Latencies of a network and its baseline; `shared` is what disturbs a whole round."""
    disturbance = np.exp(rng.normal(0, shared, rounds))
    baseline = 40 * disturbance * np.exp(rng.normal(0, own, rounds))
    return 40 * ratio * disturbance * np.exp(rng.normal(0, own, rounds)), baseline


def latency(samples, processes=()):
    return Latency(float(np.median(samples)), float(np.min(samples)), list(samples), list(processes))


def tell(pairs, processes=(), statistic=np.median):
    return distinguishable([(latency(a, processes), latency(b, processes)) for a, b in pairs], statistic)


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


def of_processes(rng, processes=3, ratio=1.05, between=0.01):
    """Paired latencies of processes of ten rounds, each of which has a ratio of its own."""
    parts = [interleaved(rng, rounds=10, ratio=ratio * np.exp(rng.normal(0, between))) for _ in range(processes)]
    samples, baseline = (np.concatenate(side).tolist() for side in zip(*parts, strict=True))
    return samples, baseline, [10] * processes


@pytest.mark.parametrize("processes", [3, 5])
def test_intervals_of_several_processes_hold_what_differs_between_them(processes):
    rng = np.random.default_rng(7)
    drawn = [of_processes(rng, processes) for _ in range(300)]
    covered = [
        [low <= 1.05 <= high for _, low, high in (ratio_interval(a, b, processes=n), ratio_interval(a, b))]
        for a, b, n in drawn
    ]
    ours, rounds_alone = np.mean(covered, axis=0)
    assert 0.912 <= ours <= 0.988  # three standard deviations of 300 trials are 0.038
    assert rounds_alone < 0.8


def test_it_is_students_interval_of_the_processes_log_ratios():
    samples, baseline, processes = of_processes(np.random.default_rng(8), processes=4)
    medians = [np.median(np.reshape(side, (4, 10)), axis=1) for side in (samples, baseline)]
    logs = np.log(medians[0] / medians[1])
    expected = np.exp([logs.mean(), *ttest_1samp(logs, 0).confidence_interval(0.95)])
    assert ratio_interval(samples, baseline, processes=processes) == pytest.approx(expected, rel=1e-12)
    ((p, _),) = tell([(samples, baseline)], processes)
    assert p == pytest.approx(ttest_1samp(logs, 0).pvalue)


def test_two_processes_are_too_few_to_tell_their_spread():
    samples, baseline, processes = of_processes(np.random.default_rng(9), processes=FEWEST_PROCESSES - 1)
    assert ratio_interval(samples, baseline, processes=processes) == ratio_interval(samples, baseline)


def test_processes_that_disagree_do_not_tell_networks_apart_however_many_rounds_they_have():
    rng = np.random.default_rng(10)
    found = [tell([(a, b)], n)[0][1] for a, b, n in (of_processes(rng, ratio=1.0) for _ in range(200))]
    assert np.mean(found) <= 0.1  # 0.05, three standard deviations


def test_cells_of_two_runs_are_compared_process_by_process_as_far_as_both_go():
    longer = latency([2.0, 2.0, 9.0, 4.0, 4.0, 6.0], [3, 2, 1])
    shorter = latency([1.0, 1.0, 2.0, 2.0, 9.0, 3.0], [2, 3, 1])
    assert ratio_of(longer, shorter) == (2.0, 2.0, 2.0)
    assert ratio_of(latency([2.0, 2.0, 6.0]), shorter).ratio == 2.0  # of one process: the first two rounds


def test_the_papers_protocol_compares_minima():
    assert ratio_interval([6.0, 9.0, 9.0], [5.0, 4.0, 5.0], np.min).ratio == 1.5


def test_what_differs_is_found_and_few_of_those_called_different_are_not():
    rng = np.random.default_rng(5)
    wrong = []
    for _ in range(200):
        pairs = [interleaved(rng, ratio=ratio) for ratio in (1.05, 1.0, 1.0, 1.05)]
        first, *equal, last = (differs for _, differs in tell(pairs))
        assert first
        assert last
        wrong.append(sum(equal) / (2 + sum(equal)))
    assert np.mean(wrong) <= 0.05  # Benjamini and Hochberg promise half of it where half of the pairs are equal


def test_among_many_equal_pairs_hardly_any_is_called_different():
    rng = np.random.default_rng(6)
    groups = [tell([interleaved(rng, ratio=1.0) for _ in range(12)]) for _ in range(100)]
    assert np.mean([any(differs for _, differs in group) for group in groups]) <= 0.12  # 0.05, three deviations


def test_a_network_does_not_differ_from_itself_and_five_rounds_are_too_few():
    assert tell([([1.0, 2.0], [1.0, 2.0])]) == [(1.0, False)]
    assert not tell([([2.0, 4.0, 6.0, 8.0, 10.0], [1.0, 1.0, 1.0, 1.0, 1.0])])[0][1]


def test_by_the_papers_protocol_the_p_value_is_of_minima_as_the_interval_is():
    rng = np.random.default_rng(11)
    network, baseline = 4 + rng.exponential(1, 100), 5 + rng.exponential(1, 100)  # the least 20 % apart
    network[10:] += 1.0  # and the medians about equal
    interval = ratio_interval(network, baseline, np.min)
    assert interval.high < 1
    ((of_minima, differs),) = tell([(network, baseline)], statistic=np.min)
    ((of_medians, _),) = tell([(network, baseline)])
    assert differs
    assert of_minima < 0.01 < 0.05 < of_medians


def test_half_widths_of_means_are_students():
    assert half_width_of(1.0, 2) == pytest.approx(12.706 / 2**0.5, rel=1e-4)  # not 1.96 deviations
    assert half_width_of(1.0, 1) == np.inf


def test_a_machine_that_others_use_half_of_the_time_makes_no_network_ten_times_slower():
    """Times have two modes; of the slower network a few rounds more fall into the second."""
    draw = np.random.default_rng(0)
    waits = draw.permutation(np.arange(60) < 18)
    waits_too = waits | (draw.random(60) < 0.6)
    plain = 2.2 * draw.normal(1, 0.02, 60) + 18 * waits
    slower = 2.9 * draw.normal(1, 0.02, 60) + 18 * waits_too
    assert np.median(slower) > 5 * np.median(plain)
    found = ratio_interval(slower, plain)
    assert found.low == pytest.approx(2.9 / 2.2, rel=0.04)  # each tenth is as far off as rounds vary, 2 %
    assert found.high > found.ratio > 5
    quiet = ratio_interval(2.9 * draw.normal(1, 0.02, 60), 2.2 * draw.normal(1, 0.02, 60))
    assert quiet.high - quiet.low < 0.03
