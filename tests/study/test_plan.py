"""The model of a plan against sums done by hand, and where its parts rule."""

import math

import pytest
import torch
from torch import nn

from recalib.errors import RecalibError
from recalib.study.plan import Cluster, Interconnect, Plan, Work, all_reduce, cluster_of, rate_of_run, saved_bytes, step

FREE = Interconnect(math.inf, 0.0)
WORK = Work(100.0, "made up", gradient=1e9, fixed=2e9, activations=1e8)


def test_without_a_network_devices_add_up():
    one = step(WORK, Cluster(FREE, FREE), 8, 80, 0.0)
    assert one.seconds == pytest.approx(10 / 100)
    assert one.images_per_second == pytest.approx(800)
    assert one.bound == "compute"


def test_a_ring_moves_twice_all_but_one_part():
    cluster = Cluster(Interconnect(1e9, 0.0), Interconnect(1e8, 0.0), per_node=4)
    assert all_reduce(1e9, 4, cluster) == pytest.approx(2 * 3 / 4)
    assert all_reduce(1e9, 8, cluster) == pytest.approx(2 * 3 / 4 + 2 * 1 / 2 * 2.5e8 / 1e8)
    assert all_reduce(1e9, 1, cluster) == 0


def test_the_backward_pass_hides_the_all_reduce_but_for_the_last_bucket():
    cluster = Cluster(Interconnect(1e12, 0.0), FREE)
    hidden = step(WORK, cluster, 2, 200, 0.0)
    assert hidden.reduce == pytest.approx(1e-3)
    assert hidden.exposed == pytest.approx(25 * 2**20 / 1e12)
    slow = step(WORK, Cluster(Interconnect(1e9, 0.0), FREE), 2, 2, 0.0)
    assert slow.exposed == pytest.approx(1 - 2 / 3 * 0.01)
    assert slow.bound == "all-reduce"


def test_storage_that_is_too_slow_sets_the_pace():
    fed = step(WORK, Cluster(FREE, FREE, data_rate=1e6), 4, 40, 1e5)
    assert fed.images_per_second == pytest.approx(10)
    assert fed.bound == "input"


def test_processes_on_fewer_cores_take_turns():
    one, four = (step(WORK, Cluster(FREE, FREE, cores=2), n, 8, 0.0) for n in (1, 4))
    assert four.images_per_second == pytest.approx(2 * one.images_per_second)


def test_memory_grows_with_the_images_of_a_device_and_may_not_fit():
    assert step(WORK, Cluster(FREE, FREE), 2, 20, 0.0).memory == pytest.approx(3e9)
    assert not step(WORK, Cluster(FREE, FREE, memory=2.5e9), 2, 20, 0.0).fits


def test_what_autograd_keeps_is_counted():
    """A convolution keeps its input, the ReLU after it its output: 4 and 8 maps of 16 x 16."""
    network = nn.Sequential(nn.Conv2d(3, 8, 1, bias=False), nn.ReLU())
    assert saved_bytes(network, 16) == (3 + 8) * 256 * 4


def test_counting_leaves_a_network_as_it_was():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    saved_bytes(network, 8)
    assert not network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_what_breaks_first_is_named_with_the_number_of_devices():
    plan = Plan(WORK, Cluster(FREE, FREE, data_rate=1e7), 1, 32, images=1000, image_bytes=1e5, epochs=1)
    assert plan.breaks() == [
        "storage or decoding, from 2 devices on",
        "the batch: over 8,192 images SGD's accuracy is not known to hold, from 512 devices on",
    ]


def test_hours_and_cost_are_of_all_epochs_and_devices():
    plan = Plan(WORK, Cluster(FREE, FREE), 8, 80, images=80_000, image_bytes=0.0, epochs=36, price=2.0)
    assert plan.hours() == pytest.approx(1.0)
    assert plan.results()["cost"] == pytest.approx(16.0)
    assert plan.results()["efficiency"] == pytest.approx(1.0)


def test_a_batch_that_is_too_small_and_an_unknown_device_are_refused():
    with pytest.raises(RecalibError, match="batch 4: gives 8 devices no image each"):
        step(WORK, Cluster(FREE, FREE), 8, 4, 0.0)
    with pytest.raises(RecalibError, match="unknown device 'h20'; did you mean"):
        cluster_of("h20")


def test_a_runs_rate_is_the_median_of_its_epochs(tmp_path):
    (tmp_path / "config.json").write_text('{"devices": 1}')
    with pytest.raises(RecalibError, match="no epoch has ended"):
        rate_of_run(tmp_path)
    rows = "".join(f'{{"step": {i}, "images_per_second": {rate}}}\n' for i, rate in enumerate((10, 90, 100)))
    (tmp_path / "metrics.jsonl").write_text(rows)
    assert rate_of_run(tmp_path)[0] == 90
    (tmp_path / "config.json").write_text('{"devices": 2}')
    with pytest.raises(RecalibError, match="ran on 2 devices; a plan begins with the rate of one"):
        rate_of_run(tmp_path)
