"""Networks trained with several seeds: which is better, by more than chance, and how many seeds would tell."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
POWER = 0.8
DRAWS = 400_000  # of the largest of several t statistics: its quantile is then known to about a hundredth of itself
MOST_SEEDS = 1000

Array = NDArray[np.float64]
Scores = Mapping[str, Mapping[int, float]]
"""Score of each network by seed."""
Share = tuple[float, float, float]
Verdict = Literal["better", "worse", "open"]


@dataclass(frozen=True)
class Difference:
    """Score of a network above another's.

    Attributes:
        points: the estimate.
        low: lower end of the interval; -inf where seeds are too few for one.
        high: upper end.
        verdict: "open" where the interval holds zero.
    """

    points: float
    low: float
    high: float

    @property
    def verdict(self) -> Verdict:
        """Better or worse where the interval leaves out zero."""
        return "better" if self.low > 0 else "worse" if self.high < 0 else "open"

    def __str__(self) -> str:
        if not np.isfinite(self.low):
            return f"{self.points:+.2f}"
        return f"{self.points:+.2f} [{self.low:.2f}, {self.high:.2f}]"


class Comparison:
    """Differences between networks, as a linear model of the scores: a value for each network and one for each seed.

    A seed gives all networks the same order and augmentation of the images and the same initial weights where they are
    alike; what it does to all of them alike cancels. The scatter that is left is taken to be the same for all networks
    and estimated from all of them: with three seeds the t of one pair alone would have two degrees of freedom. Seeds
    that some networks lack are used as far as they go.

    Args:
        scores: those of each network, by seed; networks with none are left out.
        baseline: the name of the one that the others are compared with.
    """

    def __init__(self, scores: Scores, baseline: str) -> None:
        self.baseline = baseline
        self.names = [name for name, found in scores.items() if found]
        seeds = sorted({seed for found in scores.values() for seed in found})
        rows = [(name, seed) for name in self.names for seed in scores[name]]
        values = np.array([scores[name][seed] for name, seed in rows], float)
        design = np.array(
            [[*(name == n for n in self.names), *(seed == s for s in seeds[1:])] for name, seed in rows], float
        )
        solution, _, rank, _ = np.linalg.lstsq(design, values, rcond=None)
        self.values: Array = solution
        self.freedom = len(rows) - int(rank)
        residual = values - design @ solution
        self.deviation = float(np.sqrt(residual @ residual / self.freedom)) if self.freedom else float("nan")
        self.unscaled: Array = np.linalg.pinv(design.T @ design)
        self.seeds = len(seeds)

    @property
    def others(self) -> list[str]:
        """The networks that are compared with the baseline."""
        return [name for name in self.names if name != self.baseline]

    def gains(self) -> dict[str, Difference]:
        """Each network above the baseline, with intervals that hold all at once (Dunnett 1955, for blocks)."""
        return self.differences([{name: 1.0, self.baseline: -1.0} for name in self.others], self.others)

    def over_line(self, shares: Mapping[str, Share], larger: str) -> dict[str, Difference]:
        """Each module above what the larger network gives for the same time, on the line from the baseline to it.

        Intervals are of the scores at both ends of the share's interval, whichever is farther: they are wide where
        the times are not known well.

        Args:
            shares: share of each module in the time between the baseline and the larger network: value, lower and
                upper end.
            larger: name of the larger network.
        """
        modules = [name for name in self.others if name in shares]
        at = [
            self.differences(
                [{name: 1.0, larger: -s, self.baseline: s - 1.0} for name in modules for s in [shares[name][i]]],
                modules,
            )
            for i in range(3)
        ]
        return {name: Difference(at[0][name].points, at[2][name].low, at[1][name].high) for name in modules}

    def differences(self, contrasts: Sequence[Mapping[str, float]], names: Sequence[str]) -> dict[str, Difference]:
        """Weighted sums of the networks' scores, with intervals that hold all at once."""
        weights = np.zeros((len(contrasts), len(self.values)))
        for row, contrast in zip(weights, contrasts, strict=True):
            for name, weight in contrast.items():
                row[self.names.index(name)] += weight
        estimates, covariance = weights @ self.values, weights @ self.unscaled @ weights.T
        if not self.freedom:
            half = np.full(len(estimates), np.inf)
        else:
            half = critical(_correlation(covariance), self.freedom) * self.deviation * np.sqrt(np.diag(covariance))
        found = zip(names, estimates, half, strict=True)
        return {name: Difference(float(e), float(e - h), float(e + h)) for name, e, h in found}

    def detectable(self, seeds: int) -> float:
        """The gain that so many seeds of every network show in four of five studies; infinite where none tells any."""
        k = len(self.others)
        freedom = k * (seeds - 1)
        if not self.freedom or freedom < 1:
            return float("inf")
        from scipy.stats import t

        alike = np.full((k, k), 0.5) + np.eye(k) / 2
        factor = critical(alike, freedom) + float(t.ppf(POWER, freedom))
        return factor * self.deviation * float(np.sqrt(2 / seeds))

    def seeds_for(self, gain: float) -> int | None:
        """Seeds that show such a gain in four of five studies; None above a thousand, or where nothing tells."""
        if not self.freedom or not gain > 0 or self.detectable(MOST_SEEDS) > gain:
            return None
        low, high = 1, MOST_SEEDS
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.detectable(middle) <= gain else (middle, high)
        return high


def critical(correlation: Array, freedom: int) -> float:
    """Bound of the largest of several correlated t statistics, in absolute value, 95 times in a hundred."""
    from scipy.stats import t

    if len(correlation) == 1:
        return float(t.ppf((1 + CONFIDENCE) / 2, freedom))
    return _critical(tuple(map(tuple, correlation.round(9))), freedom)


@lru_cache(maxsize=256)
def _critical(correlation: tuple[tuple[float, ...], ...], freedom: int) -> float:
    matrix, draw = np.array(correlation), np.random.default_rng(0)
    values, vectors = np.linalg.eigh(matrix)
    normal = draw.standard_normal((DRAWS, len(matrix))) @ (vectors * np.sqrt(values.clip(min=0))).T
    scale = np.sqrt(draw.chisquare(freedom, DRAWS) / freedom)
    return float(np.quantile(np.abs(normal).max(1) / scale, CONFIDENCE))


def _correlation(covariance: Array) -> Array:
    spread = np.sqrt(np.diag(covariance))
    found: Array = covariance / np.outer(spread, spread)
    return found
