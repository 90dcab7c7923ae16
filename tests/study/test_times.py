"""What attention takes at each site, and what freezing a site is worth."""

import math

import pytest
import torch

import recalib
from recalib import RecalibError
from recalib.study.times import SiteTimes, site_times, stripped


def test_a_site_is_worth_its_own_time_where_that_can_be_told_from_none():
    times = SiteTimes({"a": (2.0, 1.0, 3.0), "b": (0.5, -0.1, 1.1), "c": (-0.2, -1.0, 0.6)}, full=13.0, plain=10.0)
    assert times.costs() == {"a": 2.0, "b": 1.0, "c": 1.0}


def test_all_sites_count_alike_where_nothing_can_be_told():
    assert SiteTimes({"a": (2.0, 1.0, 3.0), "b": (0.1, -0.1, 0.2)}, full=9.0, plain=10.0).costs() == {"a": 1, "b": 1}


@pytest.mark.parametrize("runtime", ["eager", "onnxruntime"])
def test_sites_of_one_kind_share_one_time(runtime):
    torch.manual_seed(0)
    model = recalib.cifar_resnet(14, attention="se").eval()
    gates = [f"{site.name}.attention" for site in recalib.sites(model)]
    times = site_times(model, gates, torch.randn(1, 3, 16, 16), runtime, rounds=3)
    assert list(times.ranges) == gates
    assert len(set(times.ranges.values())) == 3
    assert all(low <= ms <= high for ms, low, high in times.ranges.values())
    assert times.full > 0
    assert math.isfinite(times.plain)


def test_stripped_is_the_network_without_that_attention():
    model = recalib.cifar_resnet(8, attention="se")
    plain = stripped(model, ["layer1.0.attention", "layer3.0.attention"])
    assert [name for name, _ in plain.named_modules() if name.endswith(".attention")] == ["layer2.0.attention"]
    assert not plain.training


def test_an_unknown_runtime_is_named():
    model = recalib.cifar_resnet(8, attention="se")
    with pytest.raises(RecalibError, match="unknown runtime 'eagre'"):
        site_times(model, ["layer1.0.attention"], torch.randn(1, 3, 16, 16), "eagre")
