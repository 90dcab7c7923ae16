import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tests.jobs import started_here

from recalib.cli import main
from recalib.runs import read_metrics
from recalib.runs.executor import Here

TINY = ["--model", "cifar_resnet8", "--epochs", "2", "--batch", "20", "--limit", "100", "--device", "cpu"]


@pytest.fixture
def command(cifar, tmp_path):
    """Arguments of a training of seconds into ``tmp_path/NAME``."""
    return lambda name, *more: ["train", "cifar-paper", "--data", str(cifar), "--out", str(tmp_path), "--name", name,
                                *TINY, *more]  # fmt: skip


def process(arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "recalib", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def test_a_recipe_is_trained_and_its_result_written(command, tmp_path, capsys):
    assert main(command("run", "--json", str(tmp_path / "out.json"))) == 0
    result = json.loads((tmp_path / "out.json").read_text())
    assert {"run", "top1", "top5", "loss"} <= set(result)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["recipe"]["lr"] == 0.2
    assert config["preset"] == "cifar-paper"
    assert re.search(r"epoch 1: train loss \d", capsys.readouterr().out)


def test_sigterm_ends_with_0_and_the_line_it_prints_goes_on(command, tmp_path):
    running = process(command("run", "--epochs", "500"))
    rows = tmp_path / "run" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (rows.exists() and rows.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    running.send_signal(signal.SIGTERM)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 0, err
    line = re.search(r"stopped by SIGTERM at epoch (\d+), step (\d+); go on with: recalib (train .* --resume)", out)
    state = torch.load(tmp_path / "run" / "last.pt", weights_only=True)
    assert (state["epoch"], state["step"]) == (int(line[1]), int(line[2]))
    assert state["epoch"] < 499


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["train"], "which recipe? There are cifar-bearpaw"),
        (["train", "cifar-papr"], "unknown recipe 'cifar-papr'; did you mean cifar-paper"),
        (["train", "cifar-paper", "--data", "nowhere"], "nowhere holds no cifar10: there should be a folder"),
        (["train", "--config", "nowhere.json"], "nowhere.json is no configuration"),
        (["train", "cifar-paper", "--normalization", "mine", "--data", "DATA"], "unknown normalization 'mine'"),
        (["train", "cifar-paper", "--model", "resnet57", "--data", "DATA"], "unknown model 'resnet57'"),
        (["train", "cifar-paper", "--attention", "ecaa", "--data", "DATA"], "'ecaa'; did you mean eca"),
        (["train", "cifar-paper", "--track", "nothing", "--data", "DATA"], "unknown tracker 'nothing'"),
    ],
)
def test_a_mistake_is_one_line_and_exit_status_2(argv, message, cifar, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    argv = [str(cifar) if word == "DATA" else word for word in argv]
    assert main([*argv, "--limit", "10", "--device", "cpu"] if "DATA" in str(argv) else argv) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_flag_out_of_range_is_named(capsys):
    assert main(["train", "cifar-paper", "--epochs", "0"]) == 2
    assert "epochs 0: should be at least 1" in capsys.readouterr().err


def test_help_names_the_recipes_and_an_example(capsys):
    with pytest.raises(SystemExit) as end:
        main(["train", "--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert "recalib train cifar-paper --data DIR" in text
    assert "imagenet-ecanet-mobilenetv2" in text


@pytest.mark.slow(reason="two more processes, half a minute")
def test_seeds_run_side_by_side_and_make_a_table(command, tmp_path, capsys):
    assert main(command("run", "--seeds", "2", "--jobs", "2", "--json", str(tmp_path / "out.json"))) == 0
    assert re.search(r"\| cifar_resnet8 \| baseline \| 2 \| \d+\.\d\d ± \d+\.\d\d \|", capsys.readouterr().out)
    (row,) = json.loads((tmp_path / "out.json").read_text())["table"]
    ends = [
        json.loads((tmp_path / f"run-seed{seed}" / "metrics.jsonl").read_text().splitlines()[-1])["top1"]
        for seed in (0, 1)
    ]
    assert row["top1"] == pytest.approx(sum(ends) / 2)


def test_of_two_processes_one_talks_and_the_other_killed_is_named_in_a_line_that_says_how_to_go_on(command, tmp_path):
    running = process(command("run", "--epochs", "500", "--devices", "2"))
    deadline = time.monotonic() + 200
    while len(read_metrics(tmp_path / "run")) < 2 and time.monotonic() < deadline and running.poll() is None:
        time.sleep(0.05)
    (worker,) = map(int, Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split())
    os.kill(worker, signal.SIGKILL)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 1, out + err
    assert out.count("epoch 0: train loss") == 1
    lines = [line for line in err.splitlines() if line.startswith("recalib:")]
    on = f"go on with: recalib train --config {tmp_path}/run/config.json --resume"
    assert lines == [f"recalib: process 1 of 2 (pid {worker}, ended by signal 9) died; {on}"]
    assert "Traceback" not in err


def test_several_modules_in_one_command_make_a_table_against_the_baseline(command, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Here, "start", started_here)
    flags = ("--attention", "none", "eca", "--epochs", "1", "--json", str(tmp_path / "out.json"))
    assert main(command("run", *flags)) == 0
    said = capsys.readouterr().out
    assert "| cifar_resnet8 | baseline | 1 |" in said
    assert "| cifar_resnet8 | eca | 1 |" in said
    assert "trained on 100 of 50,000 images" in said
    rows = json.loads((tmp_path / "out.json").read_text())["table"]
    assert [row["attention"] for row in rows] == ["baseline", "eca"]
    assert {folder.name for folder in tmp_path.iterdir() if folder.is_dir()} == {"run-baseline", "run-eca"}
    longer = ["train", "--from", str(tmp_path / "run-eca"), "--epochs", "2"]
    assert main(longer) == 0
    assert "going on from epoch 1 of 2, step 0" in capsys.readouterr().out


def test_a_run_that_was_moved_is_gone_on_with_where_it_is(command, tmp_path, capsys):
    assert main(command("run", "--epochs", "1")) == 0
    (tmp_path / "run").rename(tmp_path / "moved")
    assert main(["train", "--config", str(tmp_path / "moved" / "config.json"), "--resume"]) == 0
    assert "was finished before, 1 epochs: top-1" in (said := capsys.readouterr().out)
    assert str(tmp_path / "moved") in said
