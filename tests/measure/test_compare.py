"""A comparison measures every cell in real runtimes, and one that cannot be measured stops no other."""

import json
import statistics

import pytest
import torch

from recalib.cost.count import cost
from recalib.data.cifar import read_cifar
from recalib.data.normalization import NORMALIZATIONS
from recalib.errors import RecalibError, WorkFailed
from recalib.measure import networks, session
from recalib.measure.cells import Overhead
from recalib.measure.run import run as measure_schedule
from recalib.measure.schedule import comparison
from recalib.measure.session import How
from recalib.measure.store import read_results
from recalib.models import create_model
from recalib.runtimes import RUNTIMES
from recalib.surgery import insert_, save_checkpoint
from recalib.version import code_digest

TINY = {"models": ("cifar_resnet8",), "modules": ("se",), "runtimes": ("eager",), "size": 32, "rounds": 5, "threads": 1}


def insert(network, module):
    insert_(network, module)
    return network.eval()


pytestmark = pytest.mark.usefixtures("in_process")


def run(tmp_path, *, resume=False, overwrite=False, progress=lambda *_: None, **changes):
    asked = TINY | changes
    how = How(**{name: asked.pop(name) for name in ("rounds", "threads", "protocol", "weights") if name in asked})
    schedule = comparison(**asked, how=how)
    out = tmp_path / "compare.jsonl"
    return measure_schedule(schedule, out, resume=resume, overwrite=overwrite, progress=progress)


def lines(tmp_path):
    return [json.loads(line) for line in (tmp_path / "compare.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def everywhere(tmp_path_factory, in_process):
    folder = tmp_path_factory.mktemp("compare")
    return run(folder, runtimes=("eager", "onnxruntime", "openvino"), batch=2), lines(folder)


@pytest.fixture(scope="module")
def once(tmp_path_factory, in_process):
    folder = tmp_path_factory.mktemp("once")
    return run(folder), (folder / "compare.jsonl").read_bytes()


@pytest.fixture
def first(once, tmp_path):
    """What a run gave whose file lies in `tmp_path`."""
    (tmp_path / "compare.jsonl").write_bytes(once[1])
    return once[0]


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
        samples = cell.latency_ms.samples
        assert len(samples) == 5
        assert cell.latency_ms.median == statistics.median(samples)
        assert cell.latency_ms.min == min(samples) > 0
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
        fastest = min(cells[:2], key=lambda cell: cell.latency_ms.median)
        assert fastest.overhead == Overhead(1.0, 1.0, 1.0, 1.0, False)
        for cell in cells:
            assert cell.overhead.ratio == cell.latency_ms.median / fastest.latency_ms.median
            assert cell.overhead.low <= cell.overhead.ratio <= cell.overhead.high
            assert cell.baseline == ("deployed" if fastest.deployed else "undeployed")


def test_the_file_holds_the_machine_and_then_every_cell(everywhere):
    found, written = everywhere
    assert written == [{"run": found.run}, {"machine": found.machine}, *found.to_dict()["cells"]]


def test_the_next_deeper_resnet_is_measured_in_the_same_run(tmp_path):
    cells = run(tmp_path, models=("resnet18",), modules=()).cells
    assert [(cell.model, cell.module, cell.deployed) for cell in cells] == [
        (model, "baseline", deployed) for model in ("resnet18", "resnet34") for deployed in (False, True)
    ]
    assert cells[2].overhead.ratio == 1.0 or cells[3].overhead.ratio == 1.0


def test_cells_of_a_run_are_timed_in_turn(tmp_path, monkeypatch):
    calls = []
    time_call = session.timer.time_call
    monkeypatch.setattr(session.timer, "time_call", lambda one: calls.append(one) or time_call(one))
    run(tmp_path, protocol="paper", rounds=5)
    timed = calls[-4 * 5 :]  # after the warm-up
    assert len(set(timed[:4])) == 4
    assert timed == timed[:4] * 5


def test_the_papers_protocol_is_another_quantity_the_minimum_of_a_hundred(tmp_path):
    cells = run(tmp_path, protocol="paper", rounds=None).cells
    assert {len(cell.latency_ms.samples) for cell in cells} == {100}
    fastest = min(cell.latency_ms.min for cell in cells if cell.module == "baseline")
    assert all(cell.overhead.ratio == cell.latency_ms.min / fastest for cell in cells)
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
    cells = run(tmp_path, models=("test_vit",), size=160).cells
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
    assert [len(cell.latency_ms.samples) for cell in stopped.cells] == [7] * 4
    assert not any(cell.complete for cell in stopped.cells)
    assert stopped.cells[2].overhead.low <= stopped.cells[2].overhead.high
    assert len(lines(tmp_path)) == 6
    resumed = run(tmp_path, resume=True)
    assert [len(cell.latency_ms.samples) for cell in resumed.cells] == [5] * 4
    assert not resumed.interrupted


def test_too_few_rounds_for_an_interval_are_not_reported(tmp_path):
    assert run(tmp_path, progress=stop_after(2)).cells == []


TWO = ("cifar_resnet8", "cifar_resnet14")


def test_resume_keeps_a_finished_run_to_the_last_sample_and_measures_only_what_is_missing(tmp_path, first):
    measured = set()
    again = run(tmp_path, models=TWO, resume=True, progress=lambda what, *_: measured.add(what.split(":")[0]))
    assert again.cells[:4] == first.cells
    assert [cell.model for cell in again.cells[4:]] == ["cifar_resnet14"] * 4
    assert measured == {"cifar_resnet14 in eager"}


def test_one_broken_line_costs_its_own_run_and_no_other(tmp_path, capsys):
    first = run(tmp_path, models=TWO)
    file = tmp_path / "compare.jsonl"
    written = file.read_text().splitlines()
    file.write_text("\n".join([*written[:3], written[3][:40], *written[4:]]) + "\n")
    measured = set()
    again = run(tmp_path, models=TWO, resume=True, progress=lambda what, *_: measured.add(what.split(":")[0]))
    assert f"{file}:4: broken line skipped" in capsys.readouterr().err
    assert again.cells[4:] == first.cells[4:]
    assert measured == {"cifar_resnet8 in eager"}
    assert len(again.cells) == 8


@pytest.mark.parametrize("other", [{"size": 40}, {"protocol": "paper"}, {"modules": ("se", "ab")}])
def test_resume_keeps_nothing_that_was_measured_otherwise(tmp_path, first, other):
    again = run(tmp_path, resume=True, **other)
    assert all(cell not in first.cells for cell in again.cells)


def test_resume_keeps_nothing_that_was_measured_on_another_machine(tmp_path, first):
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


def test_a_run_that_is_there_is_not_forgotten_without_a_word(tmp_path, first):
    before = (tmp_path / "compare.jsonl").read_bytes()
    with pytest.raises(RecalibError, match=r"holds 4 measured cells; --resume .* --overwrite"):
        run(tmp_path)
    assert (tmp_path / "compare.jsonl").read_bytes() == before
    again = run(tmp_path, overwrite=True)
    assert len(lines(tmp_path)) == 6
    assert again.cells[0].latency_ms != first.cells[0].latency_ms


def test_resume_keeps_nothing_that_other_code_measured_and_says_so(tmp_path, first):
    file = tmp_path / "compare.jsonl"
    file.write_text(file.read_text().replace(first.cells[0].code, "0.1.0+other"))
    again = run(tmp_path, resume=True)
    assert again.other_code == 4
    assert again.cells[0].latency_ms != first.cells[0].latency_ms
    assert len(read_results([file]).cells) == 8  # those of before are still there, and are not joined


def test_a_cell_says_which_code_made_which_form_and_the_file_which_command(everywhere):
    cells = everywhere[0].cells
    assert {cell.code for cell in cells} == {code_digest()}
    eager = {(cell.module, cell.deployed): cell.form for cell in cells if cell.runtime == "eager"}
    assert len(set(eager.values())) == 4
    assert everywhere[1][0]["run"].keys() == {"command", "code", "source", "started"}


def test_time_that_is_limited_goes_first_to_what_decides_and_the_rest_is_left_out(tmp_path):
    how, made = How(threads=1, within=0.001), []
    (group,) = comparison(("resnet18",), ("se",), ("eager",), size=32, how=how).groups

    def progress(what, done, of):
        made.append(what)

    cells = session.measure(group, how, progress, seconds=1e-3)  # two are always prepared
    assert [(cell.module, cell.deployed) for cell in cells] == [("baseline", True), ("se", True)]
    assert {cell.complete for cell in cells} == {True}
    assert 5 <= len(cells[0].latency_ms.samples) <= 10
    assert cells[1].overhead is not None


def test_rounds_go_on_until_the_intervals_are_as_narrow_as_asked(tmp_path, monkeypatch):
    widths = iter([9.0, 2.0, 1.0])
    monkeypatch.setattr(session, "_widest", lambda *_: next(widths))
    how = How(threads=1, within=1.0)
    (group,) = comparison(("cifar_resnet8",), ("se",), ("eager",), size=32, how=how).groups
    cells = {(cell.module, cell.deployed): cell for cell in session.measure(group, how)}
    assert len(cells["se", True].latency_ms.samples) == 10 + 3 * 10
    assert len(cells["se", False].latency_ms.samples) == 10  # as inserted it does not decide
    assert cells["se", False].overhead.ratio > 0
    assert cells["se", True].load is None or cells["se", True].load["others"] >= 0


def test_a_checkpoint_with_attention_is_that_modules_network_and_its_plain_one_is_without(tmp_path):
    trained = insert(create_model("cifar_resnet8"), "eca")
    save_checkpoint(trained, tmp_path / "eca.safetensors")
    images = torch.randn(1, 3, 32, 32)
    whole, module = networks.trained("cifar_resnet8", tmp_path / "eca.safetensors")
    assert module == "eca"
    assert torch.equal(whole(images), trained(images))
    plain = networks.backbone("cifar_resnet8", tmp_path / "eca.safetensors")
    assert not any("attention" in name for name, _ in plain.named_modules())


def test_what_is_timed_is_evaluated_where_labelled_images_are_given(tmp_path, cifar):
    trained = insert(create_model("cifar_resnet8"), "eca")
    save_checkpoint(trained, tmp_path / "eca.safetensors")
    how = How(rounds=5, threads=1, weights=tmp_path / "eca.safetensors", data=cifar, images=40)
    (group,) = comparison(("cifar_resnet8",), ("eca", "se"), ("eager",), size=32, batch=3, how=how).groups
    found = {(cell.module, cell.deployed): cell.accuracy for cell in session.measure(group, how)}
    assert {key for key, accuracy in found.items() if accuracy} == {("eca", False), ("eca", True)}
    test = read_cifar(cifar, "cifar10", train=False).first(40)
    with torch.inference_mode():
        right = trained(NORMALIZATIONS["cifar"](test.pixels)).argmax(1) == test.labels
    for accuracy in (found["eca", False], found["eca", True]):
        assert accuracy["images"] == len(test.labels)
        assert accuracy["top1"] == accuracy["top1_fp32"] == pytest.approx(100 * float(right.double().mean()))
        assert (accuracy["only_here"], accuracy["only_fp32"], accuracy["p"]) == (0, 0, 1.0)


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
    assert float((plain - attentive).abs().max() / plain.abs().max()) > 100 * networks.TOLERANCE["fp32"]
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
