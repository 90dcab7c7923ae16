"""``recalib study`` from a recipe to a page."""

import json

import pytest
from tests.jobs import started_here

from recalib.cli import main
from recalib.training import repeat


def test_a_study_trains_measures_and_draws(cifar, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(repeat, "_start", started_here)
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
