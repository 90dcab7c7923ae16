"""``recalib study`` from a recipe to a page."""

import json
import os
import signal

import pytest
import torch
from tests.jobs import detection_job, started_here

from recalib import cifar_resnet, save_checkpoint
from recalib.cli import main
from recalib.detection.recipes import RECIPES
from recalib.runs.executor import Here


def test_a_study_trains_measures_and_draws(cifar, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Here, "start", started_here)
    out = tmp_path / "study"
    flags = ["--data", str(cifar), "--model", "cifar_resnet8", "--attention", "eca", "--deeper", "cifar_resnet14",
             "--seeds", "1", "--epochs", "1", "--limit", "40", "--batch", "20", "--rounds", "2", "--out", str(out),
             "--device", "cpu"]  # fmt: skip
    assert main(["study", "cifar-quick", *flags]) == 0
    assert "cifar_resnet8 eca" in capsys.readouterr().out
    found = json.loads((out / "study.json").read_text())
    assert [len(network["scores"]) for network in found["networks"]] == [1, 1, 1]
    assert "Does attention help cifar_resnet8?" in (out / "study.html").read_text()
    assert main(["report", str(out), "--out", str(tmp_path / "page.html")]) == 0
    assert "Does attention help cifar_resnet8?" in (tmp_path / "page.html").read_text()


def test_a_study_that_is_stopped_is_one_of_fewer_seeds_and_its_page_says_so(cifar, tmp_path, capsys, monkeypatch):
    begun = iter(range(10))

    def stopped_after_three(*how):
        ended = started_here(*how)
        if next(begun) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return ended

    monkeypatch.setattr(Here, "start", stopped_after_three)
    out = tmp_path / "study"
    words = ["study", "cifar-quick", "--data", str(cifar), "--model", "cifar_resnet8", "--attention", "eca", "--deeper",
             "none", "--seeds", "2", "--epochs", "1", "--limit", "40", "--batch", "20", "--rounds", "0", "--out",
             str(out), "--device", "cpu"]  # fmt: skip
    assert main(words) == 1
    said = capsys.readouterr()
    assert "1 of 4 runs are missing (cifar_resnet8 eca 1): this study is open" in said.out
    assert "cifar_resnet8 eca: " in said.out
    assert "stopped; the same command with --resume goes on" in said.err
    found = json.loads((out / "study.json").read_text())
    assert [len(network["scores"]) for network in found["networks"]] == [2, 1]
    assert "1 of 4 runs are missing" in (out / "study.html").read_text()
    monkeypatch.setattr(Here, "start", None)  # nothing is begun
    assert main([*words, "--minutes", "0"]) == 0
    assert "1 of 4 runs are missing" in capsys.readouterr().out


@pytest.fixture
def here(monkeypatch):
    """Runs are those of this process."""
    monkeypatch.setattr(Here, "start", started_here)


SMALL = ("--seeds", "1", "--epochs", "1", "--limit", "8", "--batch", "4", "--device", "cpu", "--workers", "0")


@pytest.mark.slow(reason="four trainings and their times")
@pytest.mark.usefixtures("here")
def test_a_study_of_placement_has_a_row_for_every_place(cifar, tmp_path, capsys):
    out = tmp_path / "study"
    words = ["--model", "cifar_resnet14", "--attention", "eca", "--placement", "--rounds", "2", "--out", str(out)]
    assert main(["study", "cifar-quick", "--data", str(cifar), *words, *SMALL]) == 0
    found = json.loads((out / "study.json").read_text())
    assert [network["name"] for network in found["networks"]] == [
        "cifar_resnet14", "cifar_resnet14 eca", "cifar_resnet14 eca stages=3", "cifar_resnet14 eca stages=2+3",
        "cifar_resnet14 eca every=2",
    ]  # fmt: skip
    assert len({network["params"] for network in found["networks"]}) > 3
    assert all(network["ms"] > 0 and len(network["scores"]) == 1 for network in found["networks"])
    assert "stages=2+3" in (out / "study.html").read_text()


@pytest.mark.slow(reason="three trainings")
@pytest.mark.usefixtures("here")
def test_a_study_of_finetuning_starts_from_the_weights_and_as_the_identity(cifar, tmp_path):
    torch.manual_seed(0)
    weights, out = tmp_path / "trained.safetensors", tmp_path / "study"
    save_checkpoint(cifar_resnet(8), weights, architecture="cifar_resnet8")
    words = ["--weights", str(weights), "--attention", "eca", "ab", "--rounds", "0", "--out", str(out)]
    assert main(["study", "finetune", "--data", str(cifar), *words, *SMALL]) == 0
    found = json.loads((out / "study.json").read_text())
    assert found["study"] == "finetune-short"
    assert [network["name"] for network in found["networks"]] == [
        "cifar_resnet8",
        "cifar_resnet8 eca",
        "cifar_resnet8 ab",
    ]
    before = [network["initialized"] for network in found["networks"]]
    assert before[0] == before[1] == before[2]  # the identity, which ab is anyway


@pytest.mark.slow(reason="two trainings of a detector")
@pytest.mark.usefixtures("here")
def test_detectors_are_studied_by_ap_and_without_times(shapes, tmp_path, monkeypatch):
    monkeypatch.setitem(RECIPES, "small", detection_job(shapes, tmp_path).recipe)
    out = tmp_path / "study"
    words = ["--attention", "eca", "--out", str(out)]
    assert main(["study", "small", "--data", str(shapes), *words, *SMALL]) == 0
    found = json.loads((out / "study.json").read_text())
    assert (found["score"], found["times"]) == ("AP", None)
    assert [network["name"] for network in found["networks"]] == ["tiny", "tiny eca"]
    assert all(0 <= network["mean"] <= 100 for network in found["networks"])
    assert "Does attention help tiny?" in (out / "study.html").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["cifar-quik"], "unknown recipe 'cifar-quik'; did you mean cifar-quick"),
        (["cifar-quick", "--attention", "ecca"], "unknown attention 'ecca'; did you mean eca"),
        (["cifar-quick", "--seeds", "0"], "seeds 0: should be at least 1"),
        (["finetune"], "which network? Give --model, or --weights that tell it"),
    ],
)
def test_mistakes_are_one_line(words, message, cifar, tmp_path, capsys):
    assert main(["study", *words, "--data", str(cifar), "--out", str(tmp_path / "study")]) == 2
    assert message in capsys.readouterr().err
