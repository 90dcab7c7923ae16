"""Advice on hand-made cells where the right answer is evident."""

from dataclasses import replace

from recalib.choose.advice import advise, overhead_text
from recalib.measure.cells import Cell, Overhead


def cell(model="resnet50", module="baseline", runtime="eager", deployed=True, ms=10.0, ratio=1.0, half=0.01, **other):
    """A cell of an ok measurement whose overhead interval is `ratio` +- `half`."""
    values = {
        "model": model,
        "module": module,
        "runtime": runtime,
        "deployed": deployed,
        "status": "ok",
        "latency_ms": {"median": ms, "min": ms, "samples": [ms]},
        "overhead": {"ratio": ratio, "low": ratio - half, "high": ratio + half},
        **other,
    }
    return Cell.of(values)


def failed(module, status="oom", **other):
    return replace(cell(module=module, **other), status=status, latency_ms=None, overhead=None)


def module(name, ratio, half=0.01, base=10.0, **other):
    return cell(module=name, ms=base * ratio, ratio=ratio, half=half, **other)


# Published gains on ResNet-50 (Klomp 2023): ab 0.46, eca 1.32, se 1.29, srm 1.26, multi_se 1.14.


def test_a_module_clearly_slower_and_no_more_accurate_is_behind():
    front, _, _ = advise([cell(), module("ab", 1.02), module("eca", 1.10), module("se", 1.20)])
    assert "ab (+0.46 points, +2.0 % [1.0, 3.0]) and eca (+1.32 points, +10.0 % [9.0, 11.0])" in front
    assert "Behind: se." in front
    assert "Klomp 2023" in front


def test_overheads_whose_intervals_overlap_count_as_equal():
    front, _, _ = advise([cell(), module("eca", 1.10, half=0.06), module("se", 1.20, half=0.06)])
    assert "Behind" not in front


def test_a_module_without_a_comparable_figure_is_named_and_not_placed():
    front, _, _ = advise([cell(), module("eca", 1.10), module("gct", 1.01)])
    assert "Not placed: gct" in front
    assert "gct (" not in front


def test_the_front_is_that_of_the_fastest_runtime():
    slow = [cell(runtime="eager", ms=40), module("ab", 1.5, runtime="eager", base=40)]
    fast = [cell(runtime="openvino", ms=20), module("ab", 1.03, runtime="openvino", base=20)]
    front, _, _ = advise(slow + fast)
    assert "deployed in openvino" in front
    assert "+3.0 %" in front
    assert "+50" not in front


def test_a_runtime_at_full_load_has_no_latency_to_be_fastest_by():
    full = {"runtime": "openvino-throughput", "in_flight": 2}
    cells = [cell(), module("eca", 1.10), cell(ms=6.0, **full), module("se", 1.01, base=6.0, **full)]
    front, _, _ = advise(cells)
    assert "eca (+1.32 points" in front
    assert "openvino-throughput" not in front


def test_only_deployed_cells_are_placed():
    front, _, _ = advise([cell(), module("ab", 1.05), module("eca", 1.02, deployed=False)])
    assert "eca" not in front


def test_deploy_is_summed_up_by_runtime_with_the_largest_certain_change():
    cells = [cell()]
    for name, before, after in [("ab", 1.10, 1.04), ("eca", 1.12, 1.06), ("se", 1.30, 1.20)]:
        cells += [module(name, before, deployed=False), module(name, after)]
    _, deploy, _ = advise(cells)
    assert "12.0 to 6.0 % in eager" in deploy
    assert "most for se in eager, +30.0 % [29.0, 31.0] to +20.0 % [19.0, 21.0]" in deploy


def test_a_change_within_the_intervals_is_not_claimed():
    _, deploy, _ = advise([cell(), module("ab", 1.10, half=0.1, deployed=False), module("ab", 1.04, half=0.1)])
    assert "no single module's gain exceeds its interval" in deploy


def test_a_cheap_module_beats_a_costly_depth():
    # eca: 1.32 points for 1 ms; resnet101: 77.374 - 76.130 = 1.244 points for 8 ms = 0.16 points/ms.
    _, _, depth = advise([cell(), module("eca", 1.10), cell("torchvision:resnet101", ms=18.0)])
    assert depth.startswith("eca buys more accuracy per millisecond than resnet101")
    assert "+1.32 points (Klomp 2023) for +1.00 ms [0.90, 1.10], 1.32 points/ms" in depth
    assert "+1.24 points (torchvision) for +8.00 ms, 0.16 points/ms" in depth


def test_a_cheap_depth_beats_a_costly_module():
    # resnet18 with eca: 0.47 points for 8 ms; resnet34: 3.556 points for 8 ms.
    cells = [cell("resnet18"), module("eca", 1.8, model="resnet18"), cell("resnet34", ms=18.0)]
    assert advise(cells)[2].startswith("resnet34 buys more accuracy per millisecond than eca")


def test_the_verdict_is_open_where_the_interval_holds_both_answers():
    # eca: 1.32 points for 2 to 14 ms = 0.09 to 0.66 points/ms; resnet101: 0.16.
    _, _, depth = advise([cell(), module("eca", 1.8, half=0.6), cell("resnet101", ms=18.0)])
    assert "is open" in depth


def test_a_module_that_costs_nothing_measurable_wins():
    _, _, depth = advise([cell(), module("ab", 0.98), cell("resnet101", ms=18.0)])
    assert depth.startswith("ab buys more")
    assert "cannot be told from no time" in depth


def test_depth_is_not_weighed_when_the_deeper_network_was_not_measured_or_does_not_exist():
    assert "the plain resnet101 was not measured in eager" in advise([cell(), module("eca", 1.1)])[2]
    cells = [cell("mobilenetv2_100"), module("eca", 1.1, model="mobilenetv2_100")]
    assert "no deeper ResNet than mobilenetv2_100" in advise(cells)[2]


def test_a_network_without_published_accuracy_gets_no_guess():
    lines = advise([cell("convnext_tiny"), module("se", 1.1, model="convnext_tiny")])
    assert "no accuracy of se in convnext_tiny is published that we know" in lines[0]
    assert "unknown" in lines[1]
    assert "no deeper ResNet" in lines[2]


def test_it_says_what_is_missing_when_everything_failed_or_nothing_was_measured():
    for cells in ([], [failed("baseline"), failed("eca")], [cell(), failed("eca"), failed("se", "unsupported")]):
        lines = advise(cells)
        assert len(lines) == 3
        assert all("not" in line or "none" in line or "no module" in line for line in lines)


def test_each_network_with_modules_gets_three_lines_that_begin_with_its_name():
    cells = [cell("resnet18"), module("ab", 1.1, model="resnet18"), cell("resnet34"), cell(), module("ab", 1.1)]
    lines = advise(cells)
    assert [line.partition(":")[0] for line in lines] == ["resnet18"] * 3 + ["resnet50"] * 3


def test_an_overhead_is_written_in_percent_with_its_interval():
    assert overhead_text(Overhead(1.051, 1.042, 1.06)) == "+5.1 % [4.2, 6.0]"
    assert overhead_text(Overhead(2.513, 2.49, 2.53)) == "+151 % [149, 153]"
    assert overhead_text(Overhead(0.99, 0.98, 1.0)) == "-1.0 % [-2.0, 0.0]"
