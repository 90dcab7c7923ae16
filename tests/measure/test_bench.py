"""The op bench: kernels against a copy, training steps, and groups that survive an interrupted run."""

import copy
import json
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from recalib.errors import RecalibError, WorkFailed
from recalib.measure import kernels as bench_kernels
from recalib.measure import networks
from recalib.measure import training_steps as bench_training
from recalib.measure.kernels import kernels_to_file, measure_kernels
from recalib.measure.run import run
from recalib.measure.session import How
from recalib.measure.targets import MODULES, TARGETS, Setting, bench, chosen, not_here
from recalib.measure.training_steps import TRAINING
from recalib.ops import passes_torch
from recalib.runtimes import Settings, find_protocol

CPU = torch.device("cpu")
TINY = Setting("cifar_resnet8", "eager", 2, "fp32", 32)


@pytest.fixture(autouse=True)
def quick(monkeypatch, in_process):
    """Times do not matter here, that tests are quick does."""
    monkeypatch.setattr(bench_kernels, "WARM_UP_S", 0.0)


def measured(settings, modules, out, **options):
    """The cells of each group."""
    groups = []
    run(bench(settings, modules, How(rounds=5)), out, stored=groups.append, **options)
    return groups


def test_every_pass_is_compared_with_a_copy_in_both_layouts():
    kernels = measure_kernels(CPU, (2, 8, 6, 6), rounds=5)
    assert {k.layout for k in kernels} == {"NCHW", "channels_last"}
    volume = 2 * 8 * 6 * 6 * 4
    maps = {"copy": 2, "moments": 1, "integrate": 3, "mask_and_reduce": 4, "differentiate": 3}
    for kernel in kernels:
        assert len(kernel.ms) == 5
        assert kernel.bytes == volume * maps.get(kernel.name, kernel.bytes // volume)
    assert set(maps) < {k.name for k in kernels}
    assert all(k.share["ratio"] == 1 for k in kernels if k.name == "copy")


def test_the_share_is_the_copys_time_for_as_many_bytes_over_the_passes():
    for kernel in measure_kernels(CPU, (2, 8, 6, 6), rounds=5):
        assert kernel.share["low"] <= kernel.share["ratio"] <= kernel.share["high"]
        assert kernel.gb_per_s == pytest.approx(kernel.bytes / sorted(kernel.ms)[2] / 1e6)


@pytest.mark.parametrize("name", ["moments", "integrate", "mask_and_reduce", "differentiate"])
def test_a_pass_that_computes_something_else_has_no_bandwidth(name, monkeypatch):
    right = getattr(passes_torch, name)

    def wrong(*args):
        found = right(*args)
        return tuple(t * 1.1 for t in found) if isinstance(found, tuple) else found * 1.1

    monkeypatch.setattr(passes_torch, name, wrong)
    with pytest.raises(WorkFailed, match=r"differs by .* from float64"):
        measure_kernels(CPU, (2, 8, 6, 6), rounds=5)


def test_kernels_are_kept_with_their_machine(tmp_path):
    kernels_to_file(tmp_path / "new" / "kernels.jsonl", CPU, shape=(1, 4, 3, 3), rounds=5)
    about, first, *rest = [json.loads(line) for line in (tmp_path / "new" / "kernels.jsonl").read_text().splitlines()]
    assert about["run"].keys() == {"command", "code", "source"}
    assert first["machine"]["versions"]["torch"] == torch.__version__
    assert len(rest[0]["ms"]) == 5


def test_a_training_step_is_forward_loss_backward_and_update():
    backbone = networks.backbone("cifar_resnet8")
    images = torch.randn(4, 3, 32, 32)
    settings = Settings("fp32", 1, CPU, find_protocol("clean"))
    session = bench_training.TrainingSession(backbone, images, settings, compiled=False, fused=True)
    twin = copy.deepcopy(backbone).train()
    optimizer = torch.optim.SGD(twin.parameters(), lr=1e-3, momentum=0.9)
    for _ in range(2):
        session.run()
        loss = F.cross_entropy(twin(images), torch.arange(4))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        torch.testing.assert_close(session.output(), loss.detach())
    for a, b in zip(session.model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_training_steps_are_compared_with_the_plain_network_in_its_fastest_form(tmp_path, monkeypatch):
    monkeypatch.setattr(bench_training, "FORMS", bench_training.FORMS[:1])  # compiling takes minutes
    group = replace(TINY, runtime=TRAINING)
    (cells,) = measured([group], ["se", "timm:se"], tmp_path / "cells.jsonl")
    assert [(c.module, c.deployed) for c in cells] == [
        ("baseline", False),
        ("baseline", True),
        ("se", False),
        ("timm:se", False),
    ]
    assert {(c.status, c.message) for c in cells} == {("ok", "")}
    assert min(c.overhead.ratio for c in cells if c.module == "baseline") == 1


def test_a_network_that_cannot_train_leaves_the_others(tmp_path, monkeypatch):
    monkeypatch.setattr(bench_training, "FORMS", bench_training.FORMS[:1])
    right = bench_training.TrainingSession.run

    def run(session):
        right(session)
        if any("attention" in name for name, _ in session.model.named_parameters()):
            session.loss = session.loss * float("nan")

    monkeypatch.setattr(bench_training.TrainingSession, "run", run)
    (cells,) = measured([replace(TINY, runtime=TRAINING)], ["se"], tmp_path / "cells.jsonl")
    assert [c.status for c in cells] == ["ok", "ok", "failed"]
    assert "not finite" in cells[-1].message


def test_a_finished_group_is_taken_from_the_file(tmp_path):
    out = tmp_path / "cells.jsonl"
    (first,) = measured([TINY], ["se", "timm:se"], out)
    assert [(c.module, c.deployed) for c in first] == [
        ("baseline", False),
        ("baseline", True),
        ("se", False),
        ("se", True),
        ("timm:se", False),
    ]
    groups = [TINY, replace(TINY, batch=1)]
    found = run(bench(groups, ["se", "timm:se"], How(rounds=5)), out, resume=True)
    assert found.cells[:5] == first
    assert {c.batch for c in found.cells[5:]} == {1}
    assert len(out.read_text().splitlines()) == 2 * (2 + 5)


def test_targets_are_chosen_by_name_and_narrowed():
    assert [t.name for t in chosen()] == list(TARGETS)
    assert [t.name for t in chosen(["t4", "T6"])] == ["T4a", "T4b", "T6"]
    (target,) = chosen(["T4a"], models=["resnet18"], batches=[8])
    assert target.settings == (Setting("resnet18", "openvino", 8, "fp32"),)
    with pytest.raises(RecalibError, match=r"unknown target 'T7'; did you mean"):
        chosen(["T7"])
    with pytest.raises(RecalibError, match=r"nothing of T4a fits; there is .*resnet50 in openvino at batch 1"):
        chosen(["T4a"], runtimes=["eager"])


def test_what_needs_a_gpu_says_so():
    assert not_here(TARGETS["T1"], CPU) == "needs an NVIDIA GPU"
    assert not_here(TARGETS["T4a"], CPU) is None
    assert not_here(TARGETS["T4a"], torch.device("cuda")) is not None


def test_a_larger_group_is_predicted_to_take_longer():
    def predicted(modules, batch):
        (group,) = bench([Setting("resnet50", "openvino", batch, "fp32")], modules, How()).groups
        return group.seconds(How())

    assert predicted(MODULES, 1) < predicted(MODULES, 8)
    assert predicted(["se"], 1) < predicted(MODULES, 1)
