"""The first sentence is one to act on, or says that the answer is open and what would settle it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from recalib.choose.verdict import relation, verdicts
from recalib.measure.cells import Cell, Latency, Overhead
from recalib.measure.statistics import ratio_of
from recalib.measure.store import read_results

# Published gains on ResNet-50 (Klomp 2023): ab 0.46, eca 1.32, se 1.29, srm 1.26, multi_se 1.14.
RESULTS = Path(__file__).parents[2] / "results"


def latency(ms, noise, rounds=40):
    """Rounds around a median; the noise of a network's own is the same whatever its name."""
    samples = (ms * np.exp(np.random.default_rng(int(1000 * ms)).normal(0, noise, rounds))).tolist()
    return Latency(float(np.median(samples)), min(samples), samples)


def group(noise=0.001, load=None, **modules):
    """The plain network at 10 ms, and modules at so many."""
    plain = Cell(model="resnet50", module="baseline", runtime="eager", deployed=True, latency_ms=latency(10.0, noise))
    cells = [plain] + [replace(plain, module=name, latency_ms=latency(ms, noise)) for name, ms in modules.items()]
    return [replace(one, load=load, overhead=Overhead(*ratio_of(one.latency_ms, plain.latency_ms))) for one in cells]


def test_it_names_a_module_what_it_gains_and_costs_what_is_as_good_and_what_costs_more():
    (line,) = verdicts(group(ab=10.2, eca=10.9, se=10.91, srm=12.0))
    assert line.startswith("Use eca, deployed in eager: +1.32 points (published, Klomp 2023) for +9.")
    assert "; se is as good; srm +2" in line
    assert line.endswith("costs more for as many points, within 0.2.")
    assert "ab" not in line  # faster, for a third of the points


def test_where_the_intervals_do_not_tell_the_first_words_say_so_and_what_would_settle_it():
    cells = group(noise=0.2, load={"others": 0.38, "stolen": 0.0}, eca=10.9, se=11.0, srm=11.4)
    (line,) = verdicts(cells)
    assert line.startswith("Open: which is faster deployed in eager, ")
    assert "others used 38 % of this machine while it was measured" in line
    assert "min of timing more would (--minutes)" in line


def test_a_time_that_cannot_be_told_from_none_is_not_a_cost():
    (line,) = verdicts(group(noise=0.004, eca=10.0))
    assert "for a time that cannot be told from the plain network's" in line


def test_a_module_that_gains_nothing_is_not_recommended_and_one_without_a_figure_neither():
    assert verdicts(group(gct=10.1)) == [
        "Open: no accuracy of a module in resnet50 is published that we know; times are in the table."
    ]


@pytest.mark.parametrize(("ms", "noise", "expected"), [(11.0, 0.001, "slower"), (9.0, 0.001, "faster"),
                                                       (10.01, 0.001, "equal"), (10.3, 0.2, "open")])  # fmt: skip
def test_two_cells_are_told_apart_or_together_by_the_interval_of_their_ratio(ms, noise, expected):
    one, other = (cell for cell in group(noise=noise, eca=ms))
    assert relation(other, one) == expected


def test_between_se_and_srm_in_onnx_runtime_the_answer_is_not_open():
    cells = [cell for cell in read_results([RESULTS / "latency"]).cells if cell.model == "resnet50"]
    (line,) = verdicts([c for c in cells if (c.runtime, c.size, c.batch) == ("onnxruntime", 224, 1)])
    assert line.startswith("Use se, deployed in onnxruntime: +1.29 points")
    assert "srm +13.3 % [10.2, 16.4] cost more" in line
