"""``recalib sweep`` as it is typed: other people's file, several workers, one line for what is wrong."""

import json
from pathlib import Path

import pytest

from recalib.cli import main

EXAMPLES = Path(__file__).parents[2] / "examples"
FILE = """
program: train.py
method: grid
metric: [{name: accuracy}, {name: latency_ms}]
parameters:
  att: {values: [none, SE]}
  arch: {value: cifar_resnet8}
  batch_size: {value: 16}
"""


@pytest.fixture
def command(cifar, tmp_path):
    """Arguments of a sweep of seconds into ``tmp_path/sweep``."""
    file = tmp_path / "space.yaml"
    file.write_text(FILE)
    return ["sweep", str(file), "--data", str(cifar), "--out", str(tmp_path / "sweep"), "--limit", "60",
            "--epochs", "1", "--holdout", "0.2", "--device", "cpu"]  # fmt: skip


def test_a_sweep_is_run_told_and_drawn(command, tmp_path, capsys):
    assert main([*command, "--json", str(tmp_path / "out.json")]) == 0
    said = capsys.readouterr().out
    assert "program: ignored, recalib trains by itself" in said
    assert "Best of 2: trial" in said
    results = json.loads((tmp_path / "out.json").read_text())
    assert [t["params"]["att"] for t in results["trials"]] == ["none", "SE"]
    assert results["best"]["index"] in results["pareto"]
    assert all(t["values"]["latency_ms"] > 0 and "samples" in t["latency"] for t in results["trials"])
    assert results["trials"][0]["latency"]["latency_overhead"] == 0
    assert main(["report", str(tmp_path / "sweep"), "--out", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text()
    for title in ("Pareto front", "Curves", "Parallel coordinates", "Trials"):
        assert title in page


def test_the_challenges_own_file_is_started(cifar, tmp_path, capsys):
    few = ["--trials", "1", "--limit", "160", "--epochs", "1", "--holdout", "0.2", "--model", "cifar_resnet8"]
    out = tmp_path / "sweep"
    assert main(["sweep", str(EXAMPLES / "sweep.yaml"), "--data", str(cifar), "--out", str(out), *few]) == 0
    assert "program: ignored" in capsys.readouterr().out
    [trial] = json.loads((out / "sweep.json").read_text())["trials"]
    assert trial["state"] == "complete"
    assert set(trial["params"]) == {"att", "optimizer", "batch_size"}


@pytest.mark.slow
def test_workers_on_one_machine_share_the_trials(command, tmp_path):
    assert main([*command, "--jobs", "2", "--json", str(tmp_path / "out.json")]) == 0
    results = json.loads((tmp_path / "out.json").read_text())
    assert [t["state"] for t in results["trials"]] == ["complete", "complete"]
    assert (tmp_path / "sweep" / "worker2.txt").exists()


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (["--trials", "0"], "--trials 0: should be above 0"),
        (["--holdout", "0"], "--holdout 0: trials are compared on training images set aside"),
        (["--recipe", "cifar-papper"], "unknown recipe 'cifar-papper'; did you mean cifar-paper"),
        (["--runtime", "tensorflow"], "unknown runtime 'tensorflow'"),
        (["--data", "/nowhere"], "/nowhere"),
    ],
)
def test_what_is_wrong_is_one_line_before_anything_begins(command, more, line, tmp_path, capsys):
    assert main([*command, *more]) == 2
    said = capsys.readouterr().err
    assert line in said
    assert said.count("\n") == 1
    assert not (tmp_path / "sweep").exists()
