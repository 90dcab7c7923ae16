"""What each target allows, and when it counts as met."""

from dataclasses import replace

import pytest

from recalib.measure.cells import Cell, Overhead
from recalib.measure.targets import MODULES, TARGETS, allowed, verdict


def cell(module, runtime, ratio, low=None, high=None, **changes):
    what = {"model": "resnet50", "size": 224, "batch": 1, "precision": "fp32", "protocol": "clean", "machine": "m"}
    what |= {"deployed": True, "device": "cpu"} | changes
    overhead = Overhead(ratio, low or ratio, high or ratio)
    return Cell(module=module, runtime=runtime, overhead=overhead, **what)


def test_every_target_is_there():
    assert list(TARGETS) == ["T1", "T2", "T3", "T4a", "T4b", "T5", "T6"]
    assert {"timm:se", "timm:eca", "ab", "eca", "se", "srm", "gct", "multi_se"} == set(MODULES)


@pytest.mark.parametrize(
    ("one", "limit"),
    [
        (cell("se", "openvino", 1.1), 1.05),
        (cell("se", "openvino", 1.1, batch=8), 1.03),
        (cell("multi_se", "openvino", 1.1), 1.075),
        (cell("se", "eager", 1.1, device="cuda", batch=256), 1.03),
        (cell("se", "eager", 1.1, device="cuda"), 1.15),
        (cell("gct", "cuda_graph", 1.1, device="cuda"), 1.08),
        (cell("srm", "training, compiled", 1.1, deployed=False, device="cuda", batch=256), 1.03),
        (cell("multi_se", "training, eager", 1.1, deployed=False, device="cuda", batch=256), 1.045),
        (cell("baseline", "openvino", 1.0), None),
        (cell("timm:se", "openvino", 1.1), None),
        (cell("se", "openvino", 1.1, deployed=False), None),
    ],
)
def test_limits_are_those_of_the_targets(one, limit):
    assert allowed(one, [one]) == (limit if limit is None else pytest.approx(limit))


@pytest.mark.parametrize(("module", "runtime"), [("se", "onnxruntime"), ("se", "compile"), ("srm", "openvino")])
def test_where_a_runtime_cannot_fuse_half_of_the_graph_as_inserted_is_allowed(module, runtime):
    deployed, inserted = cell(module, runtime, 1.04), cell(module, runtime, 1.1, deployed=False)
    assert allowed(deployed, [inserted, deployed]) == pytest.approx(1.05)
    assert allowed(deployed, [replace(inserted, overhead=None), deployed]) is None


def test_training_must_also_cost_a_fifth_of_timms_layer_in_the_same_form():
    se = cell("se", "training, eager", 1.02, deployed=False, device="cuda")
    timm = cell("timm:se", "training, eager", 1.05, deployed=False, device="cuda")
    other = cell("timm:se", "training, compiled", 1.01, deployed=False, device="cuda")
    assert allowed(se, [other, timm, se]) == pytest.approx(1.01)


@pytest.mark.parametrize(("low", "high", "word"), [(1.0, 1.05, "met"), (1.04, 1.06, "open"), (1.051, 1.06, "missed")])
def test_a_target_is_met_or_missed_only_where_the_whole_interval_says_so(low, high, word):
    one = cell("se", "openvino", (low + high) / 2, low, high)
    assert verdict(one, [one]) == word
    assert verdict(replace(one, overhead=None), [one]) == ""
