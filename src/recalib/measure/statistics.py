"""What samples say: their median and minimum, how sure the ratio of two latencies is, and whether they differ.

Cells carry it as ``overhead["distinguishable"]: bool``, corrected within (model, runtime, size, batch, precision): what
a page shows grey is where it is False.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recalib.runtimes.protocol import Statistic
from recalib.statistics import half_width

FEWEST_PROCESSES = 3  # from two, the spread of what processes say cannot be told
RESAMPLES = 2000  # the ends of a 95 % interval then move by about 2 % of its width from seed to seed
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
    drawn = np.random.default_rng(seed).integers(pairs.shape[1], size=(RESAMPLES, pairs.shape[1]))
    low, high = np.quantile(_ratio(pairs[:, drawn], statistic), (0.025, 0.975))
    return Interval(float(_ratio(pairs, statistic)), float(low), float(high))


def processes_of(latency_ms: Mapping[str, Any]) -> list[int]:
    """Rounds of each process of a cell's latency; files from before there were several have one."""
    processes: list[int] = latency_ms.get("processes") or [len(latency_ms["samples"])]
    return processes


def ratio_of(latency_ms: Mapping[str, Any], baseline_ms: Mapping[str, Any]) -> Interval:
    """Ratio of two cells' median latencies, of one run or of two: process by process, as many rounds as both have."""
    sides = [np.split(ms["samples"], np.cumsum(processes_of(ms))[:-1]) for ms in (latency_ms, baseline_ms)]
    rounds = [min(map(len, parts)) for parts in zip(*sides, strict=False)]
    ours, theirs = (np.concatenate([part[:n] for part, n in zip(side, rounds, strict=False)]) for side in sides)
    return ratio_interval(ours.tolist(), theirs.tolist(), processes=rounds)


def distinguishable(
    pairs: Sequence[tuple[Sequence[float], Sequence[float]]], processes: Sequence[int] = ()
) -> list[tuple[float, bool]]:
    """Which pairs of latencies differ, when many are tested at once.

    Each pair, of one process: the two-sided Wilcoxon signed-rank test of the logarithms' differences, round by round,
    which assumes no distribution and lets what disturbs a whole round cancel; with five rounds nothing can be told
    apart (p >= 0.0625). Of several processes: the t test that belongs to the interval. All of them: Benjamini and
    Hochberg 1995, so that among those called different at most `FALSE_DISCOVERIES` are expected not to be.

    Args:
        pairs: latencies of a network and of its baseline in the same rounds, all of one interleaved run.
        processes: as `ratio_interval` takes them.

    Returns:
        For each pair the adjusted p value and whether it is small enough.
    """
    from scipy.stats import false_discovery_control  # not above: `recalib bench` does without scipy

    if not pairs:
        return []
    adjusted = false_discovery_control([_p_value(np.array(pair), processes) for pair in pairs], method="bh")
    return [(float(p), bool(p <= FALSE_DISCOVERIES)) for p in adjusted]


def _p_value(pair: NDArray[np.float64], processes: Sequence[int]) -> float:
    from scipy.stats import ttest_1samp, wilcoxon

    if not (pair[0] != pair[1]).any():
        return 1.0
    if len(processes) >= FEWEST_PROCESSES:
        return float(ttest_1samp(_log_ratios(pair, np.median, processes), 0.0).pvalue)
    return float(wilcoxon(np.log(pair[0]) - np.log(pair[1])).pvalue)


def _log_ratios(pairs: NDArray[np.float64], statistic: Statistic, processes: Sequence[int]) -> NDArray[np.float64]:
    """One for each process."""
    parts = np.split(pairs, np.cumsum(processes)[:-1], axis=1)
    return np.log([_ratio(part, statistic) for part in parts])


def _of_processes(logs: NDArray[np.float64]) -> Interval:
    middle, half = logs.mean(), half_width(logs)
    return Interval(*(float(np.exp(value)) for value in (middle, middle - half, middle + half)))


def _ratio(pairs: NDArray[np.float64], statistic: Statistic) -> NDArray[np.float64]:
    network, baseline = statistic(pairs, axis=-1)
    return np.asarray(network / baseline)
