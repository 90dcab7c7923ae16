"""Statistics of samples: median and minimum, the interval of a ratio of two latencies, and whether they differ.

Cells carry it as ``overhead["distinguishable"]: bool``, corrected within (model, runtime, size, batch, precision): what
a page shows grey is where it is False.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recalib.measure.cells import Latency
from recalib.runtimes.protocol import Statistic
from recalib.statistics import half_width

FEWEST_PROCESSES = 3  # from two, the spread of what processes say cannot be told
RESAMPLES = 2000  # the ends of a 95 % interval then move by about 2 % of its width from seed to seed
DISTURBED = 1.5  # a median so many times the fastest tenth: others took the processor in about half of the rounds
FALSE_DISCOVERIES = 0.05  # the share of "these differ" that may be wrong, over a group


class Interval(NamedTuple):
    """A ratio with its 95 % confidence interval."""

    ratio: float
    low: float
    high: float


def ratio_interval(
    samples: Sequence[float],
    baseline: Sequence[float],
    statistic: Statistic = np.median,
    processes: Sequence[int] = (),
    seed: int = 0,
) -> Interval:
    """Ratio of the statistics of two networks' latencies with its 95 % interval.

    The samples must be paired: ``samples[i]`` and ``baseline[i]`` come from round i of one interleaved run.

    Of one process, by the bootstrap (percentile method). Whole rounds are drawn, with replacement, so that a
    disturbance which slowed both networks in a round stays in both and cancels in the ratio; drawing the two apart
    would break the pairs and widen the interval by what the interleaving removed. (It is then wider than it need be,
    since the two medians of a resample may come from different rounds, and never too narrow.) Percentiles, because
    the acceleration that BCa adds is estimated by leaving single samples out, to which medians hardly react. With
    the minimum as statistic the interval is a rough one: no resample is ever below the observed minimum.

    Where others use the machine so much that about half of the rounds wait for a turn of theirs, times have two modes,
    and a median is of the one or of the other: a network that is a little slower falls into the second mode and seems
    ten times as slow, in every resample. The fastest tenth is then the better witness, and the interval holds its
    ratio, too (`DISTURBED`).

    Of several processes, from one ratio each: their geometric mean and Student's t of their logarithms, after Kalibera
    and Jones 2013, "Rigorous benchmarking in reasonable time". Rounds of one process share its memory layout and the
    minute it ran in, so that however many there are they say nothing of the next process.

    Args:
        samples: latencies of a network, one a round.
        baseline: those of the baseline in the same rounds.
        statistic: ``np.median`` or ``np.min``.
        processes: rounds of each process, in the order of the samples; fewer than `FEWEST_PROCESSES` count as one.
        seed: of the resampling, so that the same samples give the same interval.
    """
    pairs = np.array([samples, baseline])  # (2, rounds)
    if len(processes) >= FEWEST_PROCESSES:
        return _of_processes(_log_ratios(pairs, statistic, processes))
    low, high = np.quantile(_resampled(pairs, statistic, seed), (0.025, 0.975))
    if statistic is np.median:
        fast = np.quantile(pairs, 0.1, axis=1)
        if (np.median(pairs, axis=1) > DISTURBED * fast).any():
            low, high = min(low, fast[0] / fast[1]), max(high, fast[0] / fast[1])
    return Interval(float(_ratio(pairs, statistic)), float(low), float(high))


def paired(latency: Latency, baseline: Latency) -> tuple[list[float], list[float], list[int]]:
    """Samples of two cells from the same rounds, process by process: as many as both have, and how many a process."""
    sides = [np.split(np.array(one.samples), np.cumsum(one.processes)[:-1]) for one in (latency, baseline)]
    rounds = [min(map(len, parts)) for parts in zip(*sides, strict=False)]
    ours, theirs = (np.concatenate([part[:n] for part, n in zip(side, rounds, strict=False)]) for side in sides)
    return ours.tolist(), theirs.tolist(), rounds


def ratio_of(latency: Latency, baseline: Latency, statistic: Statistic = np.median) -> Interval:
    """Ratio of two cells' latencies, of one run or of two, with its 95 % interval; see `ratio_interval`."""
    ours, theirs, rounds = paired(latency, baseline)
    return ratio_interval(ours, theirs, statistic, rounds)


def distinguishable(
    pairs: Sequence[tuple[Latency, Latency]], statistic: Statistic = np.median
) -> list[tuple[float, bool]]:
    """Networks that take another time than their baseline, corrected for the number of them that are tested.

    Of one process: for medians Wilcoxon's signed-rank test of the logarithms' differences, round by round, which
    assumes no distribution and lets what disturbs a whole round cancel; with five rounds nothing can be told apart
    (p >= 0.0625). For any other statistic the bootstrap of `ratio_interval`, so that a p value is of what its interval
    is of. Of several processes: the t test that belongs to the interval. All of them: Benjamini and Hochberg 1995, so
    that among those called different at most `FALSE_DISCOVERIES` are expected not to be.

    Args:
        pairs: latencies of a network and of its baseline, all of one interleaved run.
        statistic: what is compared, as in `ratio_interval`.

    Returns:
        For each pair the adjusted p value and whether it is small enough.
    """
    from scipy.stats import false_discovery_control  # not above: `recalib bench` does without scipy

    if not pairs:
        return []
    found = []
    for network, baseline in pairs:
        ours, theirs, rounds = paired(network, baseline)
        found.append(_p_value(np.array([ours, theirs]), statistic, rounds))
    return [(float(p), bool(p <= FALSE_DISCOVERIES)) for p in false_discovery_control(found, method="bh")]


def _p_value(pair: NDArray[np.float64], statistic: Statistic, processes: Sequence[int]) -> float:
    from scipy.stats import ttest_1samp, wilcoxon

    if not (pair[0] != pair[1]).any():
        return 1.0
    if len(processes) >= FEWEST_PROCESSES:
        return float(ttest_1samp(_log_ratios(pair, statistic, processes), 0.0).pvalue)
    if statistic is np.median:
        return float(wilcoxon(np.log(pair[0]) - np.log(pair[1])).pvalue)
    ratios = _resampled(pair, statistic)
    tail = min(np.count_nonzero(ratios <= 1), np.count_nonzero(ratios >= 1))
    return min(1.0, 2 * (tail + 1) / (RESAMPLES + 1))  # never 0: resamples are no proof


def _log_ratios(pairs: NDArray[np.float64], statistic: Statistic, processes: Sequence[int]) -> NDArray[np.float64]:
    """One for each process."""
    parts = np.split(pairs, np.cumsum(processes)[:-1], axis=1)
    return np.log([_ratio(part, statistic) for part in parts])


def _resampled(pairs: NDArray[np.float64], statistic: Statistic, seed: int = 0) -> NDArray[np.float64]:
    """The ratio of each of many sets of rounds, drawn with replacement."""
    drawn = np.random.default_rng(seed).integers(pairs.shape[1], size=(RESAMPLES, pairs.shape[1]))
    return _ratio(pairs[:, drawn], statistic)


def _of_processes(logs: NDArray[np.float64]) -> Interval:
    middle, half = logs.mean(), half_width(logs)
    return Interval(*(float(np.exp(value)) for value in (middle, middle - half, middle + half)))


def _ratio(pairs: NDArray[np.float64], statistic: Statistic) -> NDArray[np.float64]:
    network, baseline = statistic(pairs, axis=-1)
    return np.asarray(network / baseline)
