"""What samples say: their median and minimum, how sure the ratio of two latencies is, and whether they differ.

Cells carry it as ``overhead["distinguishable"]: bool``, corrected within (model, runtime, size, batch, precision): what
a page shows grey is where it is False.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recalib.runtimes.protocol import Statistic

RESAMPLES = 2000  # the ends of a 95 % interval then move by about 2 % of its width from seed to seed
FALSE_DISCOVERIES = 0.05  # the share of "these differ" that may be wrong, over a group


class Interval(NamedTuple):
    """A ratio with its 95 % confidence interval."""

    ratio: float
    low: float
    high: float


def ratio_interval(
    samples: Sequence[float], baseline: Sequence[float], statistic: Statistic = np.median, seed: int = 0
) -> Interval:
    """Ratio of the statistics of two networks' latencies with its bootstrap 95 % interval (percentile method).

    The samples must be paired: ``samples[i]`` and ``baseline[i]`` come from round i of one interleaved run. Whole
    rounds are drawn, with replacement, so that a disturbance which slowed both networks in a round stays in both and
    cancels in the ratio; drawing the two apart would break the pairs and widen the interval by what the interleaving
    removed. (It is then wider than it need be, since the two medians of a resample may come from different rounds,
    and never too narrow.) Percentiles, because the acceleration that BCa adds is estimated by leaving single samples
    out, to which medians hardly react.

    With the minimum as statistic the interval is a rough one: no resample is ever below the observed minimum.

    Args:
        samples: latencies of a network, one a round.
        baseline: those of the baseline in the same rounds.
        statistic: ``np.median`` or ``np.min``.
        seed: of the resampling, so that the same samples give the same interval.
    """
    pairs = np.array([samples, baseline])  # (2, rounds)
    drawn = np.random.default_rng(seed).integers(pairs.shape[1], size=(RESAMPLES, pairs.shape[1]))
    low, high = np.quantile(_ratio(pairs[:, drawn], statistic), (0.025, 0.975))
    return Interval(float(_ratio(pairs, statistic)), float(low), float(high))


def distinguishable(pairs: Sequence[tuple[Sequence[float], Sequence[float]]]) -> list[tuple[float, bool]]:
    """Which pairs of latencies differ, when many are tested at once.

    Each pair: the two-sided Wilcoxon signed-rank test of the logarithms' differences, round by round, which assumes no
    distribution and lets what disturbs a whole round cancel. All of them: Benjamini and Hochberg 1995, so that among
    those called different at most `FALSE_DISCOVERIES` are expected not to be. With five rounds nothing can be told
    apart (p >= 0.0625).

    Args:
        pairs: latencies of a network and of its baseline in the same rounds, all of one interleaved run.

    Returns:
        For each pair the adjusted p value and whether it is small enough.
    """
    from scipy.stats import false_discovery_control  # not above: `recalib bench` does without scipy

    if not pairs:
        return []
    adjusted = false_discovery_control([_p_value(np.log(a) - np.log(b)) for a, b in pairs], method="bh")
    return [(float(p), bool(p <= FALSE_DISCOVERIES)) for p in adjusted]


def _p_value(differences: NDArray[np.float64]) -> float:
    from scipy.stats import wilcoxon

    return float(wilcoxon(differences).pvalue) if differences.any() else 1.0


def _ratio(pairs: NDArray[np.float64], statistic: Statistic) -> NDArray[np.float64]:
    network, baseline = statistic(pairs, axis=-1)
    return np.asarray(network / baseline)
