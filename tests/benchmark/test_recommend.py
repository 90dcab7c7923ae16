"""A recommendation is the most accurate network that fits, with accuracies of one kind."""

import pytest

from recalib.benchmark.recommend import Budget, recommend


def cell(model, module, ms, *, deployed=True, spread=0.0, status="ok", params=11_000_000, ratio=None):
    samples = [ms - spread, ms, ms + spread]
    overhead = ratio and {"ratio": ratio, "low": ratio - 0.003, "high": ratio + 0.004}
    return {
        "model": model, "module": module, "runtime": "openvino", "deployed": deployed, "batch": 2, "status": status,
        "latency_ms": {"median": ms, "min": ms, "samples": samples} if status == "ok" else None, "params": params,
        "bytes_moved": 2**20, "overhead": overhead,
    }  # fmt: skip


CELLS = [
    cell("resnet18", "baseline", 10.0),
    cell("resnet18", "eca", 10.21, ratio=1.021),
    cell("resnet18", "eca", 12.0, deployed=False, ratio=1.2),
    cell("resnet18", "gct", 10.5, ratio=1.05),
    cell("resnet34", "baseline", 17.1),
]


def test_the_most_accurate_within_the_budget_and_what_it_costs():
    found = recommend(CELLS, Budget(latency_ms=11))
    assert (found.best.model, found.best.module, found.best.deployed) == ("resnet18", "eca", True)
    assert found.best.top1 == pytest.approx(69.758 + 70.52 - 70.05)
    assert found.runner_up.module == "baseline"
    assert "On this machine eca costs +2.1 % [1.8, 2.5]; resnet34 would cost 71 %." in found.lines
    assert "torchvision" in found.lines[0]
    assert "Klomp 2023" in found.lines[0]


def test_a_module_without_a_known_accuracy_is_named_and_not_placed():
    found = recommend(CELLS, Budget(latency_ms=11))
    assert [one.module for one in found.unplaced] == ["gct"]
    assert "gct (10.50 ms)" in found.lines[-1]


def test_the_users_own_accuracies_are_never_mixed_with_published_ones():
    found = recommend(CELLS, Budget(latency_ms=11), {("resnet18", "gct"): 60.0})
    assert (found.best.module, found.best.accuracy) == ("gct", "your run")
    assert found.runner_up is None
    assert {one.top1 for one in found.options} == {60.0, None}


def test_a_network_fits_only_with_the_upper_end_of_its_interval():
    noisy = [cell("resnet18", "baseline", 10.0, spread=3.0)]
    assert recommend(noisy, Budget(latency_ms=11)).best is None
    assert recommend(noisy, Budget(latency_ms=13.5)).best is not None


@pytest.mark.parametrize(
    ("budget", "fits"),
    [
        (Budget(throughput=199), True),  # 2 images in 10 ms
        (Budget(throughput=201), False),
        (Budget(params=11e6), True),
        (Budget(params=10e6), False),
        (Budget(memory_mib=1), True),
        (Budget(memory_mib=0.9), False),
    ],
)
def test_every_limit_limits(budget, fits):
    assert (recommend(CELLS[:1], budget).best is not None) == fits


def test_nothing_within_the_budget_says_how_far_the_fastest_is():
    found = recommend(CELLS, Budget(latency_ms=5))
    assert found.best is None
    assert found.lines == ("Nothing fits the budget: the fastest, resnet18, takes 10 ms.",)


def test_failed_cells_and_nothing_at_all_are_survived():
    assert recommend([cell("resnet18", "eca", 1.0, status="oom")], Budget(latency_ms=5)).lines == (
        "Nothing was measured.",
    )
