"""The time that is announced is the time it takes, roughly."""

import time

import pytest

from recalib.measure.run import run
from recalib.measure.schedule import grid
from recalib.measure.session import How


def estimated(**changes):
    asked = {"models": ["resnet18"], "modules": ["se"], "runtimes": ["openvino"], "processes": 1}
    how = How(threads=2, rounds=changes.pop("rounds", None))
    (group,) = grid(**asked | changes, how=how).groups
    return group.seconds(how)


def test_what_takes_longer_is_estimated_to_take_longer():
    plain = estimated(rounds=100)
    assert estimated(rounds=200) > plain
    assert estimated(rounds=100, batches=[8]) > plain
    assert estimated(rounds=100, sizes=[448]) > plain
    assert estimated(rounds=100, runtimes=["openvino-throughput"]) > plain
    assert estimated(rounds=100, precisions=["int8"]) > plain
    assert estimated(runtimes=["compile"]) > estimated(runtimes=["eager"])


@pytest.mark.slow  # three processes that import PyTorch and time a network
@pytest.mark.parametrize("runtime", ["eager", "openvino"])
def test_it_is_right_within_a_factor_of_three_on_a_quiet_machine(tmp_path, runtime):
    announced = []
    start = time.monotonic()
    run(
        grid(["resnet18"], ["se", "eca"], [224], [1], ["fp32"], [runtime], how=How(rounds=20)),
        tmp_path / "x.jsonl",
        announce=lambda groups, cells, seconds: announced.append(seconds),
    )
    took = time.monotonic() - start
    assert took / 3 < announced[0] < took * 3
