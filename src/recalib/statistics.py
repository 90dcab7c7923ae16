"""What a few repetitions say of a mean: Student's t, once, for seeds and for processes."""

import math
from collections.abc import Sequence

import numpy as np

MOST = 1000  # repetitions that are worth counting up to


def half_width(values: Sequence[float] | np.ndarray) -> float:
    """Half of the 95 % interval of a mean: Student's t times its standard error; infinite for a single value."""
    return half_width_of(float(np.std(values, ddof=1)) if len(values) > 1 else 0.0, len(values))


def half_width_of(deviation: float, count: int) -> float:
    """The same from the values' deviation, with n - 1 in its denominator, and their number."""
    from scipy.stats import t  # not above: `recalib bench` does without scipy

    return float(t.ppf(0.975, count - 1)) * deviation / math.sqrt(count) if count > 1 else math.inf


def repetitions_to_decide(differences: Sequence[float]) -> int | None:
    """How many paired repetitions would tell a mean difference from zero, if it and its deviation stayed as they are.

    Args:
        differences: one for each repetition so far; at least two.

    Returns:
        The smallest number whose 95 % interval leaves out zero, itself included where it already does; None above
        `MOST`, and where the differences average to zero.
    """
    from scipy.stats import t

    mean, deviation = abs(float(np.mean(differences))), float(np.std(differences, ddof=1))
    enough = (n for n in range(2, MOST + 1) if t.ppf(0.975, n - 1) * deviation / math.sqrt(n) < mean)
    return next(enough, None)
