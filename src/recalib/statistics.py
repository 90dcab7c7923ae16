"""Mean and interval of a few repetitions: Student's t, once, for seeds and for processes."""

import math
from collections.abc import Sequence

import numpy as np


def half_width(values: Sequence[float] | np.ndarray) -> float:
    """Half of the 95 % interval of a mean: Student's t times its standard error; infinite for a single value."""
    return half_width_of(float(np.std(values, ddof=1)) if len(values) > 1 else 0.0, len(values))


def half_width_of(deviation: float, count: int) -> float:
    """The same from the values' deviation, with n - 1 in its denominator, and their number."""
    from scipy.stats import t  # not above: `recalib bench` does without scipy

    return float(t.ppf(0.975, count - 1)) * deviation / math.sqrt(count) if count > 1 else math.inf
