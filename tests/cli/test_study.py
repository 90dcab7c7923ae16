"""``recalib study`` from a recipe to a page."""

import json
import os
import signal

import pytest
from tests.jobs import started_here

from recalib.cli import main
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
             str(out), "--accelerator", "cpu"]  # fmt: skip
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
