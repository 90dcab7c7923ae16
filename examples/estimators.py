"""Which estimator of a ratio holds: how often one run's 95 % interval covers the ratio that another, later run found.

The recorded raw samples of two runs of the same cells are taken, process by process: each process of the one gives an
interval by every estimator, and what all processes of the other say by their medians is taken for true.

python examples/estimators.py results/latency results/latency_again
"""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from numpy.typing import NDArray
from scipy.stats import trim_mean
from tyro.conf import Positional

from recalib.measure.cells import BASELINE, Cell
from recalib.measure.statistics import paired
from recalib.measure.store import read_results

Pairs = NDArray[np.float64]  # (2, ..., rounds)
RESAMPLES = 1000
ESTIMATORS = {
    "ratio of medians": lambda pairs: np.median(pairs[0], -1) / np.median(pairs[1], -1),
    "ratio of lower quartiles": lambda pairs: np.quantile(pairs[0], 0.25, -1) / np.quantile(pairs[1], 0.25, -1),
    "median of pairs": lambda pairs: np.median(pairs[0] / pairs[1], -1),
    "trimmed mean of pairs": lambda pairs: np.exp(trim_mean(np.log(pairs[0] / pairs[1]), 0.2, -1)),
    "lower quartile of pairs": lambda pairs: np.quantile(pairs[0] / pairs[1], 0.25, -1),
}


@dataclass(frozen=True)
class Arguments:
    """Two runs of the same cells."""

    first: Positional[Path]
    second: Positional[Path]


def pairs_of(cells: list[Cell]) -> dict[tuple[object, ...], list[Pairs]]:
    """Samples of every deployed module and of its plain network in the same rounds, by cell, a process each."""
    plain = {(c.model, c.runtime, c.size, c.batch): c for c in cells if c.module == BASELINE and c.deployed}
    found = {}
    for cell in cells:
        reference = plain.get((cell.model, cell.runtime, cell.size, cell.batch))
        if cell.module == BASELINE or not cell.deployed or cell.latency_ms is None:
            continue
        if reference is None or reference.latency_ms is None:
            continue
        ours, theirs, rounds = paired(cell.latency_ms, reference.latency_ms)
        parts = np.split(np.array([ours, theirs]), np.cumsum(rounds)[:-1], axis=1)
        found[cell.model, cell.module, cell.runtime, cell.size, cell.batch] = parts
    return found


def main() -> None:
    """Print coverage and width of every estimator."""
    given = tyro.cli(Arguments, description=__doc__)
    first, second = (pairs_of(read_results([folder]).cells) for folder in (given.first, given.second))
    rng = np.random.default_rng(0)
    covered, widths = defaultdict(list), defaultdict(list)
    for here, there in ((first, second), (second, first)):
        for key in here.keys() & there.keys():
            true = float(np.exp(np.mean([np.log(ESTIMATORS["ratio of medians"](part)) for part in there[key]])))
            for part in here[key]:
                drawn = part[:, rng.integers(part.shape[1], size=(RESAMPLES, part.shape[1]))]
                for name, estimator in ESTIMATORS.items():
                    low, high = np.quantile(estimator(drawn), (0.025, 0.975))
                    covered[name].append(low <= true <= high)
                    widths[name].append(50 * (high - low))
    for name, hits in covered.items():
        print(f"{name:26} covers {np.mean(hits):.0%} of {len(hits)}, half width {np.median(widths[name]):.2f} points")


if __name__ == "__main__":
    main()
