"""Recommendations on hand-made cells where the right answer is evident."""

import json
from dataclasses import replace

import pytest

from recalib.choose.accuracy import Accuracy, published_accuracy, sampling_error
from recalib.choose.budget import Budget, quantity
from recalib.choose.recommend import Wish, recommend, recommendation, wanted
from recalib.errors import RecalibError, WorkFailed
from recalib.measure.cells import Cell
from recalib.measure.session import How
from recalib.measure.store import read_results
from recalib.runtimes.machine import describe

# Published gains on ResNet-50 (Klomp 2023): ab 0.46, eca 1.32, se 1.29; torchvision's plain ResNet-50 has 76.13.


def cell(module="baseline", ms=10.0, model="resnet50", spread=0.0, params=25_000_000, **other):
    return Cell.of(values(module, ms, model, spread, params, **other))


def values(module="baseline", ms=10.0, model="resnet50", spread=0.0, params=25_000_000, **other):
    samples = [ms - spread, ms, ms + spread] * 7
    return {
        "model": model, "module": module, "runtime": "eager", "deployed": True, "size": 224, "batch": 1,
        "precision": "fp32", "params": params, "status": "ok",
        "latency_ms": {"median": ms, "min": ms - spread, "samples": samples},
        "overhead": {"ratio": ms / 10, "low": ms / 10 - 0.01, "high": ms / 10 + 0.01}, **other,
    }  # fmt: skip


def test_the_most_accurate_network_within_the_budget_is_taken():
    cells = [cell(), cell("ab", 10.5), cell("eca", 11.0), cell("se", 12.0)]
    assert recommend(cells, Budget(latency=11.5)).best.cell.module == "eca"
    assert recommend(cells, Budget(latency=10.7)).best.cell.module == "ab"
    assert recommend(cells, Budget(throughput=99)).best.cell.module == "baseline"


def test_a_network_whose_interval_holds_the_limit_is_named_but_not_taken():
    chosen = recommend([cell(), cell("eca", 11.0, spread=1.0)], Budget(latency=11.2))
    assert chosen.best.cell.module == "baseline"
    assert any(line.startswith("Open: resnet50 with eca") for line in chosen.lines)


def test_the_reason_names_the_overhead_here_and_what_depth_would_cost():
    text = " ".join(recommend([cell(), cell("eca", 10.21), cell(model="resnet101", ms=17.1)], Budget(11)).lines)
    assert "eca costs +2.1 % [1.1, 3.1] over the plain resnet50 and gains +1.32 points" in text
    assert "resnet101 would cost +71.0 % [71.0, 71.0]" in text


def test_the_runner_up_comes_with_the_uncertainty_of_the_difference():
    chosen = recommend([cell(), cell("eca", 11.0), cell("se", 10.5)], Budget())
    assert chosen.runner_up is not None
    assert chosen.runner_up.cell.module == "se"
    assert "0.03 points less, which is within their uncertainty" in chosen.lines[2]
    assert "-4.5 % in time" in chosen.lines[2]


def test_limits_on_parameters_and_memory_count_too():
    cells = [cell(), cell("se", 10.1, params=28_000_000), cell("eca", 10.2)]
    assert recommend(cells[:2], Budget(params=26e6)).best.cell.module == "baseline"
    memory = {"baseline": 1e8, "se": 1e8, "eca": 3e8}
    chosen = recommend(cells, Budget(memory=2e8), memory=lambda one: memory[one.module])
    assert chosen.best.cell.module == "se"


def test_own_accuracies_are_preferred_and_never_mixed_with_published_ones():
    own = {("resnet50", "baseline"): Accuracy(60.0, 0.1, "your runs, 3", "own")}
    own[("resnet50", "ab")] = Accuracy(61.0, 0.1, "your runs, 3", "own")
    chosen = recommend([cell(), cell("ab", 10.5), cell("eca", 10.2)], Budget(), own=own)
    assert chosen.best.cell.module == "ab"
    assert {one.accuracy.own for one in chosen.candidates} == {True}
    assert "Left aside for want of such a figure: resnet50 (eca)" in chosen.lines[-1]


def test_one_own_run_alone_is_left_aside_and_that_is_said():
    own = {("resnet50", "baseline"): Accuracy(99.0, 0.1, "your runs, 1", "own")}
    chosen = recommend([cell(), cell("ab", 10.5)], Budget(), own=own)
    assert chosen.best.cell.module == "ab"
    assert "Your own run is left aside" in chosen.lines[-1]


def test_nothing_within_the_budget_names_what_comes_nearest():
    with pytest.raises(WorkFailed, match="nothing is within 5 ms for certain; the fastest is plain resnet50"):
        recommend([cell(), cell("eca", 11.0)], Budget(latency=5))


def test_cells_that_failed_are_passed_over():
    failed = replace(cell("eca"), status="oom", latency_ms=None, overhead=None)
    assert [one.cell.module for one in recommend([cell(), failed], Budget()).candidates] == ["baseline"]
    with pytest.raises(WorkFailed):
        recommend([failed], Budget())


def test_published_accuracies_stand_on_one_axis_with_both_sources_named():
    eca = published_accuracy("resnet50", "eca")
    assert eca is not None
    assert eca.top1 == pytest.approx(published_accuracy("resnet50", "baseline").top1 + 1.32)
    assert "torchvision" in eca.origin
    assert "Klomp 2023" in eca.origin


def test_only_what_has_an_accuracy_is_worth_measuring():
    assert wanted(["resnet34", "resnet50"], ["se", "gct"], [("resnet34", "gct")]) == {
        "resnet34": ["gct"],
        "resnet50": ["se"],
    }


def test_the_sampling_error_is_that_of_a_binomial_share():
    assert sampling_error(75.0, 50_000) == pytest.approx(100 * 1.96 * (0.75 * 0.25 / 50_000) ** 0.5)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [("latency", "5ms", 5), ("latency", "0.2 s", 200), ("memory", "200MB", 2e8), ("params", "25M", 25e6),
     ("throughput", "300/s", 300), ("memory", "1GiB", 2**30)],
)  # fmt: skip
def test_limits_are_read_as_people_write_them(kind, text, value):
    assert quantity(kind, text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "5 bananas", "-3ms", "0ms", "ms"])
def test_a_limit_that_is_none_is_refused_with_an_example(text):
    with pytest.raises(RecalibError, match="such as 5ms"):
        quantity("latency", text)


def test_results_are_read_from_json_and_from_torn_lines_and_each_cell_counts_once(tmp_path):
    whole, lines = tmp_path / "a.json", tmp_path / "compare.jsonl"
    whole.write_text(json.dumps({"machine": {"device": "B"}, "cells": [values()]}))
    lines.write_text(json.dumps({"machine": {"device": "B"}}) + "\n" + json.dumps(values(ms=12.0)) + '\n{"model": "res')
    results = read_results([whole, tmp_path])
    assert results.machine == {"device": "B"}
    assert [one.latency_ms.median for one in results.cells] == [12.0]


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"cells": [{"model": "x"}]}'])
def test_a_file_without_cells_is_refused_in_one_line(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(RecalibError, match="recalib compare or latency wrote"):
        read_results([tmp_path / "x.json"])


def test_a_network_measured_along_as_a_reference_is_not_taken():
    cells = [cell(model="resnet18"), cell(model="resnet34")]
    assert recommend(cells, Budget(latency=100.0), among=["resnet18"]).best.cell.model == "resnet18"
    assert recommend(cells, Budget(latency=100.0)).best.cell.model == "resnet34"


def small(top1_agreement, weights="checkpoint", source="validation images", **other):
    return {"precision": "int8", "agreement": {"top1_agreement": top1_agreement, "weights": weights, "source": source,
                                               "images": 128, "relative_difference": 0.1, **other}}  # fmt: skip


def test_a_measured_accuracy_of_the_very_cell_comes_first_and_is_not_mixed_with_published_ones():
    cells = [cell(**small(99.0, top1=70.0)), cell("eca", 11.0, **small(98.0, top1=12.0)), cell("se", 11.5)]
    chosen = recommend(cells, Budget())
    assert chosen.best.cell.module == "baseline"
    assert {one.cell.module: one.accuracy.top1 for one in chosen.candidates} == {"baseline": 70.0, "eca": 12.0}
    assert "measured of these very files" in chosen.lines[3]
    assert "Left aside for want of such a figure: resnet50 (se)" in chosen.lines[3]


@pytest.mark.parametrize(
    ("told", "reason"),
    [(small(12.0), "agrees with float32 on 12.0 % of images only"), (small(99.0, weights="random"), "was not measured"),
     (small(99.0, source="noise"), "was not measured"), ({"precision": "int8"}, "was not measured")],
)  # fmt: skip
def test_no_published_accuracy_holds_for_a_precision_that_was_not_found_to_agree(told, reason):
    with pytest.raises(WorkFailed, match=f"no network was measured whose accuracy is known.*{reason}"):
        recommend([cell(**told), cell("eca", 11.0, **told)], Budget())


def test_at_another_resolution_or_an_agreeing_precision_a_published_accuracy_comes_with_a_sentence():
    lines = recommend([cell(size=320), cell("eca", 11.0, size=320)], Budget()).lines
    assert any("it was published for 224 px, and this is 320 px" in line for line in lines)
    lines = recommend([cell(**small(99.5)), cell("eca", 11.0, **small(99.0))], Budget()).lines
    assert any("published for float32, with which int8 agrees on 99.0 % of images" in line for line in lines)
    assert not any("Mind" in line for line in recommend([cell(), cell("eca", 11.0)], Budget()).lines)


def test_a_file_that_was_evaluated_is_told_beside_the_recommendation_with_its_paired_test():
    judged = {"images": 1000, "source": "validation images", "top1": 70.0, "top1_interval": [67.0, 73.0],
              "top1_fp32": 76.0, "only_here": 2, "only_fp32": 62, "p": 1e-12}  # fmt: skip
    alone = recommend([cell(), cell("eca", 11.0, accuracy=judged)], Budget())
    assert alone.best.accuracy.kind == "published"  # there is nothing measured to compare it with
    assert "The one that was measured is left aside: it alone cannot be compared" in alone.lines[3]
    assert alone.lines[-1] == (
        "The file of resnet50 with eca in eager, fp32, deployed: top-1 70.00 [67.0, 73.0] % of 1000 validation images; "
        "PyTorch in float32 76.00 %, which it differs from (McNemar's test, p = 1e-12)."
    )
    both = recommend([cell(accuracy=judged | {"top1": 69.0}), cell("eca", 11.0, accuracy=judged)], Budget())
    assert (both.best.cell.module, both.best.accuracy.kind, both.best.accuracy.error) == ("eca", "measured", 3.0)


def test_own_runs_are_used_where_nothing_else_is_known_even_one():
    own = {("net", "se"): Accuracy(90.0, 0.5, "your runs, 1", "own")}
    chosen = recommend([cell("baseline", model="net"), cell("se", 11.0, model="net")], Budget(), own=own)
    assert (chosen.best.cell.module, chosen.best.accuracy.kind) == ("se", "own")


def test_what_is_not_met_is_named_by_its_own_measure():
    few = [cell(params=25_000_000), cell("eca", 11.0, params=26_000_000)]
    with pytest.raises(WorkFailed, match="the fewest parameters has plain resnet50: 25 M"):
        recommend(few, Budget(params=1e6))
    with pytest.raises(WorkFailed, match="the least memory needs plain resnet50: 100 MB"):
        recommend(few, Budget(memory=1e6), memory=lambda one: 1e8 if one.module == "baseline" else 2e8)


def test_a_cost_that_cannot_be_told_is_not_called_a_cost():
    noisy = {"overhead": {"ratio": 0.622, "low": 0.32, "high": 1.17}}
    text = " ".join(recommend([cell(), cell("eca", 6.22, **noisy)], Budget()).lines)
    assert "eca costs what cannot be told from nothing, -37.8 % [-68.0, 17.0] over the plain resnet50" in text


def test_another_machine_is_not_called_this_one():
    text = " ".join(recommend([cell(), cell("eca", 11.0)], Budget(), where="another machine, ARM Cortex-A72").lines)
    assert "Why: on another machine, ARM Cortex-A72 eca costs" in text
    assert "this machine" not in text


@pytest.fixture
def results(tmp_path):
    """Times of a plain ResNet-50, of ECA and of SE, in a file that may say on what machine."""

    def write(machine):
        found = [values("baseline", 10.0), values("eca", 11.0), values("se", 10.1)]
        (tmp_path / "compare.json").write_text(json.dumps({"machine": machine, "cells": found}))
        return tmp_path / "compare.json"

    return write


def wish(file, *modules, **other):
    return Wish(["resnet50"], modules, Budget(), runtime="eager", results=[file], **other)


def never(model, schedule):
    raise AssertionError(f"{model} was measured")


def test_modules_that_were_not_asked_for_are_left_out_of_a_file_of_results(results):
    chosen = recommendation(wish(results({}), "se"), never)
    assert {one.cell.module for one in chosen.candidates} == {"baseline", "se"}
    assert chosen.best.cell.module == "se"  # though ECA gains more


def test_results_of_another_machine_are_called_that_and_what_they_lack_is_not_measured_here(results):
    chosen = recommendation(wish(results({"device": "ARM Cortex-A72", "threads": 4}), "eca", "ab"), never)
    text = " ".join(chosen.lines)
    assert "Why: on another machine, ARM Cortex-A72" in text
    assert "this machine" not in text
    assert chosen.lines[-1] == "Not measured there, hence not considered: resnet50 (ab)."


def test_results_that_do_not_say_their_machine_are_not_taken_for_this_one(results):
    text = " ".join(recommendation(wish(results({}), "eca"), never).lines)
    assert "Why: on a machine that the file does not describe" in text


def test_results_of_this_machine_are_this_machines(results):
    text = " ".join(recommendation(wish(results(describe(How().settings("fp32"))), "eca"), never).lines)
    assert "Why: on this machine eca costs" in text


def test_results_of_several_machines_are_refused(results, tmp_path):
    first = results({"device": "ARM Cortex-A72"})
    other = tmp_path / "other.json"
    other.write_text(first.read_text().replace("ARM Cortex-A72", "Intel N100").replace('"eca"', '"ab"'))
    asked = Wish(["resnet50"], ["eca", "ab"], Budget(), runtime="eager", results=[first, other])
    with pytest.raises(RecalibError, match="were measured on 2 machines"):
        recommendation(asked, never)


def test_budgets_that_are_met_are_named_as_they_were_given():
    text = recommend(
        [cell(), cell("eca", 11.0)], Budget(latency=20, params=30e6, memory=2e8), memory=lambda _: 1e8
    ).lines[0]
    assert text.endswith("the most accurate within 20 ms, 200 MB of memory, 30 M parameters.")
