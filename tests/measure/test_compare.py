"""A comparison measures every cell in real runtimes, and one that cannot be measured stops no other."""

import json
import statistics
from dataclasses import replace

import pytest
import torch

from recalib.cost.count import cost
from recalib.errors import RecalibError, WorkFailed
from recalib.measure import group, networks
from recalib.measure.compare import compare
from recalib.models import create_model
from recalib.runtimes import PROTOCOLS, RUNTIMES
from recalib.surgery import save_checkpoint

TINY = {"models": ("cifar_resnet8",), "modules": ("se",), "runtimes": ("eager",), "size": 32, "rounds": 5, "threads": 1}


@pytest.fixture(autouse=True)
def no_warm_up(monkeypatch):
    """Times do not matter here, that tests are quick does."""
    monkeypatch.setitem(PROTOCOLS, "clean", replace(PROTOCOLS["clean"], warm_up_s=0.0))


def run(tmp_path, **changes):
    return compare(out=tmp_path / "compare.jsonl", **TINY | changes)


def lines(tmp_path):
    return [json.loads(line) for line in (tmp_path / "compare.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def everywhere(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    return run(folder, runtimes=("eager", "onnxruntime", "openvino"), batch=2), lines(folder)


def test_every_module_is_measured_in_every_runtime_before_and_after_deploy(everywhere):
    cells = everywhere[0].cells
    assert [(cell.runtime, cell.module, cell.deployed) for cell in cells] == [
        (runtime, module, deployed)
        for runtime in ("eager", "onnxruntime", "openvino")
        for module in ("baseline", "se")
        for deployed in (False, True)
    ]
    assert {(cell.status, cell.message) for cell in cells} == {("ok", "")}
    assert all(cell.setup_s > 0 and cell.complete for cell in cells)


def test_a_cell_keeps_its_raw_samples_and_says_what_was_run(everywhere):
    for cell in everywhere[0].cells:
        samples = cell.latency_ms["samples"]
        assert len(samples) == 5
        assert cell.latency_ms["median"] == statistics.median(samples)
        assert cell.latency_ms["min"] == min(samples) > 0
        assert cell.layout == ("channels_last" if cell.runtime == "eager" else "runtime's own")
        assert (cell.device, cell.batch, cell.size, cell.precision) == ("cpu", 2, 32, "fp32")


def test_a_cells_cost_is_that_of_one_pass_over_the_batch(everywhere):
    plain = everywhere[0].cells[0]
    expected = cost(create_model("cifar_resnet8"), (2, 3, 32, 32))
    assert (plain.params, plain.macs, plain.bytes_moved) == (expected.params, expected.macs, expected.bytes_moved)
    deployed = everywhere[0].cells[1]
    assert deployed.bytes_moved < plain.bytes_moved  # norms are folded away


def test_overheads_are_over_the_faster_form_of_the_plain_network_in_the_same_runtime(everywhere):
    for runtime in ("eager", "onnxruntime", "openvino"):
        cells = [cell for cell in everywhere[0].cells if cell.runtime == runtime]
        fastest = min(cells[:2], key=lambda cell: cell.latency_ms["median"])
        assert fastest.overhead == {"ratio": 1.0, "low": 1.0, "high": 1.0, "p": 1.0, "distinguishable": False}
        for cell in cells:
            assert cell.overhead["ratio"] == cell.latency_ms["median"] / fastest.latency_ms["median"]
            assert cell.overhead["low"] <= cell.overhead["ratio"] <= cell.overhead["high"]
            assert cell.baseline == ("deployed" if fastest.deployed else "undeployed")


def test_the_file_holds_the_machine_and_then_every_cell(everywhere):
    comparison, written = everywhere
    assert written == [{"machine": comparison.machine}, *comparison.to_dict()["cells"]]


def test_the_next_deeper_resnet_is_measured_in_the_same_run(tmp_path):
    cells = run(tmp_path, models=("resnet18",), modules=()).cells
    assert [(cell.model, cell.module, cell.deployed) for cell in cells] == [
        (model, "baseline", deployed) for model in ("resnet18", "resnet34") for deployed in (False, True)
    ]
    assert cells[2].overhead["ratio"] == 1.0 or cells[3].overhead["ratio"] == 1.0


def test_cells_of_a_run_are_timed_in_turn(tmp_path, monkeypatch):
    calls = []
    time_call = group.timer.time_call
    monkeypatch.setattr(group.timer, "time_call", lambda session: calls.append(session) or time_call(session))
    run(tmp_path, protocol="paper", rounds=5)
    timed = calls[-4 * 5 :]  # after the warm-up
    assert len(set(timed[:4])) == 4
    assert timed == timed[:4] * 5


def test_the_papers_protocol_is_another_quantity_the_minimum_of_a_hundred(tmp_path):
    cells = run(tmp_path, protocol="paper", rounds=None).cells
    assert {len(cell.latency_ms["samples"]) for cell in cells} == {100}
    fastest = min(cell.latency_ms["min"] for cell in cells if cell.module == "baseline")
    assert all(cell.overhead["ratio"] == cell.latency_ms["min"] / fastest for cell in cells)
    assert {(cell.protocol, cell.layout) for cell in cells} == {("paper", "contiguous")}


def test_half_precision_moves_half_the_bytes(tmp_path, everywhere):
    cells = run(tmp_path, precision="bf16", batch=2, runtimes=("eager", "onnxruntime")).cells
    assert [cell.status for cell in cells] == ["ok"] * 4 + ["unsupported"] * 4
    assert cells[0].bytes_moved == pytest.approx(everywhere[0].cells[0].bytes_moved / 2, rel=0.01)
    assert "has no bf16 on this cpu" in cells[4].message


def break_session(monkeypatch, how):
    """Spoil what eager sessions of networks with attention do; `how` replaces `run` or `output`."""

    def prepare(model, example, settings):
        session = type(RUNTIMES["eager"]).prepare(RUNTIMES["eager"], model, example, settings)
        if any(parameter.ndim == 2 and parameter.shape[1] < 8 for parameter in model.parameters()):  # se's layers
            for name, replacement in how(session).items():
                setattr(session, name, replacement)
        return session

    monkeypatch.setattr(RUNTIMES["eager"], "prepare", prepare, raising=False)


def test_a_fast_wrong_answer_is_never_reported_as_a_latency(tmp_path, monkeypatch):
    break_session(monkeypatch, lambda session: {"output": lambda right=session.output: right() * 1.01})
    cells = run(tmp_path).cells
    assert [cell.status for cell in cells] == ["ok", "ok", "failed", "failed"]
    assert cells[2].message.startswith("wrong output: it differs by ")
    assert cells[2].latency_ms is cells[2].overhead is None


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to\nallocate"),
            "oom",
            "OutOfMemoryError: CUDA out of memory",
        ),
        (RuntimeError("something else\nsecond line"), "failed", "RuntimeError: something else"),
        (RecalibError("not this way"), "unsupported", "not this way"),
    ],
)
def test_what_goes_wrong_in_one_cell_is_said_there_and_the_others_are_measured(
    tmp_path, monkeypatch, error, status, message
):
    def fail():
        raise error

    break_session(monkeypatch, lambda session: {"run": fail})
    cells = run(tmp_path).cells
    assert [cell.status for cell in cells] == ["ok", "ok", status, status]
    assert cells[2].message.startswith(message)
    assert "\n" not in cells[2].message
    assert cells[0].overhead is not None


def test_a_batch_that_does_not_fit_into_memory_is_recorded_without_being_tried(tmp_path):
    cells = run(tmp_path, batch=10_000_000).cells
    assert {cell.status for cell in cells} == {"oom"}
    assert "GiB are left" in cells[0].message


def test_a_module_that_finds_no_place_in_a_network_is_unsupported_there(tmp_path):
    cells = run(tmp_path, models=("torchvision:shufflenet_v2_x0_5",)).cells
    assert [cell.status for cell in cells] == ["ok", "ok", "unsupported", "unsupported"]
    assert "where" in cells[2].message


def test_a_runtime_that_is_missing_says_how_to_install_it_and_the_others_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr(RUNTIMES["openvino"], "missing", lambda: "openvino not installed: pip install it")
    cells = run(tmp_path, runtimes=("openvino", "eager")).cells
    assert [cell.status for cell in cells] == ["unsupported"] * 4 + ["ok"] * 4
    assert cells[0].message == "openvino not installed: pip install it"
    with pytest.raises(WorkFailed, match="openvino not installed: pip install it"):
        run(tmp_path, runtimes=("openvino",))


def stop_after(rounds):
    def progress(what, done, of):
        if what.endswith("timing") and done == rounds:
            raise KeyboardInterrupt

    return progress


def test_an_interrupted_run_gives_what_was_measured_and_resume_measures_it_anew(tmp_path):
    stopped = run(tmp_path, rounds=50, progress=stop_after(7))
    assert stopped.interrupted
    assert [len(cell.latency_ms["samples"]) for cell in stopped.cells] == [7] * 4
    assert not any(cell.complete for cell in stopped.cells)
    assert stopped.cells[2].overhead["low"] <= stopped.cells[2].overhead["high"]
    assert len(lines(tmp_path)) == 5
    resumed = run(tmp_path, resume=True)
    assert [len(cell.latency_ms["samples"]) for cell in resumed.cells] == [5] * 4
    assert not resumed.interrupted


def test_too_few_rounds_for_an_interval_are_not_reported(tmp_path):
    assert run(tmp_path, progress=stop_after(2)).cells == []


TWO = ("cifar_resnet8", "cifar_resnet14")


def test_resume_keeps_a_finished_run_to_the_last_sample_and_measures_only_what_is_missing(tmp_path):
    first = run(tmp_path)
    measured = set()
    again = run(tmp_path, models=TWO, resume=True, progress=lambda what, *_: measured.add(what.split(":")[0]))
    assert again.cells[:4] == first.cells
    assert [cell.model for cell in again.cells[4:]] == ["cifar_resnet14"] * 4
    assert measured == {"cifar_resnet14 in eager"}


def test_one_broken_line_costs_its_own_run_and_no_other(tmp_path, capsys):
    first = run(tmp_path, models=TWO)
    file = tmp_path / "compare.jsonl"
    written = file.read_text().splitlines()
    file.write_text("\n".join([*written[:2], written[2][:40], *written[3:]]) + "\n")
    measured = set()
    again = run(tmp_path, models=TWO, resume=True, progress=lambda what, *_: measured.add(what.split(":")[0]))
    assert f"{file}:3: broken line skipped" in capsys.readouterr().err
    assert again.cells[4:] == first.cells[4:]
    assert measured == {"cifar_resnet8 in eager"}
    assert len(again.cells) == 8


@pytest.mark.parametrize("other", [{"size": 40}, {"protocol": "paper"}, {"modules": ("se", "ab")}])
def test_resume_keeps_nothing_that_was_measured_otherwise(tmp_path, other):
    first = run(tmp_path)
    again = run(tmp_path, resume=True, **other)
    assert all(cell not in first.cells for cell in again.cells)


def test_resume_keeps_nothing_that_was_measured_on_another_machine(tmp_path):
    first = run(tmp_path)
    file = tmp_path / "compare.jsonl"
    file.write_text(file.read_text().replace(first.cells[0].machine, "another"))
    again = run(tmp_path, resume=True)
    assert again.cells[0].machine == first.cells[0].machine
    assert again.cells[0].latency_ms != first.cells[0].latency_ms


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"models": ("resnet5",)}, "unknown model 'resnet5'; did you mean"),
        ({"models": ("cifar_resnet8", "resnet_50")}, "unknown model 'resnet_50'; did you mean"),
        ({"modules": ("ecaa",)}, "unknown attention 'ecaa'; did you mean eca"),
        ({"runtimes": ("eager", "open_vino")}, "unknown runtime 'open_vino'; did you mean openvino"),
        ({"precision": "fp8"}, "unknown precision 'fp8'; did you mean"),
        ({"protocol": "fast"}, "unknown protocol 'fast'; there are clean, paper"),
        ({"size": 0}, "size=0: at least 1"),
        ({"rounds": 4}, "rounds=4: at least 5"),
    ],
)
def test_a_wrong_argument_is_named_before_anything_is_measured_or_written(tmp_path, wrong, message):
    (tmp_path / "compare.jsonl").write_text("what was measured yesterday\n")
    with pytest.raises(RecalibError, match=message):
        run(tmp_path, **wrong)
    assert (tmp_path / "compare.jsonl").read_text() == "what was measured yesterday\n"


def test_names_are_resolved_and_measured_once(tmp_path):
    cells = run(tmp_path, modules=("meanrew", "ab", "baseline")).cells
    assert [cell.module for cell in cells] == ["baseline", "baseline", "ab", "ab"]


@pytest.mark.parametrize("module", ["ab", "gct", "srm"])
def test_a_compared_network_is_neither_blind_to_its_attention_nor_out_of_range(module):
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    backbones = {"resnet50": networks.backbone("resnet50")}
    plain, attentive = (
        networks.network(backbones, "resnet50", name).reference(images) for name in ("baseline", module)
    )
    assert float((plain - attentive).abs().max() / plain.abs().max()) > 100 * group.TOLERANCE["fp32"]
    assert 1e-3 < plain.abs().max() < 1e6


def test_given_weights_are_those_that_are_compared(tmp_path):
    trained = create_model("cifar_resnet8")
    save_checkpoint(trained, tmp_path / "trained.safetensors")
    backbone = networks.backbone("cifar_resnet8", tmp_path / "trained.safetensors")
    attentive = networks.network({"cifar_resnet8": backbone}, "cifar_resnet8", "se").made()
    for compared in (backbone.state_dict(), attentive.state_dict()):
        assert all(torch.equal(compared[name], value) for name, value in trained.state_dict().items())


def test_weights_belong_to_one_model(tmp_path):
    with pytest.raises(RecalibError, match="belong to one model, and 2 are named"):
        run(tmp_path, models=TWO, weights=tmp_path / "trained.safetensors")


def test_the_callers_random_numbers_and_threads_are_left_alone(tmp_path):
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        before = torch.get_rng_state()
        run(tmp_path, threads=1)
        assert torch.equal(torch.get_rng_state(), before)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
